//! The mappings of one process at an instant.

use super::{MappingBook, Site};
use crate::collector::mapping::Backing;
use crate::ledger::ages::{AgeHistogram, add_age, median_birth, seconds_between};
use crate::ledger::gather::per_second;
use crate::ledger::snapshot::{Estimate, Filter, SiteSnapshot};

/// A call site that maps memory for the program. Its bytes and counts are exact.
#[derive(Clone, Debug, PartialEq)]
pub struct MappingSite {
    /// Live mappings in the words of allocations: a mapping counts as freed when nothing of it is left.
    pub site: SiteSnapshot,
    /// What is behind the mappings.
    pub backing: Backing,
}

/// Sums over mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappingTotals {
    /// Bytes mapped now.
    pub live_bytes: u64,
    /// Mappings of which something is left.
    pub live_count: u64,
    /// Bytes mapped since the start.
    pub mapped_bytes: u64,
    /// Calls that mapped something.
    pub mapped_count: u64,
    /// Bytes unmapped, of those counted in `mapped_bytes`.
    pub unmapped_bytes: u64,
}

/// The book at an instant. Sites are in no particular order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MappingsSnapshot {
    /// Sums over all sites, before any filter.
    pub totals: MappingTotals,
    /// Sites of anonymous memory and of files that can be written to.
    pub sites: Vec<MappingSite>,
    /// Mapped by the allocator, to be given out as blocks.
    pub by_allocator: MappingTotals,
    /// Files that are only read.
    pub read_only_files: MappingTotals,
    /// Bytes handed to munmap that are not in the book: mapped before tracing, or not mapped at all.
    pub unknown_unmapped_bytes: u64,
    /// Bytes of mappings that were not followed: there were too many.
    pub untracked_bytes: u64,
    /// Bytes dropped because they were not mapped any more, and no event had told.
    pub resynchronised_bytes: u64,
}

impl MappingTotals {
    fn add(&mut self, site: &Site) {
        self.live_bytes += site.mapped_bytes - site.unmapped_bytes;
        self.live_count += site.mapped_count - site.gone_count;
        self.mapped_bytes += site.mapped_bytes;
        self.mapped_count += site.mapped_count;
        self.unmapped_bytes += site.unmapped_bytes;
    }
}

/// The live mappings of one site that a filter lets through.
#[derive(Clone, Debug, Default)]
struct Gathered {
    bytes: u64,
    /// When each was mapped; each stands for itself.
    births: Vec<(u64, f64)>,
}

impl MappingBook {
    /// What is mapped at `now_ns`. `in_allocator` tells of a stack whether it passes through the allocator's own code.
    pub fn snapshot(
        &self,
        now_ns: u64,
        filter: &Filter,
        in_allocator: impl Fn(u64) -> bool,
    ) -> MappingsSnapshot {
        let mut snapshot = MappingsSnapshot {
            unknown_unmapped_bytes: self.unknown_unmapped_bytes,
            untracked_bytes: self.untracked_bytes,
            resynchronised_bytes: self.resynchronised_bytes,
            ..MappingsSnapshot::default()
        };
        let gathered = self.gather(now_ns, filter);
        for (site, live) in self.sites.iter().zip(gathered) {
            let origin = site.key.origin;
            if origin.by_allocator || in_allocator(origin.stack_id) {
                snapshot.by_allocator.add(site);
            } else if site.key.backing == Backing::ReadOnlyFile {
                snapshot.read_only_files.add(site);
            } else {
                snapshot.totals.add(site);
                let site = self.site_snapshot(site, live, now_ns);
                snapshot.sites.push(site);
            }
        }
        snapshot
    }

    fn gather(&self, now_ns: u64, filter: &Filter) -> Vec<Gathered> {
        let mut gathered = vec![Gathered::default(); self.sites.len()];
        for mapping in self.mappings.values() {
            let is_old =
                filter.older_s.is_none_or(|age| seconds_between(mapping.at_ns, now_ns) >= age);
            let is_large = filter.min_size_bytes.is_none_or(|min| mapping.live_bytes >= min);
            let is_small = filter.max_size_bytes.is_none_or(|max| mapping.live_bytes <= max);
            if let Some(site) = gathered.get_mut(mapping.site as usize)
                && is_old
                && is_large
                && is_small
            {
                site.bytes += mapping.live_bytes;
                site.births.push((mapping.at_ns, 1.0));
            }
        }
        gathered
    }

    fn site_snapshot(&self, site: &Site, mut live: Gathered, now_ns: u64) -> MappingSite {
        let mut histogram = AgeHistogram::default();
        for (at_ns, weight) in &live.births {
            add_age(&mut histogram, *at_ns, now_ns, *weight);
        }
        let oldest_ns = live.births.iter().map(|(at_ns, _)| *at_ns).min();
        let age_s = |at_ns| seconds_between(at_ns, now_ns);
        let live_bytes = exact(live.bytes);
        let snapshot = SiteSnapshot {
            stack_id: site.key.origin.stack_id,
            live_bytes,
            live_count: exact(live.births.len() as u64),
            allocated_bytes: site.mapped_bytes as f64,
            allocated_count: site.mapped_count as f64,
            freed_count: site.gone_count as f64,
            freed_bytes: site.unmapped_bytes as f64,
            oldest_age_s: oldest_ns.map_or(0.0, age_s),
            median_age_s: median_birth(&mut live.births, true).map_or(0.0, age_s),
            age_histogram: histogram,
            growth_bytes_per_s: per_second(live_bytes, seconds_between(self.start_ns, now_ns)),
            go: None,
        };
        MappingSite { site: snapshot, backing: site.key.backing }
    }
}

fn exact(number: u64) -> Estimate {
    let value = number as f64;
    Estimate { value, ci95: (value, value) }
}
