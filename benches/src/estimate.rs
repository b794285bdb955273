//! The slowdown that outlive estimates, beside the one that is measured.
//!
//! In: the binary of outlive. Out: both, for programs that allocate more and less often, and for a real one.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::loads::{self, Loads};
use crate::program::Program;
use crate::tracer::{Tracers, Tracing};

/// Turns of the loop for each pair.
const TURNS: [u64; 5] = [0, 300, 3000, 30_000, 100_000];
const WINDOWS: u32 = 5;
const WAYS: [Tracing; 3] = [Tracing::Sampled, Tracing::SampledOften, Tracing::Exact];

/// Slowdowns as shares: 0.1 for 10 %.
pub(crate) struct Comparison {
    program: String,
    tracing: Tracing,
    measured: f64,
    estimated: f64,
}

/// Measures all.
pub(crate) fn measure(outlive: &Path, work: &Path) -> Result<Vec<Comparison>> {
    let program = loads::compile(work)?;
    let tracers = Tracers {
        outlive: outlive.to_owned(),
        memleak: None,
        launchers: None,
        work: work.to_owned(),
    };
    let mut comparisons = Vec::new();
    for turns in TURNS {
        for tracing in WAYS {
            comparisons.push(of_loads(&program, turns, &tracers, tracing)?);
        }
    }
    let compilation = Program::compiler(work)?;
    let untraced = compilation.measure(&tracers, Tracing::Untraced)?.cost;
    for tracing in WAYS {
        eprintln!("the compiler, {}", tracing.name());
        let traced = compilation.measure(&tracers, tracing)?;
        comparisons.push(Comparison {
            program: "the C++ compiler on `benches/workloads/compiled.cpp`".to_owned(),
            tracing,
            measured: traced.cost / untraced - 1.0,
            estimated: traced.evidence.estimated_slowdown.context("no estimate")?,
        });
    }
    Ok(comparisons)
}

/// The same work by two processes in turns, one of them traced: a slow minute of the machine hits both.
fn of_loads(program: &Path, turns: u64, tracers: &Tracers, tracing: Tracing) -> Result<Comparison> {
    eprintln!("{turns} turns, {}", tracing.name());
    let (mut bare, mut traced) = (Loads::start(program, turns)?, Loads::start(program, turns)?);
    // Caches and pages of both are filled before it begins.
    bare.window_s()?;
    traced.window_s()?;
    let running = tracers.start(tracing, traced.pid())?;
    let (mut bare_s, mut traced_s) = (0.0, 0.0);
    for _ in 0..WINDOWS {
        bare_s += bare.window_s()?;
        traced_s += traced.window_s()?;
    }
    let (report, _) = running.report()?;
    Ok(Comparison {
        program: format!(
            "malloc, free and {:.1} µs of work",
            bare_s * 1e6 / f64::from(WINDOWS) / PAIRS
        ),
        tracing,
        measured: traced_s / bare_s - 1.0,
        estimated: report["cost"]["estimated_slowdown"].as_f64().context("no estimate")?,
    })
}

/// Pairs in a window, as `loads.c` has it.
const PAIRS: f64 = 20_000.0;

const INTRODUCTION: &str = "\
# What tracing costs, estimated while it goes on

Every report says by how much tracing has slowed the process down (`cost.estimated_slowdown`, and the line `cost` of the text):
CPU time that tracing has added, over the CPU time that the process used for itself. `--max-overhead 5%` keeps that within a
limit.

## The model

What is added is

- the number of entries of allocating functions, times the cost of one that is not recorded,
- the number of entries of releasing functions, times the cost of one; an exit of a function that may throw counts as such,
- the number of returns of recorded calls, times the cost of a return; where the kernel has no session links, every return is
  trapped, and counts as part of its entry,
- for each hit whose instruction the kernel must single-step, what that costs more,
- the time that recording itself took: the walk of the stack and the events, read from the clock around them.

What a process samples and tells of itself, by USDT points or in its Go runtime, counts as entries and as time of recording.

Hits are counted by the kernel programs, for each process and CPU. What a hit costs is measured when outlive starts, on this
machine, with this kernel and these programs, by probes on three functions of outlive itself, beside one without a probe: the
median of 40 looks at 24 calls each, with 32 KiB of memory read in between, since what a hit throws out of the caches is part of
its cost; and of three medians the least, since the machine may be busy with something else. Where that cannot be measured, a
warning says so, and typical costs are used. Time of one recording above 50 µs is not counted: it was interrupted.
What the process used in all is the kernel's CPU clock of the process; what it used for itself is that without what was added.

What the model leaves out: calls of `mmap` and the like with `--mappings` (their events count, their entries do not), and
breakpoints in children that are not followed.

## The limit

Four times a second, when the process has used at least 20 ms of CPU time since the last time, the slowdown in between is
compared with the limit. When it is above,

1. the sampling mean is doubled, as often as it takes, when recording is what makes the difference. Each sample keeps the mean of
   its moment: estimates stay unbiased, their intervals widen. The mean is not lowered again.
2. Where the bare probes alone cost more than allowed, and twice in a row, the probes of frees are taken off if that is enough.
   What is live is told as it was at that moment, and no site is judged by what came later; allocations are still counted.
3. Else all probes are taken off, and the report is made.

Where the process itself samples (Go, USDT) the mean is its own, and each free is of a sample: only 3 is left.

Each of these is said at once on standard error, and in the report's notices. `--exact` is never turned into sampling: there only
2 and 3 are left. While the stacks of a report are being named nothing is judged. `attach`, `record` and `top` allow 10 % unless told
otherwise, and anything with `--exact`, but for Go heaps ([go.md](go.md)); `run` allows anything. `--max-overhead none` allows anything, too. With several processes each is judged
and governed by itself.

## Estimates beside measurements

Written by `cargo xtask bench estimate` (as root); all numbers come from one run of it. Measured is the CPU time of the traced
program over that of the same work untraced, side by side. Where a process hardly does anything but allocate, a small error in
what is added is a large one in the slowdown: so the last column compares what is added.

";

/// The page of the documentation.
pub(crate) fn page(comparisons: &[Comparison], host: &str) -> String {
    let rows: String = comparisons.iter().map(row).collect();
    format!(
        "{INTRODUCTION}{host}.\n\n\
        | program | traced by | slowdown measured | estimated | added, estimated over measured |\n\
        |---|---|---|---|---|\n{rows}"
    )
}

fn row(comparison: &Comparison) -> String {
    let Comparison { program, tracing, measured, estimated } = comparison;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    // Of the time that the traced program used, which is the same for both.
    let added = |slowdown: f64| slowdown / (1.0 + slowdown);
    let ratio = added(*estimated) / added(*measured);
    let ratio = if *measured > 0.0 { format!("{ratio:.2}") } else { "-".into() };
    let (measured, estimated) = (percent(*measured), percent(*estimated));
    format!("| {program} | {} | {measured} | {estimated} | {ratio} |\n", tracing.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_compares() {
        let comparison = |measured| Comparison {
            program: "p".into(),
            tracing: Tracing::Exact,
            measured,
            estimated: 0.11,
        };
        assert_eq!(row(&comparison(0.1)), "| p | outlive, exact | 10.0 % | 11.0 % | 1.09 |\n");
        assert_eq!(row(&comparison(-0.01)), "| p | outlive, exact | -1.0 % | 11.0 % | - |\n");
    }
}
