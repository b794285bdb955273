//! What tracing costs a process, and what to do when that is more than allowed. Pure: hits and times in, decisions out.
//!
//! The model is explained in `docs/overhead.md`: what is added is the number of hits of each kind, each at the cost measured
//! on this machine, and the time that recording itself has taken; the slowdown is that over what the process used for itself.

use tracer_common::process::Hits;
use tracer_common::sampling::MAX_DOUBLINGS;

/// What one hit costs on this machine, nanoseconds of CPU time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Entry of an allocating function that is not recorded, and its return where the kernel traps every one.
    pub allocation_ns: f64,
    /// Entry of a releasing function.
    pub release_ns: f64,
    /// Return of a recorded call, beside the work on it.
    pub return_ns: f64,
    /// What a hit costs more when its instruction is single-stepped.
    pub step_ns: f64,
}

/// Of a virtual machine of 2026, for where they cannot be measured.
pub const TYPICAL_COSTS: Costs =
    Costs { allocation_ns: 1250.0, release_ns: 800.0, return_ns: 500.0, step_ns: 8800.0 };

/// What happened in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Its length.
    pub elapsed_ns: u64,
    /// CPU time of the process in it, what tracing added included.
    pub cpu_ns: u64,
    /// How often its probes ran.
    pub hits: Hits,
}

impl Spent {
    /// What happened since an earlier moment.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            elapsed_ns: self.elapsed_ns.saturating_sub(before.elapsed_ns),
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            hits: self.hits.combined(&before.hits, u64::saturating_sub),
        }
    }
}

/// CPU time that tracing adds, by what would make it less, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Added {
    /// Entries and exits of allocating functions, and what is not for the sampling mean to change: gone only with all probes.
    constant: f64,
    /// Entries of releasing functions: gone with their probes.
    releases: f64,
    /// Recording: half of it with twice the sampling mean.
    recording: f64,
}

impl Added {
    fn new(hits: &Hits, costs: &Costs) -> Self {
        let cost = |count: u64, each_ns: f64| count as f64 * each_ns;
        Self {
            constant: cost(hits.allocations, costs.allocation_ns)
                + cost(hits.stepped_allocations, costs.step_ns)
                // An exit traps as an entry does, and looks for the call that it ends as a free looks for its block.
                + cost(hits.exits, costs.release_ns)
                + cost(hits.stepped_exits, costs.step_ns)
                + hits.constant_work_ns as f64,
            releases: cost(hits.releases, costs.release_ns)
                + cost(hits.stepped_releases, costs.step_ns),
            recording: cost(hits.returns, costs.return_ns) + hits.work_ns as f64,
        }
    }

    fn floor_ns(&self) -> f64 {
        self.constant + self.releases
    }

    fn all_ns(&self) -> f64 {
        self.floor_ns() + self.recording
    }
}

/// Least share of a process's CPU time that counts as its own: estimates are not exact, and nothing is divided by nothing.
const LEAST_OWN_SHARE: f64 = 0.001;

fn own_ns(added: &Added, cpu_ns: u64) -> f64 {
    let cpu_ns = cpu_ns as f64;
    (cpu_ns - added.all_ns()).max(cpu_ns * LEAST_OWN_SHARE)
}

/// CPU time that tracing has added, over what the process used for itself; `None` when it has used none.
pub fn slowdown(spent: &Spent, costs: &Costs) -> Option<f64> {
    let added = Added::new(&spent.hits, costs);
    (spent.cpu_ns > 0).then(|| added.all_ns() / own_ns(&added, spent.cpu_ns))
}

/// What to do with the probes of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Keep,
    /// Sample less: so often the mean is doubled in all.
    Raise {
        /// Doublings since the start.
        doublings: u32,
    },
    /// Frees cost too much: detach their probes.
    DropFrees,
    /// Even the bare probes of allocations cost too much: detach everything.
    Detach,
}

/// What can be done about the cost of a process, beside detaching everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedies {
    /// Its allocations are sampled by kernel programs: the mean can be raised.
    pub raise: bool,
    /// The probes of releasing functions can go alone.
    pub drop_frees: bool,
}

/// Shortest time to judge by, and least CPU time of the process: below, a few hits would decide.
const LEAST_ELAPSED_NS: u64 = 250_000_000;
const LEAST_CPU_NS: u64 = 20_000_000;
/// Intervals in a row that must be too expensive before probes are detached: that cannot be undone.
const EXCESSES: u32 = 2;
/// What the mean is raised to leaves this share of the limit unused, so that it need not be raised again at once.
const HEADROOM: f64 = 0.1;

/// Keeps the slowdown of one process within a limit.
#[derive(Clone, Copy, Debug)]
pub struct Governor {
    /// Slowdown allowed: 0.05 for 5 %.
    limit: f64,
    doublings: u32,
    has_frees: bool,
    excesses: u32,
}

impl Governor {
    /// For a process whose probes were just attached.
    pub fn new(limit: f64) -> Self {
        Self { limit, doublings: 0, has_frees: true, excesses: 0 }
    }

    /// The slowdown allowed.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Whether this is enough to judge by.
    pub fn is_enough(spent: &Spent) -> bool {
        spent.elapsed_ns >= LEAST_ELAPSED_NS && spent.cpu_ns >= LEAST_CPU_NS
    }

    /// Decides by what happened since the last decision.
    pub fn decide(&mut self, spent: &Spent, costs: &Costs, remedies: Remedies) -> Decision {
        let added = Added::new(&spent.hits, costs);
        let allowed_ns = self.limit * own_ns(&added, spent.cpu_ns);
        if added.all_ns() <= allowed_ns {
            self.excesses = 0;
            return Decision::Keep;
        }
        if let Some(doublings) = self.doublings_for(&added, allowed_ns, remedies) {
            self.excesses = 0;
            self.doublings = doublings;
            return Decision::Raise { doublings };
        }
        self.excesses += 1;
        if self.excesses < EXCESSES {
            return Decision::Keep;
        }
        self.excesses = 0;
        // Without samples recording costs what it costs; with them it can still be made less.
        let recording_ns = if remedies.raise { 0.0 } else { added.recording };
        let is_enough = added.constant + recording_ns <= allowed_ns;
        if remedies.drop_frees && self.has_frees && is_enough {
            self.has_frees = false;
            return Decision::DropFrees;
        }
        Decision::Detach
    }

    /// How often the mean must be doubled to keep within the limit; `None` when that does not help.
    fn doublings_for(&self, added: &Added, allowed_ns: f64, remedies: Remedies) -> Option<u32> {
        let left_ns = allowed_ns - added.floor_ns();
        if !remedies.raise || left_ns <= 0.0 {
            return None;
        }
        let wanted_ns = (left_ns - HEADROOM * allowed_ns).max(left_ns / 2.0);
        let more = (added.recording / wanted_ns).log2().ceil().max(1.0);
        let doublings = f64::from(self.doublings) + more;
        (doublings <= f64::from(MAX_DOUBLINGS)).then_some(doublings as u32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COSTS: Costs =
        Costs { allocation_ns: 1000.0, release_ns: 800.0, return_ns: 1200.0, step_ns: 9000.0 };

    const SAMPLED: Remedies = Remedies { raise: true, drop_frees: true };
    const EXACT: Remedies = Remedies { raise: false, drop_frees: true };
    /// A process that chooses by itself what it tells.
    const TOLD: Remedies = Remedies { raise: false, drop_frees: false };

    fn spent(cpu_ns: u64, allocations: u64, releases: u64, returns: u64) -> Spent {
        let hits =
            Hits { allocations, releases, returns, work_ns: returns * 1500, ..Hits::default() };
        Spent { elapsed_ns: 1_000_000_000, cpu_ns, hits }
    }

    /// The process as it would have been, had the governor's decisions held all the time.
    fn after(spent: &Spent, doublings: u32, has_frees: bool) -> Spent {
        let mut new = *spent;
        let before = Added::new(&spent.hits, &COSTS).all_ns();
        new.hits.returns >>= doublings;
        new.hits.work_ns >>= doublings;
        if !has_frees {
            (new.hits.releases, new.hits.stepped_releases) = (0, 0);
        }
        let saved = before - Added::new(&new.hits, &COSTS).all_ns();
        new.cpu_ns = spent.cpu_ns.saturating_sub(saved as u64);
        new
    }

    #[test]
    fn a_slowdown_is_what_is_added_over_what_is_its_own() {
        let slowdown = |spent: &Spent| slowdown(spent, &COSTS);
        // 1 ms for entries and 2.7 ms for recording, of 40.7 ms.
        let half = spent(40_700_000, 1000, 0, 1000);
        assert!((slowdown(&half).expect("known") - 0.1).abs() < 1e-9, "{:?}", slowdown(&half));
        assert_eq!(slowdown(&spent(0, 0, 0, 0)), None);
        let mut stepped = spent(10_000_000, 100, 0, 0);
        stepped.hits.stepped_allocations = 100;
        assert!((slowdown(&stepped).expect("known") - 1.0 / 9.0).abs() < 1e-9);
    }

    #[test]
    fn cheap_tracing_is_left_alone() {
        let mut governor = Governor::new(0.1);
        let cheap = spent(1_000_000_000, 1000, 1000, 10);
        for _ in 0..5 {
            assert_eq!(governor.decide(&cheap, &COSTS, SAMPLED), Decision::Keep);
        }
    }

    #[test]
    fn the_mean_is_raised_at_once_and_as_often_as_it_takes() {
        let mut governor = Governor::new(0.1);
        let dear = spent(1_000_000_000, 20_000, 20_000, 150_000);
        let Decision::Raise { doublings } = governor.decide(&dear, &COSTS, SAMPLED) else {
            panic!("raising helps")
        };
        let then = after(&dear, doublings, true);
        assert!(slowdown(&then, &COSTS).expect("known") <= 0.1);
        assert_eq!(governor.decide(&then, &COSTS, SAMPLED), Decision::Keep);
    }

    #[test]
    fn nothing_is_detached_for_one_dear_interval() {
        let dear = spent(1_000_000_000, 400_000, 400_000, 10);
        let cheap = spent(1_000_000_000, 100, 100, 10);
        let mut governor = Governor::new(0.1);
        for _ in 0..3 {
            assert_eq!(governor.decide(&dear, &COSTS, SAMPLED), Decision::Keep);
            assert_eq!(governor.decide(&cheap, &COSTS, SAMPLED), Decision::Keep);
        }
        assert_eq!(governor.decide(&dear, &COSTS, SAMPLED), Decision::Keep);
        assert_eq!(governor.decide(&dear, &COSTS, SAMPLED), Decision::Detach);
    }

    #[test]
    fn frees_go_first_where_that_is_enough() {
        let dear = spent(1_000_000_000, 40_000, 100_000, 10);
        for remedies in [SAMPLED, EXACT] {
            let mut governor = Governor::new(0.1);
            assert_eq!(governor.decide(&dear, &COSTS, remedies), Decision::Keep);
            assert_eq!(governor.decide(&dear, &COSTS, remedies), Decision::DropFrees);
            let then = after(&dear, 0, false);
            assert_eq!(governor.decide(&then, &COSTS, remedies), Decision::Keep);
            // They are dropped once only.
            let worse = spent(1_000_000_000, 400_000, 0, 10);
            assert_eq!(governor.decide(&worse, &COSTS, remedies), Decision::Keep);
            assert_eq!(governor.decide(&worse, &COSTS, remedies), Decision::Detach);
        }
    }

    #[test]
    fn what_is_exact_is_never_sampled() {
        let mut governor = Governor::new(0.1);
        let dear = spent(1_000_000_000, 1000, 0, 150_000);
        assert_eq!(governor.decide(&dear, &COSTS, EXACT), Decision::Keep);
        assert_eq!(governor.decide(&dear, &COSTS, EXACT), Decision::Detach);
    }

    #[test]
    fn what_a_process_tells_by_itself_is_heard_whole_or_not_at_all() {
        let mut governor = Governor::new(0.1);
        let dear = spent(1_000_000_000, 1000, 150_000, 0);
        assert_eq!(governor.decide(&dear, &COSTS, TOLD), Decision::Keep);
        assert_eq!(governor.decide(&dear, &COSTS, TOLD), Decision::Detach);
    }

    #[test]
    fn exits_and_what_is_always_told_cost_too() {
        let mut hits = Hits { exits: 1000, stepped_exits: 100, ..Hits::default() };
        hits.constant_work_ns = 300_000;
        let exits = Spent { elapsed_ns: 1, cpu_ns: 22_000_000, hits };
        // 0.8 ms for exits, 0.9 ms for steps, 0.3 ms of work, of 22 ms.
        assert!((slowdown(&exits, &COSTS).expect("known") - 0.1).abs() < 1e-9);
        // No mean makes that less.
        let mut governor = Governor::new(0.09);
        let long = Spent { elapsed_ns: 1_000_000_000, ..exits };
        assert_eq!(governor.decide(&long, &COSTS, SAMPLED), Decision::Keep);
        assert_eq!(governor.decide(&long, &COSTS, SAMPLED), Decision::Detach);
    }

    proptest! {
        /// Whatever a process does for long enough, in the end its slowdown is allowed, or it is not traced.
        #[test]
        fn the_limit_holds_in_the_end(
            limit in 0.001_f64..2.0,
            remedies in proptest::sample::select(vec![SAMPLED, EXACT, TOLD]),
            own_ns in 20_000_000_u64..10_000_000_000,
            allocations in 0_u64..5_000_000,
            releases in 0_u64..5_000_000,
            share in 0.0_f64..1.0,
        ) {
            let returns = (allocations as f64 * share) as u64;
            let mut first = spent(0, allocations, releases, returns);
            first.cpu_ns = own_ns + Added::new(&first.hits, &COSTS).all_ns() as u64;
            let (mut governor, mut doublings, mut has_frees) = (Governor::new(limit), 0, true);
            let mut last = Decision::Keep;
            for _ in 0..20 {
                let now = after(&first, doublings, has_frees);
                last = governor.decide(&now, &COSTS, remedies);
                match last {
                    Decision::Keep => {}
                    Decision::Raise { doublings: more } => {
                        prop_assert!(remedies.raise && more > doublings && more <= MAX_DOUBLINGS);
                        doublings = more;
                    }
                    Decision::DropFrees => {
                        prop_assert!(remedies.drop_frees && has_frees);
                        has_frees = false;
                    }
                    Decision::Detach => break,
                }
            }
            let slowdown = slowdown(&after(&first, doublings, has_frees), &COSTS);
            // An own share below the least counts as that.
            prop_assert!(last == Decision::Detach || slowdown.is_none_or(|slowdown| slowdown <= limit * 1.001));
        }

        #[test]
        fn no_numbers_break_it(numbers in proptest::collection::vec(any::<u64>(), 11), limit in 0.0_f64..10.0) {
            let hits = Hits {
                allocations: numbers[0], releases: numbers[1], exits: numbers[2],
                stepped_allocations: numbers[3], stepped_releases: numbers[4], stepped_exits: numbers[5],
                returns: numbers[6], work_ns: numbers[7], constant_work_ns: numbers[8],
            };
            let any = Spent { elapsed_ns: numbers[9], cpu_ns: numbers[10], hits };
            for remedies in [SAMPLED, EXACT, TOLD] {
                let mut governor = Governor::new(limit);
                for _ in 0..4 {
                    if let Decision::Raise { doublings } = governor.decide(&any, &COSTS, remedies) {
                        prop_assert!((1..=MAX_DOUBLINGS).contains(&doublings));
                    }
                }
            }
            prop_assert!(slowdown(&any, &COSTS).is_none_or(|slowdown| slowdown >= 0.0 && slowdown.is_finite()));
        }
    }
}
