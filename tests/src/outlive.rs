//! A running `outlive`, and how it ended.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::compiler::target_folder;
use crate::patience::{PATIENCE, await_condition};
use crate::report::Report;
use crate::workload::Conversation;

/// The binary under test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OUTLIVE_BIN") {
        return PathBuf::from(path);
    }
    let built = ["release", "debug"].map(|profile| target_folder().join(profile).join("outlive"));
    built.iter().find(|path| path.exists()).cloned().unwrap_or_else(|| {
        panic!(
            "no binary under test: set OUTLIVE_BIN, or run `cargo xtask test`; looked for {built:?}"
        )
    })
}

/// A command that runs the binary with these arguments, unaffected by the environment's own settings.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OUTLIVE_") {
            command.env_remove(name);
        }
    }
    command
}

/// As [`command`], in a mount namespace that has tracefs: following forks needs it, and not every host mounts it.
pub fn command_with_tracefs<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let script = "test -e /sys/kernel/tracing/events || mount -t tracefs tracefs /sys/kernel/tracing; exec \"$0\" \"$@\"";
    let inner = command(arguments);
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "--propagation", "private", "sh", "-c", script]);
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        if value.is_none() {
            outer.env_remove(name);
        }
    }
    outer
}

/// A running `outlive`; killed when dropped.
pub struct Outlive {
    child: Child,
    line: String,
    /// Its streams; of `run`, also those of the command that is traced.
    pub talk: Conversation,
}

impl Outlive {
    /// Starts a command made by [`command`].
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let talk = Conversation::with(&mut child);
        Self { child, line: format!("{command:?}"), talk }
    }

    /// `attach` with JSON to stdout, waiting until all these processes are traced, whatever that costs them: most workloads
    /// hardly do anything but allocate.
    pub fn attach(pids: &[u32], further: &[&str]) -> Self {
        Self::attach_by(pids, further, |_| {})
    }

    /// As [`Outlive::attach`], with a last say on the command.
    pub fn attach_by(pids: &[u32], further: &[&str], adjust: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(["attach", "--format", "json"]);
        command.args(further).args(pids.iter().map(u32::to_string));
        command.env("OUTLIVE_MAX_OVERHEAD", "none");
        adjust(&mut command);
        let outlive = Self::start(&mut command);
        for pid in pids {
            outlive.await_tracing(*pid);
        }
        outlive
    }

    /// Waits for the line that says that all probes on a process are in place.
    pub fn await_tracing(&self, pid: u32) {
        let start = format!("outlive: tracing {pid} ");
        self.await_error_line(|line| format!("{line} ").starts_with(&start), &start);
    }

    /// Waits for a line on stderr.
    pub fn await_error_line(&self, is_it: impl Fn(&str) -> bool, what: &str) {
        let found = self.talk.errors().await_match(PATIENCE, |text| {
            let complete = &text[..=text.rfind('\n')?];
            complete.lines().any(&is_it).then_some(())
        });
        if let Err(missing) = found {
            panic!("{what:?} was not said: {missing:?}\n{}", self.so_far());
        }
    }

    /// Waits until the thread that hears signals, and so all that outlive has to do about them, is there.
    pub fn await_hearing(&self) {
        let hears = || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
            let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm"));
            let is_it = |thread| name(thread).is_ok_and(|name| name == "signals\n");
            threads.flatten().any(is_it).then_some(())
        };
        assert!(await_condition(PATIENCE, hears).is_some(), "it does not hear signals");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap_or_else(|error| {
            panic!("{signal} did not reach outlive: {error}\n{}", self.so_far())
        });
    }

    /// Interrupts it as Ctrl-C does, and awaits its end.
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGINT);
        self.finish()
    }

    /// Awaits its end.
    pub fn finish(self) -> Finished {
        self.finish_within(PATIENCE)
    }

    /// Awaits its end for so long.
    pub fn finish_within(mut self, limit: Duration) -> Finished {
        self.talk.hang_up();
        let Some(status) = await_condition(limit, || self.child.try_wait().unwrap()) else {
            panic!("outlive does not end\n{}", self.so_far());
        };
        let rest = "the streams end with the process";
        Finished {
            status,
            stdout: self.talk.output().await_end(PATIENCE).expect(rest),
            stderr: self.talk.errors().await_end(PATIENCE).expect(rest),
            line: self.line.clone(),
        }
    }

    fn so_far(&self) -> String {
        let (output, errors) = (self.talk.output().text(), self.talk.errors().text());
        evidence(&self.line, "still running", &output, &errors)
    }
}

impl Drop for Outlive {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command made by [`command`] to its end.
pub fn finished(command: &mut Command) -> Finished {
    Outlive::start(command).finish()
}

/// How a run ended, and all it said.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Data.
    pub stdout: String,
    /// Log and errors.
    pub stderr: String,
    line: String,
}

impl Finished {
    /// Insists on an exit status.
    pub fn assert_status(&self, expected: i32) {
        assert_eq!(self.status.code(), Some(expected), "exit status; {self}");
    }

    /// Insists on an exit status.
    #[must_use]
    pub fn with_status(self, expected: i32) -> Self {
        self.assert_status(expected);
        self
    }

    /// Every report on stdout.
    pub fn reports(&self) -> Vec<Report> {
        self.reports_in(&self.stdout)
    }

    /// Every report in a text.
    pub fn reports_in(&self, text: &str) -> Vec<Report> {
        serde_json::Deserializer::from_str(text)
            .into_iter::<Value>()
            .map(|document| match document {
                Ok(document) => Report::new(document, self.to_string()),
                Err(error) => panic!("what should be reports is not JSON: {error}\n{text}\n{self}"),
            })
            .collect()
    }

    /// The last report on stdout.
    pub fn report(&self) -> Report {
        self.reports().pop().unwrap_or_else(|| panic!("no report; {self}"))
    }

    /// The last report on stdout on this process.
    pub fn report_on(&self, pid: u32) -> Report {
        self.reports()
            .into_iter()
            .rfind(|report| report.number("/target/pid") == u64::from(pid))
            .unwrap_or_else(|| panic!("no report on {pid}; {self}"))
    }

    /// Insists on this exit status and on an error of three lines: what, why, what to do. Gives them.
    pub fn error(self, status: i32) -> [String; 3] {
        let finished = self.with_status(status);
        let lines: Vec<&str> = finished.stderr.lines().collect();
        let start = lines
            .iter()
            .position(|line| line.starts_with("error: "))
            .unwrap_or_else(|| panic!("no error on stderr; {finished}"));
        let parts = ["error: ", "  why: ", "  do:  "];
        assert_eq!(lines.len(), start + parts.len(), "the error has three lines; {finished}");
        assert!(!finished.stderr.contains("panicked"), "{finished}");
        assert!(!finished.stderr.contains("stack backtrace"), "{finished}");
        let mut index = start;
        parts.map(|part| {
            let text = lines[index].strip_prefix(part).unwrap_or_default().trim().to_owned();
            assert!(!text.is_empty(), "{part:?} is missing or says nothing; {finished}");
            index += 1;
            text
        })
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => self.status.to_string(),
        };
        f.write_str(&evidence(&self.line, &how, &self.stdout, &self.stderr))
    }
}

/// What a failure message shows of a run.
fn evidence(line: &str, how: &str, stdout: &str, stderr: &str) -> String {
    const SHOWN: usize = 6000;
    let shown = stdout.char_indices().nth(SHOWN).map_or(stdout, |(end, _)| &stdout[..end]);
    format!("{line}\n--- {how}\n--- stdout\n{shown}\n--- stderr\n{stderr}")
}
