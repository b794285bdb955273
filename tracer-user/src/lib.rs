//! outlive: names the allocations that outlive their welcome in a running process.
//!
//! The modules stand in the order that data flows; each imports only those above it, and `tracer-common`
//! (`cargo xtask ci` checks it).
//!
//! | module | in | out |
//! |---|---|---|
//! | [`fault`] | what went wrong | what, why, remedy, exit status |
//! | [`units`] | text and numbers | sizes, durations |
//! | [`sys`] | | every system call and every `unsafe` |
//! | [`target`] | a PID | a checked process: its modules, rights, identity |
//! | [`golang`] | a process | a Go runtime's heap profile, sampled objects, code |
//! | [`allocators`] | modules | functions to hook |
//! | [`unwind`] | `.eh_frame` of modules | tables that kernel programs walk stacks by |
//! | [`probes`] | functions | where exactly to probe, and the links |
//! | [`collector`] | the ring buffer | typed events, loss |
//! | [`governor`] | probe hits, CPU times | what tracing costs, and what to do about it |
//! | [`ledger`] | events | outstanding allocations by call site, with intervals |
//! | [`symbolise`] | addresses | functions, files, lines |
//! | [`report`] | all of it | text, JSON |
//! | [`recording`] | reports, one after the other | one file, and the report of any of its moments |
//! | [`snapshot`] | a Go process | a report of an instant |
//! | [`goroutines`] | a Go process | what its goroutines do, by creation site |
//! | [`trace`] | targets | a report now and then: the pipeline put together |
//! | [`top`] | reports, keys | a live view in the terminal |
//! | [`doctor`] | host and process | findings with remedies |
//! | [`cli`] | the command line | an exit status |
//! | `hostile` | bytes | every parser fed with them: for fuzzing and tests, not in the product |

pub mod allocators;
pub mod cli;
pub mod collector;
pub mod doctor;
pub mod fault;
pub mod golang;
pub mod goroutines;
pub mod governor;
#[cfg(any(test, feature = "fuzzing"))]
pub mod hostile;
pub mod ledger;
pub mod probes;
pub mod recording;
pub mod report;
pub mod snapshot;
pub mod symbolise;
pub mod sys;
pub mod target;
pub mod top;
pub mod trace;
pub mod units;
pub mod unwind;
