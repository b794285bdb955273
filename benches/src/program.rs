//! Real programs, from their first instruction to their end: the C++ compiler proper, and Python.
//!
//! In: how one is traced. Out: seconds of processor time, of user and kernel, for the whole run.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::overhead::Measured;
use crate::tracer::{Tracers, Tracing};

/// The interpreter of the system: the first one in `PATH` may be a script that looks for another.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A program with its arguments.
pub(crate) struct Program {
    words: Vec<String>,
    environment: &'static [(&'static str, &'static str)],
    /// Fewer than it allocates, and than it leaves allocated when it ends.
    least_allocations: u64,
}

impl Program {
    /// The C++ compiler. Preprocesses once, so that one process does all the work.
    pub(crate) fn compiler(directory: &Path) -> Result<Self> {
        let asked = Command::new("g++").arg("-print-prog-name=cc1plus").output();
        let asked = asked.context("cannot run g++")?;
        let compiler = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
        ensure!(compiler.is_absolute(), "g++ does not tell where cc1plus is");
        let preprocessed = directory.join("compiled.ii");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/compiled.cpp");
        let status = Command::new("g++").args(["-E", source, "-o"]).arg(&preprocessed).status();
        ensure!(status.context("cannot run g++")?.success(), "g++ cannot read {source}");
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let options = ["-quiet", "-fpreprocessed", "-O2"].map(str::to_owned);
        let mut words = vec![path(&compiler)];
        words.extend(options);
        words.extend([path(&preprocessed), "-o".to_owned(), "/dev/null".to_owned()]);
        // It leaves some 60,000 blocks behind.
        Ok(Self { words, environment: &[], least_allocations: 10_000 })
    }

    /// Python on `workloads/parse.py`, with malloc for its objects.
    pub(crate) fn python() -> Result<Self> {
        ensure!(Path::new(PYTHON).exists(), "there is no {PYTHON}");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/parse.py");
        let words = [PYTHON, source].map(str::to_owned).to_vec();
        let environment = &[("PYTHONMALLOC", "malloc"), ("PYTHONHASHSEED", "0")];
        Ok(Self { words, environment, least_allocations: 1000 })
    }

    /// The program with its arguments.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Runs it once, traced so from the first instruction.
    pub(crate) fn measure(&self, tracers: &Tracers, tracing: Tracing) -> Result<Measured> {
        // The shell waits until the tracer is ready, and then becomes the program.
        let mut command = Command::new("sh");
        command.args(["-c", "read -r go && exec \"$@\"", "sh"]);
        command.args(tracers.launcher(tracing)?).args(&self.words).stdin(Stdio::piped());
        command.envs(self.environment.iter().copied());
        let mut child = command.spawn().context("cannot run sh")?;
        let mut gate = child.stdin.take().context("sh has no input")?;
        let tracer = tracers.start(tracing, child.id())?;
        let before = children_s()?;
        gate.write_all(b"go\n").context("cannot start the program")?;
        let status = child.wait().context("cannot wait for the program")?;
        let cost = children_s()? - before;
        ensure!(status.success(), "the program ended with {status}");
        let evidence = tracer
            .stop(self.least_allocations)
            .with_context(|| format!("of {}", tracing.name()))?;
        Ok(Measured { cost, evidence })
    }
}

/// Processor time of all children that were waited for. Tracers are waited for outside of measurements.
fn children_s() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the children's usage")?;
    let spent = usage.user_time() + usage.system_time();
    Ok(spent.num_microseconds() as f64 / 1_000_000.0)
}
