//! A program that was started again.
//!
//! In: who the process was. Out: the process that came after it: the same program in the same container, started later.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{Pid, Target};

/// Who a process was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its PID.
    pub pid: Pid,
    exe: PathBuf,
    container_id: Option<String>,
    start_ticks: u64,
}

impl Target {
    /// What is known of it when it has ended.
    pub fn identity(&self) -> Identity {
        Identity {
            pid: self.pid,
            exe: self.exe.clone(),
            container_id: self.container_id.clone(),
            start_ticks: self.start_ticks,
        }
    }
}

/// The first process that came after one, and is none of these. One that is just being started, or that may not be looked into, is none
/// yet.
pub fn find(before: &Identity, others: &BTreeSet<Pid>) -> Option<Target> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<Target> = pids
        .map(Pid)
        .filter(|pid| *pid != before.pid && !others.contains(pid))
        .filter(|pid| program(*pid).is_some_and(|exe| exe == before.exe))
        .filter_map(|pid| Target::open(pid).ok())
        .filter(|target| {
            target.container_id == before.container_id && target.start_ticks > before.start_ticks
        })
        .collect();
    found.sort_by_key(|target| target.start_ticks);
    found.into_iter().next()
}

/// Whether there is a process that runs a program: one that has ended and waits for its parent runs none.
pub fn is_running(pid: Pid) -> bool {
    program(pid).is_some()
}

fn program(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// What no two boots of a host share; empty when the kernel does not tell.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn start(program: &std::path::Path) -> Child {
        let mut command = Command::new(program);
        command.arg("60").stdin(Stdio::null()).spawn().expect("sleep starts")
    }

    #[test]
    fn the_first_later_process_of_a_program_is_its_successor() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("sleeper");
        fs::copy("/bin/sleep", &program).expect("copied");
        let mut first = start(&program);
        let before = Target::open(Pid(first.id())).expect("opened").identity();
        assert!(find(&before, &BTreeSet::new()).is_none(), "it is not its own");
        first.kill().and_then(|()| first.wait()).expect("ended");
        // Starts are told in hundredths of a second.
        let mut later = loop {
            let mut later = start(&program);
            let target = Target::open(Pid(later.id()));
            if target.is_ok_and(|target| target.start_ticks > before.start_ticks) {
                break later;
            }
            later.kill().and_then(|()| later.wait()).expect("ended");
        };
        let pid = Pid(later.id());
        let mut found = None;
        while found.is_none() {
            found = find(&before, &BTreeSet::new());
        }
        assert_eq!(found.map(|target| target.pid), Some(pid));
        assert!(find(&before, &BTreeSet::from([pid])).is_none(), "it is another's already");
        later.kill().and_then(|()| later.wait()).expect("ended");
    }
}
