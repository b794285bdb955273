//! Finding a process and checking that it can be traced, before anything is attached.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;

use super::Pid;
use super::container::container_id;
use super::elf::{Class, Elf, ElfError};
use super::proc_dir::ProcDir;
use super::status::Status;
use crate::fault::{Fault, Status as Exit};
use crate::sys::pidfd;

/// What kind of program a process runs, as far as tracing it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Machine code with a C library's or its own allocator.
    Native,
    /// A Go program.
    Go,
}

impl Kind {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Go => "go",
        }
    }
}

/// A process that can be traced.
#[derive(Debug)]
pub struct Target {
    /// Its PID.
    pub pid: Pid,
    /// Its PID in its own (innermost) PID namespace.
    pub namespaced_pid: Pid,
    /// Name of its main thread.
    pub comm: String,
    /// Path of its program as it sees it, without ` (deleted)`.
    pub exe: PathBuf,
    /// Its program has been deleted or replaced since it started.
    pub exe_deleted: bool,
    /// Its program, open.
    pub exe_file: Arc<File>,
    /// What its program says about itself.
    pub exe_elf: Elf,
    /// How it is traced.
    pub kind: Kind,
    /// Container it runs in, 64 hexadecimal digits.
    pub container_id: Option<String>,
    /// Start, clock ticks since boot: with the PID, this tells processes apart for good.
    pub start_ticks: u64,
    /// User it runs as.
    pub uid: u32,
    /// Its directory in `/proc`, held open.
    pub process: Arc<ProcDir>,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

impl Target {
    /// Finds the process and checks that it can be traced.
    ///
    /// Fails with [`Exit::NoTarget`] when there is none, it has ended, it is a thread or part of the kernel, or it is a
    /// 32-bit program (nothing in it that this tracer can hook, whatever the rights); with [`Exit::NotAllowed`] when the
    /// caller may not look into it; with [`Exit::Usage`] when it is outlive itself.
    pub fn open(pid: Pid) -> Result<Self, Fault> {
        if pid.0 == std::process::id() {
            return Err(Fault::new(
                Exit::Usage,
                format!("cannot trace process {pid}"),
                "it is outlive itself",
                "give the PID of another process",
            ));
        }
        let process = ProcDir::open(pid).map_err(|error| cannot_find(pid, &error))?;
        let status = read_status(&process).map_err(|_| gone(pid))?;
        check_status(pid, &status)?;
        let pidfd = pidfd::open(pid.0).map_err(|error| cannot_hold(pid, &error))?;
        let (exe, exe_deleted) =
            read_exe(&process).map_err(|error| cannot_read(pid, &status, &error))?;
        let exe_file =
            File::open(process.path("exe")).map_err(|error| cannot_read(pid, &status, &error))?;
        // The same right as reading the mappings, which everything else needs.
        File::open(process.path("maps")).map_err(|error| cannot_read(pid, &status, &error))?;
        let exe_elf = Elf::read(&exe_file).map_err(|error| not_a_program(pid, &exe, &error))?;
        check_class(pid, &exe_elf)?;
        Ok(Self {
            pid,
            namespaced_pid: Pid(status.namespaced_pid),
            comm: process.read_text("comm").unwrap_or_default().trim_end().to_owned(),
            exe,
            exe_deleted,
            exe_file: Arc::new(exe_file),
            kind: if exe_elf.is_go { Kind::Go } else { Kind::Native },
            exe_elf,
            container_id: process.read_text("cgroup").ok().and_then(|text| container_id(&text)),
            start_ticks: status.start_ticks,
            uid: status.uid,
            process: Arc::new(process),
            pidfd,
        })
    }

    /// Whether it is still running the program it was opened with: not ended, and no other program since.
    pub fn is_same_program(&self) -> bool {
        read_exe(&self.process).is_ok_and(|(exe, _)| exe == self.exe)
    }
}

fn read_status(process: &ProcDir) -> io::Result<Status> {
    Ok(Status::parse(&process.read_text("status")?, &process.read_text("stat")?))
}

/// Path of the program, and whether it has been deleted.
fn read_exe(process: &ProcDir) -> io::Result<(PathBuf, bool)> {
    const DELETED: &str = " (deleted)";
    let path = process.read_link("exe")?;
    match path.to_str().and_then(|text| text.strip_suffix(DELETED)) {
        Some(text) => Ok((PathBuf::from(text), true)),
        None => Ok((path, false)),
    }
}

fn check_status(pid: Pid, status: &Status) -> Result<(), Fault> {
    let refuse = |why: String, remedy: String| {
        Err(Fault::new(Exit::NoTarget, format!("cannot trace process {pid}"), why, remedy))
    };
    if status.is_kernel_thread {
        return refuse(
            "it is a kernel thread and has no memory of its own".into(),
            "give the PID of a program".into(),
        );
    }
    if status.tgid != pid.0 {
        return refuse(
            format!("it is a thread of process {}", status.tgid),
            format!("trace the process: outlive attach {}", status.tgid),
        );
    }
    if status.is_zombie {
        return refuse(
            "it has ended, and its parent has not taken notice (a zombie)".into(),
            "give the PID of a running process".into(),
        );
    }
    Ok(())
}

fn check_class(pid: Pid, elf: &Elf) -> Result<(), Fault> {
    if elf.class == Class::Bits64 {
        return Ok(());
    }
    Err(Fault::new(
        Exit::NoTarget,
        format!("cannot trace process {pid}"),
        "it runs a 32-bit program, and outlive hooks 64-bit ones only",
        "trace a 64-bit build of the program",
    ))
}

/// There is no directory of the process: there is no process, or it is hidden (`hidepid`).
fn cannot_find(pid: Pid, error: &io::Error) -> Fault {
    let hidden = i32::try_from(pid.0).ok().filter(|number| *number > 0).is_some_and(|number| {
        let there = nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), None);
        matches!(there, Ok(()) | Err(Errno::EPERM))
    });
    let what = format!("cannot trace process {pid}");
    if hidden || error.kind() == ErrorKind::PermissionDenied {
        let why = "/proc does not show it to this user (mounted with hidepid)";
        return Fault::new(Exit::NotAllowed, what, why, "run outlive with sudo");
    }
    if error.kind() == ErrorKind::NotFound {
        let why = "there is no process with this PID";
        return Fault::new(Exit::NoTarget, what, why, "see the PIDs there are: ps -e");
    }
    let remedy = "see that /proc is mounted, and that descriptors are left (ulimit -n)";
    Fault::new(Exit::Failed, what, format!("/proc/{pid} cannot be opened: {error}"), remedy)
}

fn gone(pid: Pid) -> Fault {
    Fault::new(
        Exit::NoTarget,
        format!("cannot trace process {pid}"),
        "it has just ended",
        "start it with: outlive run -- COMMAND",
    )
}

fn cannot_hold(pid: Pid, error: &io::Error) -> Fault {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ESRCH) => gone(pid),
        Some(Errno::ENOSYS) => Fault::new(
            Exit::NotAllowed,
            format!("cannot trace process {pid}"),
            "the kernel has no process handles (pidfd_open)",
            "use Linux 5.15 or newer",
        ),
        _ => Fault::new(
            Exit::Failed,
            format!("cannot trace process {pid}"),
            format!("no handle on it: {error}"),
            "see that descriptors are left (ulimit -n), and that seccomp allows pidfd_open",
        ),
    }
}

fn cannot_read(pid: Pid, status: &Status, error: &io::Error) -> Fault {
    if error.kind() != ErrorKind::PermissionDenied {
        return gone(pid);
    }
    Fault::new(
        Exit::NotAllowed,
        format!("cannot trace process {pid}"),
        format!(
            "it belongs to user {}, or holds rights of its own, and this user may not look into it",
            status.uid
        ),
        "run outlive with sudo, or give it CAP_SYS_PTRACE, CAP_BPF and CAP_PERFMON",
    )
}

fn not_a_program(pid: Pid, exe: &std::path::Path, error: &ElfError) -> Fault {
    Fault::new(
        Exit::NoTarget,
        format!("cannot trace process {pid}"),
        format!("its program {} cannot be read: {error}", exe.display()),
        "trace a process that runs an intact ELF program",
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn status_of(pid: u32) -> Exit {
        Target::open(Pid(pid)).err().map_or(Exit::Success, |fault| fault.status)
    }

    /// A child that sleeps; ended when dropped.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(program: &std::path::Path) -> Self {
            let child = Command::new(program).arg("60").stdin(Stdio::null()).spawn();
            Self(child.expect("sleep starts"))
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ended = self.0.kill().and_then(|()| self.0.wait());
        }
    }

    #[test]
    fn opens_a_running_program_and_describes_it() {
        let sleeper = Sleeper::start(std::path::Path::new("/bin/sleep"));
        let target = Target::open(Pid(sleeper.0.id())).expect("can be traced");
        assert_eq!((target.comm.as_str(), target.kind), ("sleep", Kind::Native));
        assert!(target.exe.ends_with("sleep") && !target.exe_deleted);
        assert!(target.start_ticks > 0 && target.is_same_program());
        let pidfd_polls = |fd: &OwnedFd| {
            File::open(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(fd))).is_ok()
        };
        assert!(pidfd_polls(&target.pidfd));
    }

    #[test]
    fn a_deleted_program_is_opened_all_the_same() {
        let dir = tempfile::tempdir().expect("directory");
        let program = dir.path().join("sleep (deleted) it is not");
        std::fs::copy("/bin/sleep", &program).expect("copy");
        let sleeper = Sleeper::start(&program);
        std::fs::remove_file(&program).expect("deleted");
        let target = Target::open(Pid(sleeper.0.id())).expect("can be traced");
        assert!(target.exe_deleted);
        assert_eq!(target.exe, program);
    }

    #[test]
    fn refuses_what_is_no_process_to_trace_with_the_right_status() {
        assert_eq!(status_of(std::process::id()), Exit::Usage);
        assert_eq!(status_of(0), Exit::NoTarget);
        assert_eq!(status_of(u32::MAX), Exit::NoTarget);
        // kthreadd, where the PID namespace is the initial one.
        if std::fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm.trim() == "kthreadd") {
            assert_eq!(status_of(2), Exit::NoTarget);
        }
    }

    #[test]
    fn a_zombie_is_refused() {
        let mut child = Command::new("/bin/true").spawn().expect("starts");
        let pid = child.id();
        while !std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .expect("not reaped")
            .contains(") Z ")
        {
            std::thread::yield_now();
        }
        let fault = Target::open(Pid(pid)).expect_err("ended");
        assert!(fault.status == Exit::NoTarget && fault.why.contains("zombie"));
        child.wait().expect("reaped");
    }

    #[test]
    fn a_thread_is_refused_and_its_process_named() {
        let fault = std::thread::spawn(|| {
            Target::open(Pid(nix::unistd::gettid().as_raw().unsigned_abs())).expect_err("a thread")
        });
        let fault = fault.join().expect("no panic");
        assert_eq!(fault.status, Exit::NoTarget);
        assert!(fault.remedy.contains(&std::process::id().to_string()));
    }
}
