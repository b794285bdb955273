//! `cargo xtask bench`: benchmarks of the whole, against other tracers.
//!
//! In: the workspace and, if they can be had, the other tracers. Out: a table on standard output and
//! a page of `docs/`.

use std::process::Command;

use clap::ValueEnum;

use anyhow::Result;

use crate::failure::OrFail as _;
use crate::{host, peers, process, product, progress, workspace};

/// A benchmark.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Benchmark {
    /// What tracing costs the traced program: outlive against memleak, in one run
    Overhead,
    /// How many call stacks of real programs reach the thread's root
    Stacks,
    /// What `--exact` takes for ten million live blocks, and what it keeps up with
    Ledger,
}

/// Runs a benchmark.
pub(crate) fn bench(benchmark: Benchmark, rounds: u32) -> Result<()> {
    host::require_root("the benchmark cannot run", "cargo xtask bench as root")?;
    host::require_c_compiler("the benchmark")?;
    product::build()?;
    let mut cargo = process::cargo(&["run", "--quiet", "--release", "-p", "outlive-benches", "--"]);
    let page = match benchmark {
        Benchmark::Overhead => {
            cargo.args(["overhead", "--rounds", &rounds.to_string()]);
            add_memleak(&mut cargo);
            "docs/benchmarks.md"
        }
        Benchmark::Stacks => {
            cargo.arg("stacks");
            "docs/stacks.md"
        }
        Benchmark::Ledger => {
            cargo.arg("ledger");
            "docs/ledger.md"
        }
    };
    cargo.arg("--outlive").arg(workspace::outlive());
    cargo.arg("--work").arg(workspace::target().join("benches"));
    cargo.arg("--document").arg(workspace::root().join(page));
    process::run(&mut cargo).or_fail("the benchmark failed", "see its message above")
}

fn add_memleak(cargo: &mut Command) {
    match peers::memleak() {
        Ok(memleak) => {
            cargo.arg("--memleak").arg(memleak);
        }
        Err(error) => progress::say(&format!("memleak cannot be had: {error:#}")),
    }
}
