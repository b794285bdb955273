//! Starting a program that does nothing until it is told to: through ptrace, until its libraries are loaded.
//!
//! All calls must come from the thread that started the program: ptrace belongs to a thread.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// A child of this process that is stopped by ptrace.
#[derive(Debug)]
pub struct StoppedChild {
    pid: Pid,
}

/// Why a running child stopped again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the entry or the exit of a system call, made by the instruction before this address.
    SystemCall {
        /// Instruction pointer.
        instruction: u64,
    },
    /// It has ended.
    Ended,
}

impl StoppedChild {
    /// Starts a program and stops it before its first instruction.
    pub fn start(program: &OsString, arguments: &[OsString]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        let ask_for_trace = || ptrace::traceme().map_err(io::Error::from);
        // SAFETY: the closure runs in the child between fork and exec and makes one system call.
        unsafe { command.pre_exec(ask_for_trace) };
        let child = command.spawn()?;
        let pid = Pid::from_raw(child.id() as i32);
        match waitpid(pid, None)? {
            WaitStatus::Stopped(..) => {}
            _ => return Err(io::Error::other("it ended before its first instruction")),
        }
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options)?;
        Ok(Self { pid })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Lets it run to the next entry or exit of a system call. Signals are handed on.
    pub fn run_to_system_call(&self) -> io::Result<Stop> {
        let mut signal = None;
        loop {
            match ptrace::syscall(self.pid, signal) {
                Err(Errno::ESRCH) => return Ok(Stop::Ended),
                other => other?,
            }
            match waitpid(self.pid, None)? {
                WaitStatus::PtraceSyscall(_) => {
                    let registers = ptrace::getregs(self.pid)?;
                    return Ok(Stop::SystemCall { instruction: registers.rip });
                }
                WaitStatus::Stopped(_, stopped_by) => signal = handed_on(stopped_by),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(Stop::Ended),
                _ => signal = None,
            }
        }
    }

    /// Lets it run freely.
    pub fn release(self) -> io::Result<()> {
        match ptrace::detach(self.pid, None) {
            // It has ended meanwhile: whoever waits for it will learn how.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// ptrace's own stop is not for the program.
fn handed_on(signal: Signal) -> Option<Signal> {
    (signal != Signal::SIGTRAP).then_some(signal)
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
}

/// Waits for a child to end.
pub fn wait_for_end(pid: u32) -> io::Result<Ending> {
    loop {
        match waitpid(Pid::from_raw(pid as i32), None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(Ending::Exited(status)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Ending::Killed(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Hands a signal on to a process.
pub fn send_signal(pid: u32, signal: i32) -> io::Result<()> {
    let signal = Signal::try_from(signal)?;
    nix::sys::signal::kill(Pid::from_raw(pid as i32), signal).map_err(io::Error::from)
}
