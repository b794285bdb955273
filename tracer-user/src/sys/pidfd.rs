//! A handle on a process that does not pass to another one when its number is used again.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Opens a handle on the process `pid`; it becomes readable when the process has ended.
///
/// Linux 5.3 or newer. Fails with `ESRCH` when there is none, with `EINVAL` when `pid` is a thread and no process.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers and touches no memory of this process.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0 as libc::c_long) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to this process, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_a_handle_and_number_zero_has_none() {
        assert!(open(std::process::id()).is_ok());
        assert!(open(0).is_err());
    }
}
