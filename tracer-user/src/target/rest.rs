//! Whether a process was at rest for a while: none of its threads ran, so that its memory did not change.
//!
//! In: what the kernel counts of each thread. Out: [`Rest`]s, of which two that are equal have nothing between them. Nothing is stopped.

use super::proc_dir::ProcDir;

/// Most threads that are looked at.
const MAX_THREADS: usize = 100_000;
/// Asleep, and woken by what it waits for or by a signal.
const ASLEEP: &str = "S";

/// What the kernel counts of threads that all sleep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Each with its id and `schedstat`: the time that it has run, the time that it has waited for a processor, and how often it was put on one.
    threads: Vec<(String, String)>,
}

impl Rest {
    /// Of a process; `None` when a thread runs, is about to, or is held in any other way, and when the kernel does not count.
    pub fn of(process: &ProcDir) -> Option<Self> {
        let entries = std::fs::read_dir(process.path("task")).ok()?;
        let mut threads = Vec::new();
        for entry in entries {
            let id = entry.ok()?.file_name().into_string().ok()?;
            let counts = process.read_text(&format!("task/{id}/schedstat")).ok()?;
            let stat = process.read_text(&format!("task/{id}/stat")).ok()?;
            // The name before it, in brackets, may have any character.
            let state = stat.rsplit_once(") ")?.1.split(' ').next()?;
            if state != ASLEEP || threads.len() >= MAX_THREADS {
                return None;
            }
            threads.push((id, counts));
        }
        threads.sort();
        (!threads.is_empty()).then_some(Self { threads })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::target::Pid;

    #[test]
    fn a_process_that_runs_is_not_at_rest() {
        let own = ProcDir::open(Pid(std::process::id())).expect("own directory");
        assert_eq!(Rest::of(&own), None);
    }

    #[test]
    fn what_ran_in_between_is_seen() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat starts");
        let process = ProcDir::open(Pid(child.id())).expect("it runs");
        let deadline = Instant::now() + Duration::from_mins(1);
        let at_rest = || loop {
            if let Some(rest) = Rest::of(&process) {
                return rest;
            }
            assert!(Instant::now() < deadline, "it does not come to rest");
            std::thread::yield_now();
        };
        // It may sleep for a moment while it starts.
        let mut before = at_rest();
        loop {
            let now = at_rest();
            if now == before {
                break;
            }
            before = now;
        }
        let mut input = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, b"x").expect("it reads");
        let mut output = child.stdout.take().expect("a pipe");
        std::io::Read::read_exact(&mut output, &mut [0]).expect("it writes");
        assert_ne!(at_rest(), before);
        drop(input);
        child.wait().expect("it ends");
    }
}
