//! The workload of live blocks and pairs of malloc and free: `workloads/pairs.c`.
//!
//! In: what it shall do. Out: how long that took, and its own counts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Compiles it into `directory`.
pub(crate) fn compile(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("pairs");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/pairs.c");
    let status =
        Command::new("cc").args(["-O2", "-g", "-pthread", source, "-o"]).arg(&program).status();
    ensure!(status.context("cannot run cc")?.success(), "cc cannot compile {source}");
    Ok(program)
}

/// What came of one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Nanoseconds it took.
    pub(crate) elapsed_ns: u64,
    /// Pairs made.
    pub(crate) pairs: u64,
    /// Blocks allocated since the program started.
    pub(crate) allocated: u64,
    /// Blocks freed since then.
    pub(crate) freed: u64,
}

impl Answer {
    /// Pairs a second.
    pub(crate) fn pairs_per_s(&self) -> f64 {
        self.pairs as f64 * 1e9 / self.elapsed_ns.max(1) as f64
    }

    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self { elapsed_ns: next()?, pairs: next()?, allocated: next()?, freed: next()? })
    }
}

/// The running program; killed when dropped.
pub(crate) struct Pairs {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Pairs {
    /// Starts it, with so many threads that wait.
    pub(crate) fn start(program: &Path, threads: u32) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("pairs does not start")?;
        let ask = child.stdin.take().context("pairs has no input")?;
        let answer = child.stdout.take().context("pairs has no output")?;
        let mut pairs = Self { child, ask, answer: BufReader::new(answer) };
        let ready = pairs.hear()?;
        ensure!(ready.trim() == "ready", "pairs says `{}`", ready.trim());
        Ok(pairs)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Allocates so many blocks, and keeps them.
    pub(crate) fn fill(&mut self, blocks: u64) -> Result<Answer> {
        self.order(&format!("fill {blocks}"))
    }

    /// Makes pairs for a time; as many as it can without a rate.
    pub(crate) fn run(
        &mut self,
        threads: u32,
        pairs_per_s: Option<u64>,
        ms: u32,
    ) -> Result<Answer> {
        self.order(&format!("run {threads} {} {ms}", pairs_per_s.unwrap_or(0)))
    }

    fn order(&mut self, order: &str) -> Result<Answer> {
        writeln!(self.ask, "{order}").context("pairs does not listen")?;
        let line = self.hear()?;
        Answer::parse(&line).with_context(|| format!("pairs answers `{}`", line.trim()))
    }

    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answer.read_line(&mut line).context("pairs does not answer")?;
        Ok(line)
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("process {} may be left: {error}", self.child.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_four_numbers() {
        let answer = Answer::parse("2000000000 1000 1500 900\n").expect("numbers");
        assert_eq!((answer.pairs, answer.allocated, answer.freed), (1000, 1500, 900));
        assert!((answer.pairs_per_s() - 500.0).abs() < 1e-9);
        assert_eq!(Answer::parse("1 2 3"), None);
        assert_eq!(Answer::parse("1 2 3 x"), None);
    }
}
