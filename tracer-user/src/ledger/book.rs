//! The ledger itself: every event changes it in one way, and nothing else does.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::live::LiveBlock;

use crate::collector::event::{Allocation, Event, Happening, ResizeOutcome};
use crate::ledger::estimate::{Moments, reported_weight, weight};
use crate::ledger::snapshot::{AGE_CLASSES_S, Estimate, Filter, SiteSnapshot, Snapshot, Totals};
use crate::target::VirtAddr;

/// An outstanding block.
#[derive(Clone, Copy, Debug)]
struct Block {
    size_bytes: u64,
    at_ns: u64,
    site: u32,
    /// Blocks that it stands for.
    weight: f64,
}

/// What happened at a call site since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Activity {
    allocated_bytes: f64,
    allocated_count: f64,
    freed_bytes: f64,
    freed_count: f64,
}

/// Outstanding allocations of one process.
#[derive(Debug)]
pub struct Ledger {
    mean_bytes: u64,
    start_ns: u64,
    blocks: HashMap<VirtAddr, Block, FixedState>,
    /// Blocks inside a realloc that has not returned, by thread.
    withdrawn: HashMap<u32, (VirtAddr, Block), FixedState>,
    site_by_stack: HashMap<u64, u32, FixedState>,
    stacks: Vec<u64>,
    activity: Vec<Activity>,
    unknown_frees: u64,
    implied_frees: u64,
}

impl Ledger {
    /// An empty ledger. `mean_bytes` is the sampling mean, 0 when every allocation is recorded; `start_ns` is
    /// `CLOCK_MONOTONIC` when tracing started.
    pub fn new(mean_bytes: u64, start_ns: u64) -> Self {
        Self {
            mean_bytes,
            start_ns,
            blocks: HashMap::default(),
            withdrawn: HashMap::default(),
            site_by_stack: HashMap::default(),
            stacks: Vec::new(),
            activity: Vec::new(),
            unknown_frees: 0,
            implied_frees: 0,
        }
    }

    /// Moves the start of the window, `CLOCK_MONOTONIC`, nanoseconds.
    pub fn start_at(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
    }

    /// Applies one event of the process.
    pub fn apply(&mut self, event: &Event) {
        match &event.what {
            Happening::Allocated(allocation) => self.allocated(allocation, event.at_ns),
            Happening::Freed(address) => match self.blocks.remove(address) {
                Some(block) => self.freed(block),
                None => self.unknown_frees += 1,
            },
            Happening::Withdrawn(address) => {
                if let Some(block) = self.blocks.remove(address)
                    && let Some((old, lost)) = self.withdrawn.insert(event.tid, (*address, block))
                {
                    // The end of the thread's last realloc was lost: nobody knows what became of that block.
                    self.blocks.insert(old, lost);
                }
            }
            Happening::Resized { old, outcome } => self.resized(event, *old, outcome),
            Happening::Abandoned(_) => self.restore(event.tid),
            Happening::Executed => {
                self.blocks.clear();
                self.withdrawn.clear();
            }
            Happening::Stack(_)
            | Happening::StackCopy(_)
            | Happening::Forked(_)
            | Happening::Mapping(_) => {}
        }
    }

    /// Identifiers of the stacks of all call sites.
    pub fn stack_ids(&self) -> &[u64] {
        &self.stacks
    }

    /// Blocks that are outstanding now.
    pub fn live_count(&self) -> usize {
        self.blocks.len() + self.withdrawn.len()
    }

    /// Makes the ledger agree with the kernel's table of sampled blocks, after events were lost: blocks that are not in
    /// it are dropped, blocks that are missing here are added.
    pub fn resynchronise(&mut self, live: &HashMap<VirtAddr, LiveBlock>) {
        self.blocks.retain(|address, _| live.contains_key(address));
        for (address, block) in live {
            if !self.blocks.contains_key(address) {
                let site = self.site(block.stack_id);
                let (size_bytes, at_ns) = (block.size_bytes, block.at_ns);
                let weight = weight(size_bytes, self.mean_bytes);
                self.blocks.insert(*address, Block { size_bytes, at_ns, site, weight });
            }
        }
    }

    /// What is outstanding at `now_ns`.
    pub fn snapshot(&self, now_ns: u64, filter: &Filter) -> Snapshot {
        let seconds = seconds_between(self.start_ns, now_ns);
        let mut gathered = vec![Gathered::default(); self.stacks.len()];
        let mut total = Gathered::default();
        for block in self.blocks.values().chain(self.withdrawn.values().map(|(_, block)| block)) {
            total.add(block);
            if let Some(site) = gathered.get_mut(block.site as usize)
                && is_wanted(block, now_ns, filter)
            {
                site.add(block);
                site.births.push((block.at_ns, block.weight));
            }
        }
        let sites = gathered.into_iter().zip(self.stacks.iter().zip(&self.activity));
        Snapshot {
            seconds,
            totals: self.totals(&total),
            sites: sites
                .map(|(site, (stack_id, activity))| {
                    site.into_snapshot(*stack_id, activity, now_ns, seconds)
                })
                .collect(),
            unknown_frees: self.unknown_frees,
            implied_frees: self.implied_frees,
        }
    }

    fn totals(&self, live: &Gathered) -> Totals {
        let sum = |value: fn(&Activity) -> f64| self.activity.iter().map(value).sum();
        Totals {
            live_bytes: live.bytes.estimate(),
            live_count: live.count.estimate(),
            allocated_bytes: sum(|site| site.allocated_bytes),
            allocated_count: sum(|site| site.allocated_count),
            freed_bytes: sum(|site| site.freed_bytes),
            freed_count: sum(|site| site.freed_count),
        }
    }

    fn allocated(&mut self, allocation: &Allocation, at_ns: u64) {
        let site = self.site(allocation.stack_id);
        let weight = match allocation.weighted_bytes {
            Some(bytes) => reported_weight(allocation.size_bytes, bytes),
            None => weight(allocation.size_bytes, self.mean_bytes),
        };
        if let Some(activity) = self.activity.get_mut(site as usize) {
            activity.allocated_count += weight;
            activity.allocated_bytes += weight * allocation.size_bytes as f64;
        }
        if !allocation.tracked {
            return;
        }
        let block = Block { size_bytes: allocation.size_bytes, at_ns, site, weight };
        if self.blocks.insert(allocation.address, block).is_some() {
            self.implied_frees += 1;
        }
    }

    fn freed(&mut self, block: Block) {
        if let Some(activity) = self.activity.get_mut(block.site as usize) {
            activity.freed_count += block.weight;
            activity.freed_bytes += block.weight * block.size_bytes as f64;
        }
    }

    fn resized(&mut self, event: &Event, old: VirtAddr, outcome: &ResizeOutcome) {
        if *outcome == ResizeOutcome::Failed {
            self.restore(event.tid);
            return;
        }
        // Without the stash its `Withdrawn` was lost, or the block is not in the ledger at all.
        let block = match self.withdrawn.remove(&event.tid) {
            Some((_, block)) => Some(block),
            None => self.blocks.remove(&old),
        };
        match block {
            Some(block) => self.freed(block),
            None => self.unknown_frees += 1,
        }
        if let ResizeOutcome::Moved(allocation) = outcome {
            self.allocated(allocation, event.at_ns);
        }
    }

    fn restore(&mut self, tid: u32) {
        if let Some((address, block)) = self.withdrawn.remove(&tid) {
            self.blocks.insert(address, block);
        }
    }

    fn site(&mut self, stack_id: u64) -> u32 {
        let next = self.stacks.len() as u32;
        let site = *self.site_by_stack.entry(stack_id).or_insert(next);
        if site == next {
            self.stacks.push(stack_id);
            self.activity.push(Activity::default());
        }
        site
    }
}

/// The outstanding blocks of one site, or of all.
#[derive(Clone, Debug, Default)]
struct Gathered {
    bytes: Moments,
    count: Moments,
    /// When each block was allocated, and how many it stands for.
    births: Vec<(u64, f64)>,
}

impl Gathered {
    fn add(&mut self, block: &Block) {
        self.bytes.add(block.size_bytes as f64, block.weight);
        self.count.add(1.0, block.weight);
    }

    fn into_snapshot(
        mut self,
        stack_id: u64,
        activity: &Activity,
        now_ns: u64,
        seconds: f64,
    ) -> SiteSnapshot {
        self.births.sort_unstable_by_key(|(at_ns, _)| *at_ns);
        let live_bytes = self.bytes.estimate();
        SiteSnapshot {
            stack_id,
            live_bytes,
            live_count: self.count.estimate(),
            allocated_bytes: activity.allocated_bytes,
            allocated_count: activity.allocated_count,
            freed_count: activity.freed_count,
            freed_bytes: activity.freed_bytes,
            oldest_age_s: self
                .births
                .first()
                .map_or(0.0, |(at_ns, _)| seconds_between(*at_ns, now_ns)),
            median_age_s: median_birth(&self.births)
                .map_or(0.0, |at_ns| seconds_between(at_ns, now_ns)),
            age_histogram: age_histogram(&self.births, now_ns),
            growth_bytes_per_s: per_second(live_bytes, seconds),
        }
    }
}

fn is_wanted(block: &Block, now_ns: u64, filter: &Filter) -> bool {
    filter.older_s.is_none_or(|older_s| seconds_between(block.at_ns, now_ns) >= older_s)
        && filter.min_size_bytes.is_none_or(|min| block.size_bytes >= min)
        && filter.max_size_bytes.is_none_or(|max| block.size_bytes <= max)
}

/// The moment before which half of the blocks were allocated.
pub(super) fn median_birth(births: &[(u64, f64)]) -> Option<u64> {
    let half = births.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut before = 0.0;
    births
        .iter()
        .find(|(_, weight)| {
            before += weight;
            before >= half
        })
        .map(|(at_ns, _)| *at_ns)
}

pub(super) fn age_histogram(births: &[(u64, f64)], now_ns: u64) -> [f64; AGE_CLASSES_S.len()] {
    let mut histogram = [0.0; AGE_CLASSES_S.len()];
    for (at_ns, weight) in births {
        let age_s = now_ns.saturating_sub(*at_ns) / 1_000_000_000;
        let class = AGE_CLASSES_S.iter().position(|bound| age_s < *bound);
        if let Some(sum) = histogram.get_mut(class.unwrap_or(AGE_CLASSES_S.len() - 1)) {
            *sum += weight;
        }
    }
    histogram
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

pub(super) fn seconds_between(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}
