//! What tracers say about their own work: a tracer that saw nothing costs nothing, and is no measurement.
//!
//! In: what a tracer wrote. Out: [`Evidence`], or that it did not trace the workload.
//!
//! `least` is what the workload alone is sure to allocate, and to keep allocated at its end. It must be far above what the
//! shell does that becomes the workload: a tracer that lost its target at the exec has seen that, too.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// What a tracer says about its own work, once it is known to have traced the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Evidence {
    /// Events lost, if the tracer tells.
    pub(crate) lost_events: Option<u64>,
    /// The slowdown that the tracer estimates, if it tells.
    pub(crate) estimated_slowdown: Option<f64>,
}

/// The last report that outlive wrote.
pub(crate) fn last_report(reports: &str) -> Result<Value> {
    let report = reports.lines().last().context("the report is empty")?;
    serde_json::from_str(report).context("the report is not JSON")
}

/// outlive's last report.
pub(crate) fn of_outlive(report: &Value, least: u64) -> Result<Evidence> {
    let hits = report["cost"]["allocate_hits"].as_u64().context("the report tells no hits")?;
    ensure!(hits >= least, "outlive's probes ran {hits} times, not even {least}");
    let lost_events =
        report["loss"]["lost_events"].as_u64().context("the report tells no losses")?;
    let estimated_slowdown = report["cost"]["estimated_slowdown"].as_f64();
    Ok(Evidence { lost_events: Some(lost_events), estimated_slowdown })
}

/// memleak tells only what is outstanding, for the ten largest stacks: `N bytes in N allocations from stack`.
pub(crate) fn of_memleak(said: &str, least: u64) -> Result<Evidence> {
    let stacks =
        said.lines().filter_map(|line| line.trim().strip_suffix(" allocations from stack"));
    let counts = stacks.filter_map(|stack| stack.rsplit(' ').next()?.parse::<u64>().ok());
    let outstanding: u64 = counts.sum();
    ensure!(
        outstanding >= least,
        "memleak saw {outstanding} outstanding allocations, not even {least}: {}",
        said.trim()
    );
    Ok(Evidence::default())
}

/// heaptrack's library writes a line that begins with `+` for each allocation.
pub(crate) fn of_heaptrack(written: &Path, least: u64) -> Result<Evidence> {
    let file = File::open(written).context("heaptrack has written nothing")?;
    let mut lines = BufReader::new(file);
    let mut allocations = 0;
    let mut line = Vec::new();
    while allocations < least && lines.read_until(b'\n', &mut line)? > 0 {
        allocations += u64::from(line.starts_with(b"+ "));
        line.clear();
    }
    ensure!(allocations >= least, "heaptrack saw {allocations} allocations, not even {least}");
    Ok(Evidence::default())
}

/// massif tells the bytes that were allocated at each of its snapshots, none of how many blocks: there must be one byte in each.
pub(crate) fn of_massif(written: &str, least: u64) -> Result<Evidence> {
    let bytes = written.lines().filter_map(|line| line.strip_prefix("mem_heap_B=")?.parse().ok());
    let most: u64 = bytes.max().context("massif has written no snapshot")?;
    ensure!(most >= least, "massif saw {most} bytes at once, not even {least}");
    Ok(Evidence::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracer_that_saw_nothing_is_no_measurement() {
        let report = |hits: u32| {
            format!(r#"{{"cost":{{"allocate_hits":{hits}}},"loss":{{"lost_events":3}}}}"#)
        };
        let outlive = |text: &str| of_outlive(&last_report(text)?, 7);
        assert_eq!(outlive(&report(7)).expect("seen").lost_events, Some(3));
        assert!(outlive(&report(6)).is_err());
        assert!(outlive(r#"{"cost":{},"loss":{"lost_events":3}}"#).is_err());
        assert!(outlive("").is_err());
        let stacks = "100 bytes in 5 allocations from stack\r\n\t0 [<1>] main\r\n\
            60 bytes in 2 allocations from stack\r\n";
        assert!(of_memleak(stacks, 7).is_ok());
        assert!(of_memleak(stacks, 8).is_err());
        assert!(of_memleak("Top 0 stacks with outstanding allocations:", 7).is_err());
        assert!(of_massif("snapshot=1\nmem_heap_B=7\nmem_heap_B=3\n", 7).is_ok());
        assert!(of_massif("snapshot=1\nmem_heap_B=6\n", 7).is_err());
        assert!(of_massif("", 0).is_err());
    }
}
