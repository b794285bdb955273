//! The kernel programs' counters, summed over CPUs.

use aya::maps::{MapData, PerCpuArray};
use tracer_common::counter::{COUNTERS, Counter};

/// Values of all [`Counter`]s at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts([u64; COUNTERS as usize]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; COUNTERS as usize])
    }
}

impl Counts {
    /// Reads them from the kernel. A counter that cannot be read stays 0.
    pub fn read(map: &PerCpuArray<MapData, u64>) -> Self {
        let mut counts = Self::default();
        for (index, sum) in (0_u32..).zip(counts.0.iter_mut()) {
            *sum = map.get(&index, 0).map_or(0, |values| values.iter().sum());
        }
        counts
    }

    /// One of them.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// Events of mappings, and of programs that replace them all, that did not reach userspace.
    pub fn lost_mapping_events(&self) -> u64 {
        [Counter::LostMappings, Counter::LostUnmappings, Counter::LostProcessEvents]
            .into_iter()
            .map(|counter| self.get(counter))
            .sum()
    }

    /// Events of any kind that did not reach userspace.
    pub fn lost_events(&self) -> u64 {
        [
            Counter::LostAllocations,
            Counter::LostFrees,
            Counter::LostStacks,
            Counter::LostResizes,
            Counter::LostProcessEvents,
            Counter::LostMappings,
            Counter::LostUnmappings,
            Counter::UnreadableArguments,
        ]
        .into_iter()
        .map(|counter| self.get(counter))
        .sum()
    }
}
