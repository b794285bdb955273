//! Go programs, and what they tell of themselves.
//!
//! | module | what it is |
//! |---|---|
//! | [`toolchains`] | the releases of Go that `cargo xtask test golang` fetched |
//! | [`build`] | builds the programs of `tests/workloads/go` by a release, in a way |
//! | [`workload`] | a running one, and the conversation with it |
//! | [`server`] | a server of Debian's packages, running in a root directory of its own |
//! | [`endpoint`] | where a program serves its own profiles |
//! | [`profile`] | its own heap profile, as `/debug/pprof/heap` serves it |
//! | [`goroutines`] | its own goroutines, as `/debug/pprof/goroutine` serves them |
//! | [`claims`] | what a report of `outlive` says, in the form of a profile |

pub mod build;
pub mod claims;
pub mod endpoint;
pub mod goroutines;
pub mod profile;
pub mod server;
pub mod toolchains;
pub mod workload;
