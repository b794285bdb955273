//! The ledger at an instant: one walk over the blocks for sums and histograms, one for the median ages.
//!
//! In: a [`Ledger`]. Out: a [`Snapshot`]. Memory: 16 bytes for each block that the filter lets through, for as long as it
//! takes.

use crate::ledger::ages::{AgeHistogram, add_age, median_birth, seconds_between};
use crate::ledger::blocks::Block;
use crate::ledger::book::{Ledger, Site};
use crate::ledger::estimate::{Moments, weight};
use crate::ledger::snapshot::{Estimate, Filter, SiteSnapshot, Snapshot, Totals};

/// What is outstanding of one site, or of all.
#[derive(Clone, Debug, Default)]
struct Live {
    bytes: Moments,
    count: Moments,
    /// Blocks recorded; fewer than there are when they are sampled.
    recorded: usize,
    oldest_ns: Option<u64>,
    ages: AgeHistogram,
}

impl Live {
    fn add(&mut self, block: &Block, weight: f64) {
        self.bytes.add(block.size_bytes as f64, weight);
        self.count.add(1.0, weight);
    }

    fn add_with_age(&mut self, block: &Block, weight: f64, now_ns: u64) {
        self.add(block, weight);
        self.recorded += 1;
        self.oldest_ns = Some(self.oldest_ns.map_or(block.at_ns, |at_ns| at_ns.min(block.at_ns)));
        add_age(&mut self.ages, block.at_ns, now_ns, weight);
    }
}

impl Ledger {
    /// What is outstanding at `now_ns`; once frees are not known any more, what was outstanding then.
    pub fn snapshot(&self, now_ns: u64, filter: &Filter) -> Snapshot {
        let live_ns = self.frees_known_until_ns.map_or(now_ns, |until_ns| until_ns.min(now_ns));
        let mut live = vec![Live::default(); self.sites.len()];
        let mut total = Live::default();
        for (block, site, weight) in self.weighed_blocks() {
            total.add(&block, weight);
            if let Some(live) = live.get_mut(site)
                && is_wanted(&block, live_ns, filter)
            {
                live.add_with_age(&block, weight, live_ns);
            }
        }
        let medians = self.median_births(&live, live_ns, filter);
        let of_sites = self.sites.iter().zip(live.iter().zip(medians));
        let frees_known_s =
            self.frees_known_until_ns.map(|until_ns| seconds_between(self.start_ns, until_ns));
        Snapshot {
            seconds: seconds_between(self.start_ns, now_ns),
            frees_known_s,
            totals: self.totals(&total),
            sites: of_sites
                .map(|(site, (live, median_ns))| {
                    site_snapshot(site, live, median_ns, self.start_ns, live_ns)
                })
                .collect(),
            unknown_frees: self.unknown_frees,
            implied_frees: self.implied_frees,
        }
    }

    /// Every block with the index of its site and how many it stands for.
    fn weighed_blocks(&self) -> impl Iterator<Item = (Block, usize, f64)> {
        let withdrawn = self.withdrawn.values().map(|(_, block)| *block);
        let blocks = self.blocks.iter().chain(withdrawn).map(|block| (block, None));
        let reported =
            self.reported.values().map(|reported| (reported.block, Some(reported.weight)));
        blocks.chain(reported).filter_map(|(block, own_weight)| {
            let group = self.groups.get(block.group as usize)?;
            let weight = own_weight.unwrap_or_else(|| weight(block.size_bytes, group.mean_bytes));
            Some((block, group.site as usize, weight))
        })
    }

    /// For each site the moment before which half of its blocks were allocated.
    fn median_births(&self, live: &[Live], live_ns: u64, filter: &Filter) -> Vec<Option<u64>> {
        // The sites' blocks one site after the other, in one piece of just the size.
        let mut starts = Vec::with_capacity(live.len());
        let mut count = 0;
        for site in live {
            starts.push(count);
            count += site.recorded;
        }
        let mut births = vec![(0, 0.0); count];
        let mut ends = starts.clone();
        for (block, site, weight) in self.weighed_blocks() {
            if is_wanted(&block, live_ns, filter)
                && let Some(end) = ends.get_mut(site)
                && let Some(birth) = births.get_mut(*end)
            {
                *birth = (block.at_ns, weight);
                *end += 1;
            }
        }
        let are_equal = self.mean_bytes == 0 && self.reported.is_empty();
        let of_sites = starts.into_iter().zip(ends);
        of_sites.map(|(start, end)| median_birth(births.get_mut(start..end)?, are_equal)).collect()
    }

    fn totals(&self, live: &Live) -> Totals {
        let sum = |value: fn(&Site) -> f64| self.sites.iter().map(value).sum();
        Totals {
            live_bytes: live.bytes.estimate(),
            live_count: live.count.estimate(),
            allocated_bytes: sum(|site| site.allocated_bytes),
            allocated_count: sum(|site| site.allocated_count),
            freed_bytes: sum(|site| site.freed_bytes),
            freed_count: sum(|site| site.freed_count),
            inherited_bytes: None,
        }
    }
}

fn site_snapshot(
    site: &Site,
    live: &Live,
    median_ns: Option<u64>,
    start_ns: u64,
    live_ns: u64,
) -> SiteSnapshot {
    let age_s = |at_ns| seconds_between(at_ns, live_ns);
    let live_bytes = live.bytes.estimate();
    SiteSnapshot {
        stack_id: site.stack_id,
        live_bytes,
        live_count: live.count.estimate(),
        allocated_bytes: site.allocated_bytes,
        allocated_count: site.allocated_count,
        freed_count: site.freed_count,
        freed_bytes: site.freed_bytes,
        oldest_age_s: live.oldest_ns.map_or(0.0, age_s),
        median_age_s: median_ns.map_or(0.0, age_s),
        age_histogram: live.ages,
        growth_bytes_per_s: per_second(live_bytes, seconds_between(start_ns, live_ns)),
        go: None,
    }
}

fn is_wanted(block: &Block, now_ns: u64, filter: &Filter) -> bool {
    filter.older_s.is_none_or(|older_s| seconds_between(block.at_ns, now_ns) >= older_s)
        && filter.min_size_bytes.is_none_or(|min| block.size_bytes >= min)
        && filter.max_size_bytes.is_none_or(|max| block.size_bytes <= max)
}

pub(super) fn per_second(bytes: Estimate, seconds: f64) -> Estimate {
    if seconds <= 0.0 {
        return Estimate::default();
    }
    Estimate {
        value: bytes.value / seconds,
        ci95: (bytes.ci95.0 / seconds, bytes.ci95.1 / seconds),
    }
}
