//! A real program: the C++ compiler proper, on a file that brings in much of the standard library.
//!
//! In: how it is traced. Out: seconds of processor time, of user and kernel, for the whole run.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::overhead::Measured;
use crate::tracer::{Tracers, Tracing};

/// Fewer than the compiler leaves behind, which are some 60,000.
const LEAST_ALLOCATIONS: u64 = 10_000;

/// The compiler and what it is given.
pub(crate) struct Compilation {
    compiler: PathBuf,
    preprocessed: PathBuf,
}

impl Compilation {
    /// Finds the compiler, and preprocesses once, so that one process does all the work.
    pub(crate) fn prepare(directory: &Path) -> Result<Self> {
        let asked = Command::new("g++").arg("-print-prog-name=cc1plus").output();
        let asked = asked.context("cannot run g++")?;
        let compiler = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
        ensure!(compiler.is_absolute(), "g++ does not tell where cc1plus is");
        let preprocessed = directory.join("compiled.ii");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/compiled.cpp");
        let status = Command::new("g++").args(["-E", source, "-o"]).arg(&preprocessed).status();
        ensure!(status.context("cannot run g++")?.success(), "g++ cannot read {source}");
        Ok(Self { compiler, preprocessed })
    }

    /// The compiler with its arguments.
    pub(crate) fn command(&self) -> Vec<String> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let options = ["-quiet", "-fpreprocessed", "-O2"].map(str::to_owned);
        let mut command = vec![path(&self.compiler)];
        command.extend(options);
        command.extend([path(&self.preprocessed), "-o".to_owned(), "/dev/null".to_owned()]);
        command
    }

    /// Compiles once, traced so from the first instruction.
    pub(crate) fn measure(&self, tracers: &Tracers, tracing: Tracing) -> Result<Measured> {
        // The shell waits until the tracer is ready, and then becomes the compiler.
        let mut command = Command::new("sh");
        command.args(["-c", "read -r go && exec \"$@\"", "sh"]);
        command.args(self.command()).stdin(Stdio::piped());
        let mut child = command.spawn().context("cannot run sh")?;
        let mut gate = child.stdin.take().context("sh has no input")?;
        let tracer = tracers.start(tracing, child.id())?;
        let before = children_s()?;
        gate.write_all(b"go\n").context("cannot start the compiler")?;
        let status = child.wait().context("cannot wait for the compiler")?;
        let cost = children_s()? - before;
        ensure!(status.success(), "the compiler ended with {status}");
        let evidence =
            tracer.stop(LEAST_ALLOCATIONS).with_context(|| format!("of {}", tracing.name()))?;
        Ok(Measured { cost, evidence })
    }
}

/// Processor time of all children that were waited for. Tracers are waited for outside of measurements.
fn children_s() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the children's usage")?;
    let spent = usage.user_time() + usage.system_time();
    Ok(spent.num_microseconds() as f64 / 1_000_000.0)
}
