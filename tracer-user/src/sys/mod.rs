//! Every system call that no kept library offers, and every `unsafe` of this crate.
//!
//! In: typed values. Out: typed values and `io::Error`; file descriptors are owned.

#![expect(unsafe_code, reason = "system calls; every block says why it is sound")]

pub mod array_memory;
pub mod bpf;
pub mod hold;
pub mod host_names;
pub mod mapping_watch;
pub mod own_calls;
pub mod perf;
pub mod pidfd;
pub mod pod;
pub mod readiness;
pub mod start;
pub mod terminal;
pub mod usage;
