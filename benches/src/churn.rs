//! The malloc/free loop: `workloads/churn.c`.
//!
//! In: how it is traced. Out: nanoseconds of processor time for one pair of malloc and free.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::overhead::Measured;
use crate::tracer::{Tracers, Tracing};

/// Windows that count; one more comes first and does not, while caches and maps fill.
const WINDOWS: u32 = 5;
/// Fewer than the slots, all of which hold a block at the end.
const LEAST_ALLOCATIONS: u64 = 1000;

/// Compiles the loop into `directory`.
pub(crate) fn compile(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("churn");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/churn.c");
    // memleak finds callers by frame pointers only; a program without them would flatter it.
    let flags = ["-O2", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-pthread"];
    let compiled = Command::new("cc").args(flags).arg(source).arg("-o").arg(&program).status();
    ensure!(compiled.context("cannot run cc")?.success(), "cc cannot compile {source}");
    Ok(program)
}

/// Runs it in so many threads, traced so; the least of several windows.
pub(crate) fn measure(
    program: &Path,
    threads: u32,
    tracers: &Tracers,
    tracing: Tracing,
) -> Result<Measured> {
    let mut words = tracers.launcher(tracing)?;
    words.extend([program.into(), threads.to_string().into()]);
    let mut churn = Churn::start(&words)?;
    let tracer = tracers.start(tracing, churn.pid())?;
    churn.window()?;
    let mut least = f64::INFINITY;
    for _ in 0..WINDOWS {
        least = least.min(churn.window()?);
    }
    churn.finish()?;
    let evidence =
        tracer.stop(LEAST_ALLOCATIONS).with_context(|| format!("of {}", tracing.name()))?;
    Ok(Measured { cost: least, evidence })
}

/// A running loop; killed when dropped.
pub(crate) struct Churn {
    child: Child,
    /// Closed to end it.
    ask: Option<ChildStdin>,
    answer: BufReader<ChildStdout>,
}

impl Churn {
    /// Starts a program with its arguments. It waits before its first window.
    pub(crate) fn start(words: &[OsString]) -> Result<Self> {
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let ask = child.stdin.take();
        let answer = child.stdout.take().context("churn has no output")?;
        Ok(Self { child, ask, answer: BufReader::new(answer) })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it do one window; its answer, nanoseconds for whatever it repeats.
    pub(crate) fn window(&mut self) -> Result<f64> {
        let ask = self.ask.as_mut().context("churn has no input")?;
        ask.write_all(b"\n").context("churn does not listen")?;
        let mut line = String::new();
        self.answer.read_line(&mut line).context("churn does not answer")?;
        line.trim().parse().with_context(|| format!("churn answers `{}`", line.trim()))
    }

    /// Lets it end. What it holds then is never freed.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.ask = None;
        let status = self.child.wait().context("cannot wait for churn")?;
        ensure!(status.success(), "churn ended with {status}");
        Ok(())
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("process {} may be left: {error}", self.child.id());
        }
    }
}
