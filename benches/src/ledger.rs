//! What `--exact` takes and keeps up with: ten million live blocks, and as many pairs of malloc and free as probes let through.
//!
//! In: the binary of outlive. Out: memory for each live block, the time of a report, pairs a second and what was lost of them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::pairs::{self, Answer, Pairs};
use crate::tracer::{Tracers, Tracing, memory_bytes};

/// Live blocks while everything is measured.
const BLOCKS: u64 = 10_000_000;
const MS: u32 = 5000;
/// What outlive is to stand.
const WANTED_PAIRS_PER_S: u64 = 500_000;
const MOST_BYTES_PER_BLOCK: f64 = 64.0;
const MOST_REPORT_S: f64 = 2.0;
/// One for each processor.
const THREADS: u32 = 2;

/// One way to make pairs, and what came of it.
struct Rate {
    what: String,
    untraced: Answer,
    traced: Answer,
}

/// All that was measured.
pub(crate) struct Results {
    rates: Vec<Rate>,
    /// Resident memory of outlive: with no block, with all of them, and at its highest, a report included.
    rss_bytes: [u64; 3],
    /// From the interrupt to the end of outlive: detaching, a report, and giving back its memory.
    report_s: f64,
    /// CPU time of outlive for all events.
    tracer_cpu_s: f64,
    events: u64,
    lost_events: u64,
}

/// Measures everything in one run of outlive.
pub(crate) fn measure(outlive: &Path, work: &Path) -> Result<Results> {
    let program = pairs::compile(work)?;
    let tracers = Tracers {
        outlive: outlive.to_owned(),
        memleak: None,
        launchers: None,
        work: work.to_owned(),
    };
    let orders = [(1, None), (THREADS, None), (THREADS, Some(WANTED_PAIRS_PER_S))];
    let mut bare = Pairs::start(&program, THREADS)?;
    let mut pairs = Pairs::start(&program, THREADS)?;
    let running = tracers.start(Tracing::Exact, pairs.pid())?;
    let tracer = running.pid().context("outlive does not run")?;
    let empty = memory_bytes(tracer, "VmRSS")?;
    eprintln!("{BLOCKS} blocks");
    let mut last = pairs.fill(BLOCKS)?;
    let mut rates = Vec::new();
    for (threads, rate) in orders {
        let what = describe(threads, rate);
        eprintln!("{what}");
        let untraced = bare.run(threads, rate, MS)?;
        last = pairs.run(threads, rate, MS)?;
        rates.push(Rate { what, untraced, traced: last });
    }
    let full = memory_bytes(tracer, "VmRSS")?;
    let start = Instant::now();
    let (report, highest) = running.report()?;
    let report_s = start.elapsed().as_secs_f64();
    let lost_events = check(&report, last)?;
    Ok(Results {
        rates,
        rss_bytes: [empty, full, highest],
        report_s,
        tracer_cpu_s: report["cost"]["own_cpu_s"].as_f64().context("no CPU time")?,
        events: last.allocated + last.freed,
        lost_events,
    })
}

fn describe(threads: u32, rate: Option<u64>) -> String {
    let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    match rate {
        None => format!("{threads}, as fast as they go"),
        Some(rate) => format!("{threads}, {rate} pairs a second wanted"),
    }
}

/// Insists that the report and its losses together are what the program did. Gives the events lost.
fn check(report: &Value, own: Answer) -> Result<u64> {
    let number = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer}"))
    };
    let allocated = number("/totals/allocated_count")? + number("/loss/lost_allocations")?;
    let freed = number("/totals/freed_count")?
        + number("/loss/lost_frees")?
        + number("/loss/unknown_frees")?;
    ensure!(
        (allocated, freed) == (own.allocated, own.freed),
        "the report accounts for {allocated} allocations and {freed} frees, the program made {} and {}",
        own.allocated,
        own.freed
    );
    number("/loss/lost_events")
}

/// The page of the documentation.
pub(crate) fn page(results: &Results, host: &str) -> String {
    let [empty, full, highest] = results.rss_bytes;
    let each = |bytes: u64| bytes.saturating_sub(empty) as f64 / BLOCKS as f64;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let verdict = |holds: bool| if holds { "as wanted" } else { "**not as wanted**" };
    let rates: String = results.rates.iter().map(rate_row).collect();
    let Results { report_s, tracer_cpu_s, events, lost_events, .. } = results;
    format!(
        "# Exact at size\n\n\
        Written by `cargo xtask bench ledger` (as root); all numbers come from one run of it.\n\n{host}.\n\n\
        outlive traces `benches/workloads/pairs.c` with `--exact` while it allocates ten million blocks of 48 bytes, keeps them, \
        and then makes pairs of malloc and free beside them.\n\n\
        | | | |\n|---|---|---|\n\
        | resident memory of outlive, nothing live | {:.0} MiB | |\n\
        | resident memory of outlive, ten million live | {:.0} MiB | |\n\
        | for each live block | {:.1} bytes | at most {MOST_BYTES_PER_BLOCK} are wanted: {} |\n\
        | the same at its highest, while a report is made | {:.1} bytes | {} |\n\
        | from Ctrl-C to the end: detaching, the report, giving back memory | {report_s:.2} s | less than {MOST_REPORT_S} s are wanted: {} |\n\
        | events | {events} | |\n\
        | CPU time of outlive for each event, reports included | {:.0} ns | |\n\
        | events lost | {lost_events} | what is lost is counted: report and losses together were the program's own counts |\n\n\
        ## Pairs of malloc and free\n\n\
        Each allocation takes two traps, its entry and its return, and each free one: that is what limits the program, \
        long before outlive is. {WANTED_PAIRS_PER_S} pairs a second are wanted without loss, or as many as traps let through.\n\n\
        | | untraced, pairs a second | traced, pairs a second |\n|---|---|---|\n{rates}",
        mib(empty),
        mib(full),
        each(full),
        verdict(each(full) <= MOST_BYTES_PER_BLOCK),
        each(highest),
        verdict(each(highest) <= MOST_BYTES_PER_BLOCK),
        verdict(*report_s < MOST_REPORT_S),
        tracer_cpu_s * 1e9 / (*events).max(1) as f64,
    )
}

fn rate_row(rate: &Rate) -> String {
    let Rate { what, untraced, traced } = rate;
    format!("| {what} | {:.0} | {:.0} |\n", untraced.pairs_per_s(), traced.pairs_per_s())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_does_not_add_up_is_no_measurement() {
        let own = Answer { allocated: 10, freed: 6, ..Answer::default() };
        let report = |lost: u64| {
            serde_json::json!({
                "totals": { "allocated_count": 8, "freed_count": 3 },
                "loss": { "lost_events": 3, "lost_allocations": 2, "lost_frees": lost, "unknown_frees": 2 }
            })
        };
        assert_eq!(check(&report(1), own).expect("adds up"), 3);
        assert!(check(&report(0), own).is_err());
    }
}
