//! What is kept for each traced process in tables of the kernel side: how often its probes ran, and how they shall work.

/// What a probe stands for: its cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeId {
    /// Place of the process in the tables; 0 where the probe does not know it.
    pub process: u32,
    /// Index of the row that explains the place, in the table for such places.
    pub row: u32,
}

impl ProbeId {
    /// From a cookie.
    pub const fn from_cookie(cookie: u64) -> Self {
        Self { process: cookie as u32 >> 16, row: cookie as u32 & 0xffff }
    }

    /// As a cookie. It fits in 32 bits: where the kernel has no cookies it is written into a program.
    pub const fn cookie(self) -> u32 {
        self.process << 16 | self.row & 0xffff
    }
}

/// How often the probes of a process ran, on one CPU, and how long they took beyond that.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Entries of allocating functions, and what the process's own sampler told of allocations.
    pub allocations: u64,
    /// Entries of releasing functions, and what the process's own sampler told of frees.
    pub releases: u64,
    /// Exits of functions that may throw.
    pub exits: u64,
    /// Of these, those whose instruction was single-stepped: of allocating functions.
    pub stepped_allocations: u64,
    /// Of releasing functions.
    pub stepped_releases: u64,
    /// Of exits.
    pub stepped_exits: u64,
    /// Trapped returns of recorded calls.
    pub returns: u64,
    /// Time spent on recorded calls, from the decision to record them, nanoseconds.
    pub work_ns: u64,
    /// Time spent on what no sampling mean makes less, nanoseconds: mappings, and what the process's own sampler told.
    pub constant_work_ns: u64,
}

impl Hits {
    /// Each number with the other's.
    #[must_use]
    pub fn combined(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            allocations: with(self.allocations, other.allocations),
            releases: with(self.releases, other.releases),
            exits: with(self.exits, other.exits),
            stepped_allocations: with(self.stepped_allocations, other.stepped_allocations),
            stepped_releases: with(self.stepped_releases, other.stepped_releases),
            stepped_exits: with(self.stepped_exits, other.stepped_exits),
            returns: with(self.returns, other.returns),
            work_ns: with(self.work_ns, other.work_ns),
            constant_work_ns: with(self.constant_work_ns, other.constant_work_ns),
        }
    }
}

/// How the probes of a process shall work. Userspace writes, programs read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessControl {
    /// How often the sampling mean was doubled for it.
    pub doublings: u32,
    /// 1 when frees are not probed any more: no block is followed.
    pub without_frees: u32,
}

const _: () = assert!(size_of::<Hits>() == 72);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{
        MAX_EXITS, MAX_FUNCTIONS, MAX_GO_RUNTIMES, MAX_PROBE_POINTS, MAX_PROCESSES,
    };

    #[test]
    fn every_probe_has_a_cookie_of_its_own() {
        for rows in [MAX_FUNCTIONS, MAX_EXITS, MAX_PROBE_POINTS, MAX_GO_RUNTIMES] {
            let last = ProbeId { process: MAX_PROCESSES - 1, row: rows - 1 };
            for probe in [ProbeId { process: 0, row: 0 }, ProbeId { process: 1, row: 2 }, last] {
                assert_eq!(ProbeId::from_cookie(u64::from(probe.cookie())), probe);
            }
            // Written into a program it is extended as a signed number.
            assert!(last.cookie() < 1 << 31);
        }
    }
}
