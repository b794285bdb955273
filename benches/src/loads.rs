//! The workload that allocates as often as it is told: `workloads/loads.c`.
//!
//! In: turns of its loop for each pair of malloc and free. Out: processor time for the same work again and again.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Calls above the one that allocates.
const DEPTH: u32 = 16;

/// Compiles it into `directory`.
pub(crate) fn compile(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("loads");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/loads.c");
    let status = Command::new("cc").args(["-O2", "-g", source, "-o"]).arg(&program).status();
    ensure!(status.context("cannot run cc")?.success(), "cc cannot compile {source}");
    Ok(program)
}

/// The running program; killed when dropped.
pub(crate) struct Loads {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Loads {
    /// Starts it.
    pub(crate) fn start(program: &Path, turns: u64) -> Result<Self> {
        let mut command = Command::new(program);
        command.args([turns.to_string(), DEPTH.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let ask = child.stdin.take().context("loads has no input")?;
        let answer = child.stdout.take().context("loads has no output")?;
        Ok(Self { child, ask, answer: BufReader::new(answer) })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of one window, seconds.
    pub(crate) fn window_s(&mut self) -> Result<f64> {
        self.ask.write_all(b"\n").context("loads does not listen")?;
        let mut line = String::new();
        self.answer.read_line(&mut line).context("loads does not answer")?;
        let ns: f64 =
            line.trim().parse().with_context(|| format!("it answers `{}`", line.trim()))?;
        Ok(ns / 1e9)
    }
}

impl Drop for Loads {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("process {} may be left: {error}", self.child.id());
        }
    }
}
