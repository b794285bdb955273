//! A process as reports tell of it, minute by minute, without one: its numbers move as those of a service under load do.
//!
//! In: how many call sites, and the share of them that does something in a minute. Out: the report of each minute.

use anyhow::{Context as _, Result};
use outlive::report::model::{Report, Site};
use serde_json::{Value, json};

const FRAMES: u64 = 20;
/// Functions that the stacks go through.
const FUNCTIONS: u64 = 5000;
/// The mean of the sampling, bytes: it makes the intervals.
const MEAN_BYTES: f64 = 524_288.0;
const AGE_CLASSES_S: [u64; 6] = [1, 10, 60, 600, 3600, 86_400];

/// The same numbers each time (Steele, Lea, Flood: `SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// The process.
pub(crate) struct Simulated {
    report: Report,
    random: Random,
    /// Sites that do something in a minute, of a thousand.
    busy_per_mille: u64,
    minutes: u64,
}

impl Simulated {
    pub(crate) fn start(sites: u64, busy_per_mille: u64) -> Result<Self> {
        let mut random = Random(1);
        let sites: Vec<Value> = (0..sites).map(|number| site(number, &mut random)).collect();
        let report = serde_json::from_value(report(&sites)).context("no report")?;
        Ok(Self { report, random, busy_per_mille, minutes: 0 })
    }

    /// What it holds a minute later.
    pub(crate) fn next_minute(&mut self) -> &Report {
        self.minutes += 1;
        let seconds = self.minutes as f64 * 60.0;
        let Self { report, random, busy_per_mille, .. } = self;
        for (number, site) in (0..).zip(&mut report.sites) {
            site.oldest_age_s = site.oldest_age_s.map(|age| age + 60.0);
            site.median_age_s = site.median_age_s.map(|age| age + 60.0);
            if random.below(1000) < *busy_per_mille {
                work(site, number, random);
            }
            // What does nothing grows by less and less a second.
            let growth = |bytes: u64| (bytes as f64 / seconds * 1e3).round() / 1e3;
            site.growth_bytes_per_s = Some(growth(site.live_bytes));
            site.growth_ci95 = Some(site.live_bytes_ci95.map(growth));
        }
        sum_up(report, seconds);
        report
    }

    /// It is started anew, and holds nothing.
    pub(crate) fn restart(&mut self) {
        self.minutes = 0;
        for site in &mut self.report.sites {
            let frames = std::mem::take(&mut site.frames);
            let Site { kind, verdict, stack_end, .. } = *site;
            let verdict_reason = std::mem::take(&mut site.verdict_reason);
            let ages = Some(0.0);
            *site = Site { kind, verdict, stack_end, verdict_reason, frames, ..Site::default() };
            (site.oldest_age_s, site.median_age_s) = (ages, ages);
            site.age_histogram_s = AGE_CLASSES_S.map(|class| (class, 0)).to_vec();
        }
    }
}

/// A minute of a site that does something: few sites hold most, and what is allocated is mostly freed.
fn work(site: &mut Site, number: u64, random: &mut Random) {
    let block_bytes = 16 << (number % 12);
    let allocated = 1 + random.below(1_000_000 / (number + 1) + 10);
    let freed = random.below(2 * allocated).min(site.live_count + allocated);
    site.allocated_count += allocated;
    site.allocated_bytes += allocated * block_bytes;
    site.freed_count += freed;
    site.live_count = site.live_count + allocated - freed;
    site.live_bytes = site.live_count * block_bytes;
    let width = (1.96 * (site.live_bytes as f64 * MEAN_BYTES).sqrt()) as u64;
    site.live_bytes_ci95 = [site.live_bytes.saturating_sub(width), site.live_bytes + width];
    site.median_age_s = Some(random.below(600_000) as f64 / 1e3);
    let mut left = site.live_count;
    for (_, count) in &mut site.age_histogram_s {
        *count = random.below(left + 1);
        left -= *count;
    }
}

fn sum_up(report: &mut Report, seconds: f64) {
    let sum = |of: fn(&Site) -> u64| report.sites.iter().map(of).sum::<u64>();
    let (live_bytes, live_count) = (sum(|site| site.live_bytes), sum(|site| site.live_count));
    let (allocated_bytes, allocated_count) =
        (sum(|site| site.allocated_bytes), sum(|site| site.allocated_count));
    let totals = &mut report.totals;
    (totals.live_bytes, totals.live_count) = (live_bytes, live_count);
    (totals.allocated_bytes, totals.allocated_count) = (allocated_bytes, allocated_count);
    totals.freed_bytes = allocated_bytes.saturating_sub(live_bytes);
    totals.freed_count = allocated_count.saturating_sub(live_count);
    report.window.seconds = seconds;
    report.memory.rss_bytes = live_bytes + (100 << 20);
}

fn site(number: u64, random: &mut Random) -> Value {
    let mut frame = |depth: u64| {
        // The outer frames are those of few threads, the inner ones those of many functions.
        let width = if depth < FRAMES / 2 { FUNCTIONS } else { 10 };
        let function = random.below(width);
        json!({
            "function": format!("service::module_{}::function_{function}", function % 50),
            "file": format!("/build/service/src/module_{}.rs", function % 50), "line": function % 900,
            "module": "/usr/bin/service", "build_id": "0123456789abcdef0123456789abcdef01234567",
            "offset": function * 512 + depth * 16 + number % 7, "inlined": false,
        })
    };
    let frames: Vec<Value> = (0..FRAMES).map(&mut frame).collect();
    json!({
        "kind": "allocation", "rank": number + 1, "live_bytes": 0, "live_bytes_ci95": [0, 0], "live_count": 0,
        "allocated_bytes": 0, "allocated_count": 0, "freed_count": 0, "oldest_age_s": 0.0, "median_age_s": 0.0,
        "age_histogram_s": AGE_CLASSES_S.map(|class| (class, 0)), "growth_bytes_per_s": 0.0, "growth_ci95": [0.0, 0.0],
        "verdict": "unknown", "verdict_reason": "not enough evidence yet", "type": null, "retained_by": null,
        "stack_end": "root", "frames": frames,
    })
}

fn report(sites: &[Value]) -> Value {
    json!({
        "schema": "outlive/1",
        "target": {
            "pid": 4242, "comm": "service", "exe": "/usr/bin/service", "build_id": null, "kind": "native", "go_version": null,
            "container_id": null, "pod": null, "allocators": ["glibc 2.36"], "symbols": "full",
        },
        "window": { "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z", "seconds": 0.0, "frees_seen_s": null },
        "sampling": { "mode": "poisson", "mean_bytes": 524_288, "mean_bytes_at_start": 524_288 },
        "totals": {
            "live_bytes": 0, "live_bytes_ci95": [0, 0], "live_count": 0, "allocated_bytes": 0, "allocated_count": 0,
            "freed_bytes": 0, "freed_count": 0, "inherited_bytes": null,
        },
        "loss": {
            "lost_events": 0, "untracked_allocations": 0, "truncated_stacks": 0, "incomplete_stacks": 0, "lost_allocations": 0,
            "lost_allocated_bytes": 0, "lost_frees": 0, "missed_returns": 0, "missed_return_bytes": 0, "missing_stacks": 0,
            "lost_mappings": 0, "lost_mapped_bytes": 0, "lost_unmappings": 0, "unknown_frees": 0, "implied_frees": 0, "notices": [],
        },
        "memory": {
            "rss_bytes": 0, "limit_bytes": null,
            "breakdown": { "live_heap": 0, "allocator_retained": null, "stacks": null, "file": null, "other": null },
        },
        "cost": {
            "hits": 0, "estimated_slowdown": 0.01, "tracer_cpu_s": 1.0, "tracer_rss_bytes": 99_000_320, "allocate_hits": 0,
            "release_hits": 0, "mapping_hits": 0, "own_cpu_s": 1.0, "own_rss_bytes": 99_000_320,
        },
        "sites": sites, "sites_omitted": 0, "mappings": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_works_as_much_as_it_is_told() {
        for (busy, least, most) in [(0, 0, 0), (100, 5, 60), (1000, 300, 300)] {
            let mut process = Simulated::start(300, busy).expect("a process");
            let before = process.next_minute().sites.clone();
            let after = process.next_minute();
            let pairs = before.iter().zip(&after.sites);
            let changed = pairs.filter(|(a, b)| a.allocated_count != b.allocated_count).count();
            assert!((least..=most).contains(&changed), "{changed} of {busy}");
            let live: u64 = after.sites.iter().map(|site| site.live_bytes).sum();
            assert_eq!(after.totals.live_bytes, live);
        }
    }
}
