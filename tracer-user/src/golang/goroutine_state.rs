//! What a goroutine is doing, by the number that the runtime keeps.

/// Set in the status while the garbage collector scans the stack.
pub(super) const SCAN: u32 = 0x1000;
/// States of a goroutine that is none any more, or not yet.
pub(super) const IDLE: u32 = 0;
pub(super) const DEAD: u32 = 6;
pub(super) const EXTRA: u32 = 11;

/// What a goroutine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Ready to run.
    Runnable,
    /// Running.
    Running,
    /// In a system call or in C code.
    Syscall,
    /// Waiting: see [`Goroutine::waits_for`](super::goroutines::Goroutine::waits_for).
    Waiting,
    /// Its stack is being moved.
    CopyingStack,
    /// Stopped to let others run.
    Preempted,
    /// Waiting for what cannot happen, as the runtime itself found out (since Go 1.26).
    Leaked,
}

impl State {
    pub(super) fn of(status: u32) -> Option<Self> {
        Some(match status & !SCAN {
            1 => Self::Runnable,
            2 => Self::Running,
            3 => Self::Syscall,
            4 => Self::Waiting,
            8 => Self::CopyingStack,
            9 => Self::Preempted,
            10 => Self::Leaked,
            _ => return None,
        })
    }

    /// The runtime's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting => "waiting",
            Self::CopyingStack => "copystack",
            Self::Preempted => "preempted",
            Self::Leaked => "leaked",
        }
    }

    /// Whether its stack stays as it is for now.
    pub(super) fn has_stack(self) -> bool {
        !matches!(self, Self::Running | Self::CopyingStack)
    }
}

/// Functions of the runtime that start the program's own goroutines.
const PROGRAMS_OWN: [&str; 3] = ["runtime.main", "runtime.corostart", "runtime.handleAsyncEvent"];

/// Whether a function that starts a goroutine is the runtime's own, as Go itself tells them apart.
pub fn is_system(start: &str) -> bool {
    start.starts_with("runtime.") && !PROGRAMS_OWN.contains(&start)
}
