//! The worker process as its parent sees it: started when there is a question, killed when it takes too long, started anew.
//!
//! In: one [`Request`] at a time. Out: its [`Answer`], or that the worker has ended over it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use super::protocol::{Answer, Reply, Request, Usage};

/// The hidden command by which the program becomes a worker.
pub const COMMAND: &str = "symbolise-worker";
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest reply that is read.
const MAX_REPLY_BYTES: u64 = 256 << 20;

/// What became of a request.
pub(super) enum Heard {
    /// It is not answered yet.
    Nothing,
    /// Its answer.
    Answer(Answer),
    /// The worker has ended or was ended over it, and why.
    Ended(String),
}

/// A worker process, there or not.
#[derive(Debug)]
pub(super) struct Worker {
    program: PathBuf,
    running: Option<Running>,
    /// Of workers that have ended.
    former_cpu_s: f64,
}

#[derive(Debug)]
struct Running {
    child: Child,
    requests: ChildStdin,
    replies: Receiver<io::Result<Reply>>,
    asked: Instant,
    usage: Usage,
}

impl Worker {
    /// A worker that this program will run.
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, running: None, former_cpu_s: 0.0 }
    }

    /// Puts a question; the one before must have been answered.
    pub(super) fn ask(&mut self, request: &Request) -> io::Result<()> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => start(&self.program)?,
        };
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        running.asked = Instant::now();
        let outcome = running.requests.write_all(&line);
        self.running = Some(running);
        outcome.inspect_err(|_| self.end())
    }

    /// Waits for the answer, but not longer than this.
    pub(super) fn hear(&mut self, wait: Duration) -> Heard {
        let Some(running) = &mut self.running else {
            return Heard::Ended("it does not run".to_owned());
        };
        let why = match running.replies.recv_timeout(wait) {
            Ok(Ok(reply)) => {
                running.usage = reply.usage;
                return Heard::Answer(reply.answer);
            }
            Err(RecvTimeoutError::Timeout) if running.asked.elapsed() < PATIENCE => {
                return Heard::Nothing;
            }
            Err(RecvTimeoutError::Timeout) => {
                format!("reading it took longer than {} s", PATIENCE.as_secs())
            }
            Ok(Err(error)) => format!("reading it failed: {error}"),
            Err(RecvTimeoutError::Disconnected) => {
                "reading it took too much memory or failed".to_owned()
            }
        };
        self.end();
        Heard::Ended(why)
    }

    /// What all workers have used, and what the one that runs holds.
    pub(super) fn usage(&self) -> Usage {
        let now = self.running.as_ref().map(|running| running.usage).unwrap_or_default();
        Usage { cpu_s: self.former_cpu_s + now.cpu_s, ..now }
    }

    /// Ends it; the next question starts another.
    pub(super) fn end(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        self.former_cpu_s += running.usage.cpu_s;
        if let Err(error) = running.child.kill().and_then(|()| running.child.wait()) {
            tracing::debug!("the worker process cannot be ended: {error}");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// In a process group of its own: Ctrl-C is for the tracer, which then wants its names.
fn start(program: &PathBuf) -> io::Result<Running> {
    let mut command = Command::new(program);
    command.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env_clear();
    let mut child = command.process_group(0).spawn()?;
    let missing = || io::Error::other("no pipe to the worker process");
    let requests = child.stdin.take().ok_or_else(missing)?;
    let output = child.stdout.take().ok_or_else(missing)?;
    let (sender, replies) = sync_channel(1);
    std::thread::Builder::new()
        .name("worker-replies".to_owned())
        .spawn(move || read_replies(output, &sender))?;
    Ok(Running { child, requests, replies, asked: Instant::now(), usage: Usage::default() })
}

pub(super) fn parse_reply(line: &[u8]) -> io::Result<Reply> {
    serde_json::from_slice(line).map_err(io::Error::from)
}

/// Until the worker ends, or nobody listens.
fn read_replies(output: ChildStdout, sender: &SyncSender<io::Result<Reply>>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let reply = match output.by_ref().take(MAX_REPLY_BYTES).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => parse_reply(&line),
            Err(error) => Err(error),
        };
        let is_last = reply.is_err();
        if sender.send(reply).is_err() || is_last {
            return;
        }
    }
}
