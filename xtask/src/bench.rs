//! `cargo xtask bench`: benchmarks of the whole, against other tracers.
//!
//! In: the workspace and, if they can be had, the other tracers. Out: a table on standard output and
//! `docs/benchmarks.md`.

use clap::ValueEnum;

use anyhow::Result;

use crate::failure::OrFail as _;
use crate::{host, peers, process, product, progress, workspace};

/// A benchmark.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Benchmark {
    /// What tracing costs the traced program: outlive against memleak, in one run
    Overhead,
}

/// Runs a benchmark.
pub(crate) fn bench(benchmark: Benchmark, rounds: u32) -> Result<()> {
    let Benchmark::Overhead = benchmark;
    host::require_root("the benchmark cannot run", "cargo xtask bench overhead")?;
    host::require_c_compiler("the benchmark")?;
    product::build()?;
    let mut cargo = process::cargo(&["run", "--quiet", "--release", "-p", "outlive-benches", "--"]);
    cargo.args(["overhead", "--rounds", &rounds.to_string()]);
    cargo.arg("--outlive").arg(workspace::outlive());
    cargo.arg("--work").arg(workspace::target().join("benches"));
    cargo.arg("--document").arg(workspace::root().join("docs/benchmarks.md"));
    match peers::memleak() {
        Ok(memleak) => {
            cargo.arg("--memleak").arg(memleak);
        }
        Err(error) => progress::say(&format!("memleak cannot be had: {error:#}")),
    }
    process::run(&mut cargo).or_fail("the benchmark failed", "see its message above")
}
