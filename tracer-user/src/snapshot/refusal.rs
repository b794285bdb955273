//! Why a Go process could not be read, for a person.

use nix::errno::Errno;

use crate::fault::{Fault, Status};
use crate::golang::GoError;
use crate::target::Pid;

/// `what` is what cannot be done, up to the process's number.
pub(super) fn fault(what: &str, pid: Pid, error: &GoError) -> Fault {
    let what = format!("{what} {pid}");
    let why = error.to_string();
    match error {
        GoError::NotGo => Fault::new(
            Status::NoTarget,
            what,
            why,
            format!("only Go programs know what they hold; trace it: outlive attach {pid}"),
        ),
        GoError::NoVersion | GoError::UnknownVersion { .. } => Fault::new(
            Status::NoTarget,
            what,
            why,
            "use a release of outlive that knows it, or the program's own /debug/pprof",
        ),
        GoError::Refused(_) => Fault::new(
            Status::Failed,
            what,
            why,
            "use the program's own /debug/pprof, and tell the authors how it was built (go version -m FILE)",
        ),
        GoError::Memory(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ESRCH) => Fault::new(
                Status::NoTarget,
                what,
                "it has ended, or runs another program now",
                "give the PID of a running process",
            ),
            Some(Errno::EPERM | Errno::EACCES) => Fault::new(
                Status::NotAllowed,
                what,
                why,
                "run outlive with sudo, or give it CAP_SYS_PTRACE",
            ),
            _ => Fault::new(
                Status::Failed,
                what,
                why,
                "check that the process still runs, and try again",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_status() {
        let memory = |errno: Errno| GoError::Memory(errno.into());
        for (error, status) in [
            (GoError::NotGo, Status::NoTarget),
            (GoError::NoVersion, Status::NoTarget),
            (GoError::Refused("a reason".into()), Status::Failed),
            (memory(Errno::ESRCH), Status::NoTarget),
            (memory(Errno::EPERM), Status::NotAllowed),
            (memory(Errno::EFAULT), Status::Failed),
        ] {
            assert_eq!(fault("cannot read", Pid(7), &error).status, status, "{error}");
        }
    }
}
