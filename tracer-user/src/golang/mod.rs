//! Reading a Go process from outside: no probe, no stop, no symbols, and no help from the program.
//!
//! In: a [`Target`](crate::target::Target). Out: what its runtime's heap profiler knows, the sampled objects that live, and names for
//! its code. Where things are is taken from the program's own tables (`pclntab`, moduledata, the code of a few runtime functions), from its
//! debug information if it has any, and from a table of structure layouts by Go version ([`layouts.json`](layout)); every layout is checked
//! against the live process before it is believed, and what fails is refused with its reason.
//!
//! All that is read was chosen by the target: lists may be cyclic, lengths absurd. Work is bounded, and a limit that was reached is told.

pub mod anchors;
pub mod buckets;
mod bytes;
pub mod code;
pub mod debug_info;
mod goroutine_state;
pub mod goroutines;
pub mod heap;
pub mod holdings;
pub mod hooks;
pub mod layout;
pub mod moduledata;
pub mod never_wake;
pub mod pclntab;
pub mod process;
pub mod profiling;
pub mod roots;
pub mod specials;
pub mod types;
pub mod version;

use std::io;

pub use process::GoProcess;

/// Why a Go process, or a part of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GoError {
    /// No Go runtime in the program or in a library that it has mapped.
    #[error("neither its program nor a library that it has mapped was built by the Go toolchain")]
    NotGo,
    /// The file says nothing of its version.
    #[error("its file does not say which version of Go built it")]
    NoVersion,
    /// There is no table of layouts for this version.
    #[error(
        "it was built with {found}, and outlive knows the structures of Go {oldest} to {newest}; those of a newer one only by debug information, which it has not"
    )]
    UnknownVersion {
        /// What the file says.
        found: String,
        /// The oldest version known.
        oldest: String,
        /// The newest one.
        newest: String,
    },
    /// Something is not where, or not what, this version of Go has it.
    #[error("{0}")]
    Refused(String),
    /// Its memory cannot be read.
    #[error("its memory cannot be read: {0}")]
    Memory(#[from] io::Error),
}

impl GoError {
    /// The process has ended meanwhile.
    pub fn gone() -> Self {
        Self::Memory(nix::errno::Errno::ESRCH.into())
    }

    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }
}
