//! What a person is told when something cannot be done: what, why, and the remedy, one line each, and an exit status.

use std::fmt;

/// The exit status of the program (`docs/exit-status.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// All went well.
    Success = 0,
    /// Something failed while running.
    Failed = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// This host, or the rights of the caller, do not allow it.
    NotAllowed = 3,
    /// The target is not there, has gone, or has nothing in it to trace.
    NoTarget = 4,
    /// Finished, but more was lost than `--max-loss` allows.
    TooMuchLost = 5,
    /// A threshold or a verdict was exceeded.
    Exceeded = 10,
}

/// A failure that a person can act on.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Fault {
    /// The exit status it leads to.
    pub status: Status,
    /// What cannot be done.
    pub what: String,
    /// Why not.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    /// A failure with all that a person needs.
    pub fn new(
        status: Status,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { status, what: what.into(), why: why.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\n  why: {}\n  do:  {}", self.what, self.why, self.remedy)
    }
}
