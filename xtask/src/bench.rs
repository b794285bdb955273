//! `cargo xtask bench`: benchmarks of the whole, against other tracers.
//!
//! In: the workspace and, if they can be had, the other tracers. Out: a table on standard output and
//! a page of `docs/`.

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use anyhow::Result;

use crate::failure::OrFail as _;
use crate::{go_toolchains, host, peers, process, product, progress, setup, workspace};

/// A benchmark.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Benchmark {
    /// What tracing costs the traced program: outlive against others, in one run
    Overhead,
    /// How many call stacks of real programs reach the thread's root
    Stacks,
    /// How long naming the stacks of large programs takes
    Symbols,
    /// What following an allocation-heavy Go program costs it
    Golang,
    /// What `--exact` takes for ten million live blocks, and what it keeps up with
    Ledger,
    /// The slowdown that outlive estimates beside the one that is measured
    Estimate,
    /// The size of a recording of four weeks, and how long it takes to write and to read
    Recording,
}

/// Runs a benchmark.
pub(crate) fn bench(benchmark: Benchmark, rounds: u32) -> Result<()> {
    let is_traced = !matches!(benchmark, Benchmark::Recording);
    if is_traced {
        host::require_root("the benchmark cannot run", "cargo xtask bench as root")?;
        host::require_c_compiler("the benchmark")?;
        product::build()?;
    } else {
        setup::setup()?;
    }
    let mut cargo = process::cargo(&["run", "--quiet", "--release", "-p", "outlive-benches", "--"]);
    let page = match benchmark {
        Benchmark::Overhead => {
            cargo.args(["overhead", "--rounds", &rounds.to_string()]);
            add(&mut cargo, "--memleak", peers::memleak());
            add(&mut cargo, "--launchers", peers::launchers());
            "docs/benchmarks.md"
        }
        Benchmark::Stacks => {
            cargo.arg("stacks");
            "docs/stacks.md"
        }
        Benchmark::Symbols => {
            cargo.args(["symbols", "--rounds", &rounds.to_string()]);
            "docs/symbols-benchmark.md"
        }
        Benchmark::Golang => {
            let newest = go_toolchains::newest();
            newest.fetch()?;
            cargo.args(["golang", "--rounds", &rounds.to_string()]);
            cargo.arg("--go").arg(newest.root().join("bin/go")).envs(newest.environment());
            "docs/go-benchmark.md"
        }
        Benchmark::Ledger => {
            cargo.arg("ledger");
            "docs/ledger.md"
        }
        Benchmark::Estimate => {
            cargo.arg("estimate");
            "docs/overhead.md"
        }
        Benchmark::Recording => {
            cargo.arg("recording");
            "docs/recording-size.md"
        }
    };
    if is_traced {
        cargo.arg("--outlive").arg(workspace::outlive());
    }
    cargo.arg("--work").arg(workspace::target().join("benches"));
    cargo.arg("--document").arg(workspace::root().join(page));
    process::run(&mut cargo).or_fail("the benchmark failed", "see its message above")
}

/// Adds other tracers, when they can be had.
fn add(cargo: &mut Command, option: &str, found: Result<PathBuf>) {
    match found {
        Ok(path) => {
            cargo.arg(option).arg(path);
        }
        Err(error) => progress::say(&format!("what is for {option} cannot be had: {error:#}")),
    }
}
