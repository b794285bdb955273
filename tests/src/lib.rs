//! End-to-end tests: the real binary, on real programs, on the real kernel.
//!
//! | module | what it is |
//! |---|---|
//! | [`patience`] | bounded waits for a condition |
//! | [`code`] | the code of a running process, compared with its file |
//! | [`stopped`] | a process that is stopped for a while |
//! | [`capture`] | the output of a program, kept and awaited |
//! | [`compiler`] | builds the programs of `tests/workloads`, cached under `target/workloads` |
//! | [`crates`] | builds the workloads that are crates, under `target/crates` |
//! | [`kernel`] | what the running kernel offers by its version |
//! | [`debug_info`] | programs whose debug information is in another file |
//! | [`debug_server`] | a debuginfod server on loopback |
//! | [`counts`] | what a workload says it allocated and freed |
//! | [`workload`] | a running workload, and the conversation with it |
//! | [`outlive`] | a running `outlive`, and how it ended |
//! | [`task_page`] | the commands of a page of `docs/tasks`, run |
//! | [`terminal`] | a program on a terminal of its own, keys and screen |
//! | [`report`] | a JSON report, and what tests assert of it |
//! | [`listing`] | what each line of a function holds, as outlive and as pprof say |
//! | [`root_directory`] | a root directory that a program runs in |
//! | [`browser`] | a page in a real browser |
//! | [`pprof`] | a profile in pprof's format, the rules of its readers, and `go tool pprof` |
//! | [`golang`] | Go programs, and what they tell of themselves |
//!
//! A test never sleeps until something has probably happened: it starts a workload, attaches, awaits the line on
//! stderr that says all probes are in place, says `go`, awaits the workload's own counts, stops the tracer, and
//! compares exact numbers. A report without events can not pass, because no workload's counts are zero.
//!
//! The tests need root, a C and a C++ compiler, for Go what `cargo xtask test golang` fetches, and the binary:
//! `$OUTLIVE_BIN`, else the release build, else the debug build.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test's harness ends the test by panicking"
)]

pub mod allocators;
pub mod browser;
pub mod capture;
pub mod code;
pub mod compiler;
pub mod counts;
pub mod crates;
pub mod debug_info;
pub mod debug_server;
pub mod golang;
pub mod kernel;
pub mod listing;
pub mod outlive;
pub mod patience;
pub mod pprof;
pub mod report;
pub mod root_directory;
pub mod stopped;
pub mod task_page;
pub mod terminal;
pub mod workload;
