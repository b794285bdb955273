//! A running workload, and the conversation with it (`tests/workloads/c/protocol.h`).

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::capture::Capture;
use crate::counts::Counts;
use crate::patience::{PATIENCE, await_condition};

/// Lines to a program and back.
pub struct Conversation {
    input: Option<ChildStdin>,
    output: Capture,
    heard: usize,
    errors: Capture,
}

impl Conversation {
    /// With a program whose three streams are pipes.
    pub fn with(child: &mut Child) -> Self {
        Self {
            input: child.stdin.take(),
            output: Capture::of(child.stdout.take().expect("stdout is a pipe")),
            heard: 0,
            errors: Capture::of(child.stderr.take().expect("stderr is a pipe")),
        }
    }

    /// Says one line.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the conversation is not over");
        input
            .write_all(format!("{line}\n").as_bytes())
            .unwrap_or_else(|error| panic!("{line:?} reached nobody: {error}"));
    }

    /// Awaits the next line.
    pub fn hear(&mut self) -> String {
        match self.output.await_line(PATIENCE, self.heard) {
            Ok((line, next)) => {
                self.heard = next;
                line
            }
            Err(missing) => panic!(
                "no further line from the program: {missing:?}\n--- its output\n{}\n--- its errors\n{}",
                self.output.text(),
                self.errors.text()
            ),
        }
    }

    /// The next line when it has been said already.
    pub fn hear_if_said(&mut self) -> Option<String> {
        let (line, next) = self.output.await_line(Duration::ZERO, self.heard).ok()?;
        self.heard = next;
        Some(line)
    }

    /// Awaits the next line and insists on it.
    pub fn hear_word(&mut self, word: &str) {
        let heard = self.hear();
        assert_eq!(heard, word, "the program's errors: {}", self.errors.text());
    }

    /// Says `go` and awaits the counts.
    pub fn go(&mut self) -> Counts {
        self.say("go");
        Counts::parse(&self.hear())
    }

    /// Ends what is said; a program that reads on ends.
    pub fn hang_up(&mut self) {
        self.input = None;
    }

    /// All that was heard.
    pub fn output(&self) -> &Capture {
        &self.output
    }

    /// All of the error stream.
    pub fn errors(&self) -> &Capture {
        &self.errors
    }
}

/// A running workload; ended when dropped.
pub struct Workload {
    child: Child,
    /// The conversation with it.
    pub talk: Conversation,
}

impl Workload {
    /// Starts a workload and awaits its `ready`.
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        Self::start_command(Command::new(program).args(arguments))
    }

    /// Starts a command that becomes a workload, and awaits its `ready`.
    pub fn start_command(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut talk = Conversation::with(&mut child);
        talk.hear_word("ready");
        Self { child, talk }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says `go` and awaits the counts.
    pub fn go(&mut self) -> Counts {
        self.talk.go()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Says `exit` and insists that it ends well.
    pub fn exit(mut self) {
        self.talk.say("exit");
        let status = await_condition(PATIENCE, || self.child.try_wait().unwrap())
            .expect("the workload ends when told to");
        assert!(status.success(), "{status}: {}", self.talk.errors().text());
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // It may have ended already; either way nothing is left behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
