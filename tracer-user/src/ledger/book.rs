//! The ledger itself: every event changes it in one way, and nothing else does.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::live::LiveBlock;

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

/// Outstanding allocations of one process.
#[derive(Debug)]
pub struct Ledger {
    pub(super) mean_bytes: u64,
    pub(super) start_ns: u64,
    pub(super) blocks: Blocks,
    pub(super) reported: HashMap<VirtAddr, Reported, FixedState>,
    /// Blocks inside a realloc that has not returned, by thread.
    pub(super) withdrawn: HashMap<u32, (VirtAddr, Block), FixedState>,
    site_by_stack: HashMap<u64, u32, FixedState>,
    pub(super) sites: Vec<Site>,
    pub(super) unknown_frees: u64,
    pub(super) implied_frees: u64,
}

impl Ledger {
    /// An empty ledger. `mean_bytes` is the sampling mean, 0 when every allocation is recorded; `start_ns` is
    /// `CLOCK_MONOTONIC` when tracing started.
    pub fn new(mean_bytes: u64, start_ns: u64) -> Self {
        Self {
            mean_bytes,
            start_ns,
            blocks: Blocks::default(),
            reported: HashMap::default(),
            withdrawn: HashMap::default(),
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

    /// Applies one event of the process.
    pub fn apply(&mut self, event: &Event) {
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
            Happening::Executed => {
                self.blocks.clear();
                self.reported.clear();
                self.withdrawn.clear();
            }
            Happening::Stack(_)
            | Happening::StackCopy(_)
            | Happening::Forked(_)
            | Happening::Mapping(_)
            | Happening::GoSampled(_)
            | Happening::GoFreed(_) => {}
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
        self.blocks.retain(|address| live.contains_key(&address));
        for (address, block) in live {
            if !self.blocks.contains(*address) {
                let site = self.site(block.stack_id);
                let (size_bytes, at_ns) = (block.size_bytes, block.at_ns);
                self.blocks.insert(*address, Block { size_bytes, at_ns, site });
            }
        }
    }

    fn allocated(&mut self, allocation: &Allocation, at_ns: u64) {
        if let Some(weighted_bytes) = allocation.weighted_bytes {
            self.reported_allocated(allocation, weighted_bytes, at_ns);
            return;
        }
        let site = self.site(allocation.stack_id);
        let size_bytes = allocation.size_bytes;
        let weight = weight(size_bytes, self.mean_bytes);
        if let Some(site) = self.sites.get_mut(site as usize) {
            site.allocated_count += weight;
            site.allocated_bytes += weight * size_bytes as f64;
        }
        if !allocation.tracked {
            return;
        }
        if self.blocks.insert(allocation.address, Block { size_bytes, at_ns, site }).is_some() {
            self.implied_frees += 1;
        }
    }

    fn freed(&mut self, block: Block) {
        let weight = weight(block.size_bytes, self.mean_bytes);
        if let Some(site) = self.sites.get_mut(block.site as usize) {
            site.freed_count += weight;
            site.freed_bytes += weight * block.size_bytes as f64;
        }
    }

    fn reported_allocated(&mut self, allocation: &Allocation, weighted_bytes: u64, at_ns: u64) {
        let size_bytes = allocation.size_bytes;
        let block = Block { size_bytes, at_ns, site: self.site(allocation.stack_id) };
        let weight = reported_weight(size_bytes, weighted_bytes);
        if let Some(site) = self.sites.get_mut(block.site as usize) {
            site.allocated_count += weight;
            site.allocated_bytes += weight * size_bytes as f64;
        }
        if self.reported.insert(allocation.address, Reported { block, weight }).is_some() {
            self.implied_frees += 1;
        }
    }

    fn reported_freed(&mut self, address: VirtAddr) {
        let Some(Reported { block, weight }) = self.reported.remove(&address) else {
            self.unknown_frees += 1;
            return;
        };
        if let Some(site) = self.sites.get_mut(block.site as usize) {
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

    fn site(&mut self, stack_id: u64) -> u32 {
        let next = self.sites.len() as u32;
        let site = *self.site_by_stack.entry(stack_id).or_insert(next);
        if site == next {
            self.sites.push(Site { stack_id, ..Site::default() });
        }
        site
    }
}
