//! The ledger itself: every event changes it in one way, and nothing else does.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::live::LiveBlock;
use tracer_common::sampling::doubled;

use crate::collector::event::{Allocation, Event, Happening, ResizeOutcome};
use crate::ledger::blocks::{Block, Blocks};
use crate::ledger::estimate::{reported_weight, weight};
use crate::target::VirtAddr;

/// A call site: a distinct stack, and what happened there since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Site {
    pub(super) stack_id: u64,
    pub(super) allocated_bytes: f64,
    pub(super) allocated_count: f64,
    pub(super) freed_bytes: f64,
    pub(super) freed_count: f64,
}

/// A block that the process's own sampler told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    pub(super) block: Block,
    /// Blocks that it stands for.
    pub(super) weight: f64,
}

/// Blocks of one site that were recorded while the sampling mean was the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) site: u32,
    /// Mean bytes between two samples; 0 when every allocation is recorded.
    pub(super) mean_bytes: u64,
}

/// Outstanding allocations of one process.
#[derive(Debug)]
pub struct Ledger {
    pub(super) mean_bytes: u64,
    pub(super) start_ns: u64,
    /// Frees after this moment are not told; nor does what is allocated after it become live.
    pub(super) frees_known_until_ns: Option<u64>,
    pub(super) blocks: Blocks,
    pub(super) reported: HashMap<VirtAddr, Reported, FixedState>,
    /// Blocks inside a realloc that has not returned, by thread.
    pub(super) withdrawn: HashMap<u32, (VirtAddr, Block), FixedState>,
    /// By stack, and how often the mean was doubled.
    group_by_origin: HashMap<(u64, u8), u32, FixedState>,
    pub(super) groups: Vec<Group>,
    site_by_stack: HashMap<u64, u32, FixedState>,
    pub(super) sites: Vec<Site>,
    pub(super) unknown_frees: u64,
    pub(super) implied_frees: u64,
}

impl Ledger {
    /// An empty ledger. `mean_bytes` is the sampling mean at first, 0 when every allocation is recorded; `start_ns` is
    /// `CLOCK_MONOTONIC` when tracing started.
    pub fn new(mean_bytes: u64, start_ns: u64) -> Self {
        Self {
            mean_bytes,
            start_ns,
            frees_known_until_ns: None,
            blocks: Blocks::default(),
            reported: HashMap::default(),
            withdrawn: HashMap::default(),
            group_by_origin: HashMap::default(),
            groups: Vec::new(),
            site_by_stack: HashMap::default(),
            sites: Vec::new(),
            unknown_frees: 0,
            implied_frees: 0,
        }
    }

    /// Moves the start of the window, `CLOCK_MONOTONIC`, nanoseconds.
    pub fn start_at(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
    }

    /// From this moment on frees are not told: what is live stays as it was then. What is allocated still counts as that.
    pub fn forget_frees_from(&mut self, at_ns: u64) {
        self.frees_known_until_ns.get_or_insert(at_ns);
    }

    /// Applies one event of the process.
    pub fn apply(&mut self, event: &Event) {
        if self.frees_known_until_ns.is_some_and(|until_ns| event.at_ns > until_ns) {
            self.count_allocation(event);
            return;
        }
        match &event.what {
            Happening::Allocated(allocation) => self.allocated(allocation, event.at_ns),
            Happening::Freed(address) => match self.blocks.remove(*address) {
                Some(block) => self.freed(block),
                None => self.reported_freed(*address),
            },
            Happening::Withdrawn(address) => {
                if let Some(block) = self.blocks.remove(*address)
                    && let Some((old, lost)) = self.withdrawn.insert(event.tid, (*address, block))
                {
                    // The end of the thread's last realloc was lost: nobody knows what became of that block.
                    self.blocks.insert(old, lost);
                }
            }
            Happening::Resized { old, outcome } => self.resized(event, *old, outcome),
            Happening::Abandoned(_) => self.restore(event.tid),
            Happening::Executed => self.clear(),
            Happening::Stack(_)
            | Happening::StackCopy(_)
            | Happening::Forked(_)
            | Happening::Mapping(_)
            | Happening::GoSampled(_)
            | Happening::GoFreed(_)
            | Happening::GoSwept(_) => {}
        }
    }

    /// Identifiers of the stacks of all call sites.
    pub fn stack_ids(&self) -> impl Iterator<Item = u64> {
        self.sites.iter().map(|site| site.stack_id)
    }

    /// Blocks that are outstanding now.
    pub fn live_count(&self) -> usize {
        self.blocks.len() + self.reported.len() + self.withdrawn.len()
    }

    /// Makes the ledger agree with the kernel's table of sampled blocks, after events were lost: blocks that are not in
    /// it are dropped, blocks that are missing here are added.
    pub fn resynchronise(&mut self, live: &HashMap<VirtAddr, LiveBlock>) {
        if self.frees_known_until_ns.is_some() {
            return;
        }
        self.blocks.retain(|address| live.contains_key(&address));
        for (address, block) in live {
            if !self.blocks.contains(*address) {
                let group = self.group(block.stack_id, block.doublings as u8);
                let (size_bytes, at_ns) = (block.size_bytes, block.at_ns);
                self.blocks.insert(*address, Block { size_bytes, at_ns, group });
            }
        }
    }

    fn clear(&mut self) {
        self.blocks.clear();
        self.reported.clear();
        self.withdrawn.clear();
    }

    /// Counts what an event tells as allocated. Of frees it tells nothing any more, but for all at once.
    fn count_allocation(&mut self, event: &Event) {
        if event.what == Happening::Executed {
            self.clear();
        }
        if let Happening::Allocated(allocation)
        | Happening::Resized { outcome: ResizeOutcome::Moved(allocation), .. } = &event.what
        {
            self.allocated(&Allocation { tracked: false, ..*allocation }, event.at_ns);
        }
    }

    fn allocated(&mut self, allocation: &Allocation, at_ns: u64) {
        if let Some(weighted_bytes) = allocation.weighted_bytes {
            self.reported_allocated(allocation, weighted_bytes, at_ns);
            return;
        }
        let group = self.group(allocation.stack_id, allocation.doublings);
        let size_bytes = allocation.size_bytes;
        if let Some((site, weight)) = self.site_and_weight(group, size_bytes) {
            site.allocated_count += weight;
            site.allocated_bytes += weight * size_bytes as f64;
        }
        if !allocation.tracked {
            return;
        }
        if self.blocks.insert(allocation.address, Block { size_bytes, at_ns, group }).is_some() {
            self.implied_frees += 1;
        }
    }

    fn freed(&mut self, block: Block) {
        if let Some((site, weight)) = self.site_and_weight(block.group, block.size_bytes) {
            site.freed_count += weight;
            site.freed_bytes += weight * block.size_bytes as f64;
        }
    }

    fn reported_allocated(&mut self, allocation: &Allocation, weighted_bytes: u64, at_ns: u64) {
        let size_bytes = allocation.size_bytes;
        let group = self.group(allocation.stack_id, allocation.doublings);
        let weight = reported_weight(size_bytes, weighted_bytes);
        if let Some((site, _)) = self.site_and_weight(group, size_bytes) {
            site.allocated_count += weight;
            site.allocated_bytes += weight * size_bytes as f64;
        }
        if !allocation.tracked {
            return;
        }
        let block = Block { size_bytes, at_ns, group };
        if self.reported.insert(allocation.address, Reported { block, weight }).is_some() {
            self.implied_frees += 1;
        }
    }

    fn reported_freed(&mut self, address: VirtAddr) {
        let Some(Reported { block, weight }) = self.reported.remove(&address) else {
            self.unknown_frees += 1;
            return;
        };
        if let Some((site, _)) = self.site_and_weight(block.group, block.size_bytes) {
            site.freed_count += weight;
            site.freed_bytes += weight * block.size_bytes as f64;
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
            None => self.blocks.remove(old),
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

    /// The site of a group, and how many blocks one of this size in it stands for.
    fn site_and_weight(&mut self, group: u32, size_bytes: u64) -> Option<(&mut Site, f64)> {
        let group = self.groups.get(group as usize)?;
        Some((self.sites.get_mut(group.site as usize)?, weight(size_bytes, group.mean_bytes)))
    }

    fn group(&mut self, stack_id: u64, doublings: u8) -> u32 {
        if let Some(group) = self.group_by_origin.get(&(stack_id, doublings)) {
            return *group;
        }
        let next_site = self.sites.len() as u32;
        let site = *self.site_by_stack.entry(stack_id).or_insert(next_site);
        if site == next_site {
            self.sites.push(Site { stack_id, ..Site::default() });
        }
        let group = self.groups.len() as u32;
        let mean_bytes = doubled(self.mean_bytes, u32::from(doublings));
        self.groups.push(Group { site, mean_bytes });
        self.group_by_origin.insert((stack_id, doublings), group);
        group
    }
}
