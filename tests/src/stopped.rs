//! A process that is stopped as job control does it, so that what is said of it at two moments can be compared.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::{PATIENCE, await_condition};

/// Goes on when this is dropped.
pub struct Stopped {
    pid: u32,
}

impl Stopped {
    /// Stops it; returns once it has.
    pub fn new(pid: u32) -> Self {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP).expect("it runs");
        let stopped = Self { pid };
        let state = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
            let after = stat.rsplit(") ").next().unwrap_or_default().to_owned();
            after.starts_with('T').then_some(())
        };
        assert!(await_condition(PATIENCE, state).is_some(), "{pid} does not stop");
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A process that has ended is not to go on.
        kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGCONT).ok();
    }
}
