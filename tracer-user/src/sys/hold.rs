//! A thread of another process, held for a moment by ptrace. It goes on when this is dropped, and also when this process is killed.
//!
//! In: the number of a thread. Out: its registers. It is interrupted, not signalled: neither it nor its parent learns of it. All calls must come
//! from the thread that seized it. A signal that reaches it meanwhile is handed on when it goes on.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

/// Registers beyond the general ones, in the form of the instruction XSAVE. Processors with matrices have 11 KiB.
const NT_X86_XSTATE: usize = 0x202;
const NT_PRSTATUS: usize = 1;
const MAX_REGISTER_BYTES: usize = 64 << 10;
/// Where the stack pointer is in the general registers (`user_regs_struct`).
const STACK_POINTER: usize = 19 * 8;
/// How long a thread that cannot be interrupted yet is waited for when it is let go.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_micros(50);

/// A thread that is held, or about to be.
#[derive(Debug)]
pub struct HeldThread {
    id: i32,
    is_stopped: bool,
    has_ended: bool,
    /// What it was stopped by: handed on to it.
    signal: i32,
}

impl HeldThread {
    /// Begins to hold a thread; `None` when it has ended.
    pub fn seize(id: u32) -> io::Result<Option<Self>> {
        let id = id.cast_signed();
        match request(libc::PTRACE_SEIZE, id, 0, 0) {
            Err(Errno::ESRCH) => return Ok(None),
            other => other?,
        }
        let held = Self { id, is_stopped: false, has_ended: false, signal: 0 };
        match request(libc::PTRACE_INTERRUPT, id, 0, 0) {
            Ok(()) | Err(Errno::ESRCH) => Ok(Some(held)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it stands still, or has ended.
    pub fn is_still(&mut self) -> io::Result<bool> {
        if self.is_stopped || self.has_ended {
            return Ok(true);
        }
        let mut status = 0;
        // SAFETY: the call writes to the integer passed, which lives across it.
        let told = unsafe { libc::waitpid(self.id, &raw mut status, libc::__WALL | libc::WNOHANG) };
        match Errno::result(told) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(Errno::ECHILD) => {
                self.has_ended = true;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        }
        if libc::WIFSTOPPED(status) {
            self.is_stopped = true;
            // An event is ptrace's own stop; without one, a signal is being delivered.
            let is_event = status >> 16 != 0;
            self.signal = if is_event { 0 } else { libc::WSTOPSIG(status) };
        } else {
            self.has_ended = true;
        }
        Ok(true)
    }

    /// Its stack pointer and all its registers, those that move 16 bytes and more included; `None` when it has ended.
    pub fn registers(&self) -> io::Result<Option<(u64, Vec<u8>)>> {
        if !self.is_stopped {
            return Ok(None);
        }
        let mut all = self.register_set(NT_PRSTATUS)?;
        let stack = all.get(STACK_POINTER..).and_then(<[u8]>::first_chunk).copied();
        let Some(stack) = stack else { return Err(Errno::EIO.into()) };
        all.extend(self.register_set(NT_X86_XSTATE)?);
        Ok(Some((u64::from_le_bytes(stack), all)))
    }

    fn register_set(&self, set: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0_u8; MAX_REGISTER_BYTES];
        let mut place = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        request(libc::PTRACE_GETREGSET, self.id, set, (&raw mut place) as usize)?;
        bytes.truncate(place.iov_len);
        Ok(bytes)
    }
}

impl Drop for HeldThread {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(false) = self.is_still() {
            if Instant::now() >= deadline {
                break;
            }
            thread::sleep(PAUSE);
        }
        if self.is_stopped
            && let Err(error) = request(libc::PTRACE_DETACH, self.id, 0, self.signal as usize)
        {
            // It was killed while it was held.
            tracing::debug!("thread {} is not let go: {error}", self.id);
        }
    }
}

fn request(what: libc::c_uint, id: i32, address: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: of the requests made here only PTRACE_GETREGSET writes memory: as much as the iovec at `data` says, which the caller owns.
    let result = unsafe { libc::ptrace(what, id, address, data) };
    Errno::result(result).map(drop)
}
