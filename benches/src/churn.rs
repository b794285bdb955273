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
    let mut churn = Churn::start(program, threads, &tracers.launcher(tracing)?)?;
    let tracer = tracers.start(tracing, churn.child.id())?;
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

/// The running loop; killed when dropped.
struct Churn {
    child: Child,
    /// Closed to end it.
    ask: Option<ChildStdin>,
    answer: BufReader<ChildStdout>,
}

impl Churn {
    /// `launcher` is what runs it, if it does not run by itself.
    fn start(program: &Path, threads: u32, launcher: &[OsString]) -> Result<Self> {
        let mut words = launcher.iter().map(OsString::as_os_str).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).arg(threads.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let ask = child.stdin.take();
        let answer = child.stdout.take().context("churn has no output")?;
        Ok(Self { child, ask, answer: BufReader::new(answer) })
    }

    fn window(&mut self) -> Result<f64> {
        let ask = self.ask.as_mut().context("churn has no input")?;
        ask.write_all(b"\n").context("churn does not listen")?;
        let mut line = String::new();
        self.answer.read_line(&mut line).context("churn does not answer")?;
        line.trim().parse().with_context(|| format!("churn answers `{}`", line.trim()))
    }

    /// What it holds then is never freed.
    fn finish(mut self) -> Result<()> {
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
