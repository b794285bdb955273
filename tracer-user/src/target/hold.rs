//! A process held for a moment, so that its memory does not change while it is read.
//!
//! In: a process. Out: a [`Hold`], and what its threads have in registers. It goes on when that is dropped.

use std::collections::HashSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::VirtAddr;
use super::proc_dir::ProcDir;
use crate::sys::hold::HeldThread;

const PAUSE: Duration = Duration::from_micros(50);
/// Most threads.
const MAX_THREADS: usize = 100_000;

/// What a thread that is held has beside memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Where its stack ends.
    pub stack_pointer: VirtAddr,
    /// All of them.
    pub bytes: Vec<u8>,
}

/// A process all of whose threads stand still.
#[derive(Debug)]
pub struct Hold {
    threads: Vec<HeldThread>,
    /// When the first of them was held.
    pub since: Instant,
}

impl Hold {
    /// Holds a process. Fails when a thread cannot be: another debugger has it, or it does not stand still within the limit, since it waits
    /// for a disk.
    pub fn of(process: &ProcDir, limit: Duration) -> io::Result<Self> {
        let mut hold = Self { threads: Vec::new(), since: Instant::now() };
        let mut known = HashSet::new();
        // A thread may start another one before it is held itself; those that are held start none.
        loop {
            let mut is_complete = true;
            for entry in std::fs::read_dir(process.path("task"))? {
                let id = entry?.file_name().into_string().ok().and_then(|id| id.parse().ok());
                let Some(id) = id.filter(|id| known.insert(*id)) else { continue };
                is_complete = false;
                hold.threads.extend(HeldThread::seize(id)?);
            }
            if known.len() > MAX_THREADS {
                return Err(Errno::E2BIG.into());
            }
            hold.await_still(limit)?;
            if is_complete {
                return Ok(hold);
            }
        }
    }

    fn await_still(&mut self, limit: Duration) -> io::Result<()> {
        for thread in &mut self.threads {
            while !thread.is_still()? {
                if self.since.elapsed() > limit {
                    return Err(Errno::ETIMEDOUT.into());
                }
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Registers of all threads.
    pub fn registers(&self) -> io::Result<Vec<Registers>> {
        let mut all = Vec::new();
        for thread in &self.threads {
            if let Some((stack_pointer, bytes)) = thread.registers()? {
                all.push(Registers { stack_pointer: VirtAddr(stack_pointer), bytes });
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::target::Pid;
    use crate::target::rest::Rest;

    #[test]
    fn a_process_that_is_held_stands_still_and_goes_on_as_if_nothing_was() {
        let script = "while read -r line; do echo \"$line\"; done";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let process = ProcDir::open(Pid(child.id())).expect("it runs");
        let mut input = child.stdin.take().expect("a pipe");
        let mut output = child.stdout.take().expect("a pipe");
        for _ in 0..20 {
            input.write_all(b"x\n").expect("it reads");
            let hold = Hold::of(&process, Duration::from_mins(1)).expect("held");
            let registers = hold.registers().expect("read");
            assert_eq!(registers.len(), 1);
            assert!(registers[0].stack_pointer.0 > 0 && registers[0].bytes.len() > 27 * 8 + 512);
            assert_eq!(Rest::of(&process), None, "held is not at rest");
            assert!(Hold::of(&process, Duration::from_mins(1)).is_err(), "it is held once");
            drop(hold);
            output.read_exact(&mut [0; 2]).expect("it goes on");
        }
        drop(input);
        assert!(child.wait().expect("it ends").success());
    }
}
