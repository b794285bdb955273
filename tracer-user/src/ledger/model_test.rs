//! The ledger against a naive model, over random histories of one process.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::collector::event::{Allocation, Event, Happening, ResizeOutcome};
use crate::ledger::Ledger;
use crate::ledger::snapshot::Filter;
use crate::target::{Pid, VirtAddr};

/// One step of a history, as the program does it.
#[derive(Clone, Debug)]
enum Step {
    Allocate { address: u64, size_bytes: u64, stack_id: u64 },
    Free { address: u64 },
    Resize { tid: u32, old: u64, new: u64, size_bytes: u64, stack_id: u64, fails: bool },
    Execute,
}

fn step() -> impl Strategy<Value = Step> {
    let address = 1_u64..40;
    let stack = 1_u64..5;
    prop_oneof![
        6 => (address.clone(), 0_u64..5000, stack.clone())
            .prop_map(|(address, size_bytes, stack_id)| Step::Allocate { address, size_bytes, stack_id }),
        4 => address.clone().prop_map(|address| Step::Free { address }),
        3 => (1_u32..3, address.clone(), address, 1_u64..5000, stack, any::<bool>()).prop_map(
            |(tid, old, new, size_bytes, stack_id, fails)| Step::Resize { tid, old, new, size_bytes, stack_id, fails }
        ),
        1 => Just(Step::Execute),
    ]
}

/// What a person would keep on paper.
#[derive(Default)]
struct Paper {
    blocks: BTreeMap<u64, (u64, u64)>,
    allocated: (u64, u64),
    freed: (u64, u64),
    unknown: u64,
    implied: u64,
}

impl Paper {
    fn allocate(&mut self, address: u64, size_bytes: u64, stack_id: u64) {
        self.allocated.0 += 1;
        self.allocated.1 += size_bytes;
        if self.blocks.insert(address, (size_bytes, stack_id)).is_some() {
            self.implied += 1;
        }
    }

    fn free(&mut self, address: u64) {
        match self.blocks.remove(&address) {
            Some((size_bytes, _)) => {
                self.freed.0 += 1;
                self.freed.1 += size_bytes;
            }
            None => self.unknown += 1,
        }
    }
}

fn event(tid: u32, at_ns: u64, what: Happening) -> Event {
    Event { pid: Pid(1), tid, at_ns, what }
}

fn allocation(address: u64, size_bytes: u64, stack_id: u64) -> Allocation {
    Allocation {
        address: VirtAddr(address),
        size_bytes,
        stack_id,
        tracked: true,
        weighted_bytes: None,
        doublings: 0,
    }
}

/// Does a step on both.
fn play(step: &Step, at_ns: u64, ledger: &mut Ledger, paper: &mut Paper) {
    match *step {
        Step::Allocate { address, size_bytes, stack_id } => {
            let block = allocation(address, size_bytes, stack_id);
            ledger.apply(&event(1, at_ns, Happening::Allocated(block)));
            paper.allocate(address, size_bytes, stack_id);
        }
        Step::Free { address } => {
            ledger.apply(&event(1, at_ns, Happening::Freed(VirtAddr(address))));
            paper.free(address);
        }
        Step::Resize { tid, old, new, size_bytes, stack_id, fails } => {
            let outcome = if fails {
                ResizeOutcome::Failed
            } else {
                ResizeOutcome::Moved(allocation(new, size_bytes, stack_id))
            };
            let old_address = VirtAddr(old);
            ledger.apply(&event(tid, at_ns, Happening::Withdrawn(old_address)));
            ledger.apply(&event(tid, at_ns, Happening::Resized { old: old_address, outcome }));
            if !fails {
                paper.free(old);
                paper.allocate(new, size_bytes, stack_id);
            }
        }
        Step::Execute => {
            ledger.apply(&event(1, at_ns, Happening::Executed));
            paper.blocks.clear();
        }
    }
}

proptest! {
    #[test]
    fn the_ledger_keeps_what_paper_would(steps in proptest::collection::vec(step(), 0..200)) {
        let mut ledger = Ledger::new(0, 0);
        let mut paper = Paper::default();
        for (at_ns, step) in (1..).zip(&steps) {
            play(step, at_ns, &mut ledger, &mut paper);
        }
        let snapshot = ledger.snapshot(1_000_000, &Filter::default());
        let totals = &snapshot.totals;
        // Sums of whole numbers are whole, so that they can be compared as such.
        let whole = |value: f64| value as u64;
        prop_assert_eq!(whole(totals.live_count.value), paper.blocks.len() as u64);
        prop_assert_eq!(whole(totals.live_bytes.value), paper.blocks.values().map(|b| b.0).sum::<u64>());
        prop_assert_eq!((whole(totals.allocated_count), whole(totals.allocated_bytes)), paper.allocated);
        prop_assert_eq!((whole(totals.freed_count), whole(totals.freed_bytes)), paper.freed);
        prop_assert_eq!((snapshot.unknown_frees, snapshot.implied_frees), (paper.unknown, paper.implied));
        for site in &snapshot.sites {
            let own = paper.blocks.values().filter(|block| block.1 == site.stack_id);
            prop_assert_eq!(whole(site.live_bytes.value), own.map(|block| block.0).sum::<u64>());
        }
    }
}

#[test]
fn a_block_inside_realloc_is_live_until_its_fate_is_known() {
    let mut ledger = Ledger::new(0, 0);
    let live = |ledger: &Ledger| ledger.snapshot(10, &Filter::default()).totals.live_bytes.value;
    ledger.apply(&event(1, 1, Happening::Allocated(allocation(8, 100, 1))));
    ledger.apply(&event(1, 2, Happening::Withdrawn(VirtAddr(8))));
    assert!((live(&ledger) - 100.0).abs() < f64::EPSILON);
    // Another thread is given the address before the realloc is seen to return.
    ledger.apply(&event(2, 3, Happening::Allocated(allocation(8, 7, 2))));
    let moved = ResizeOutcome::Moved(allocation(64, 200, 1));
    ledger.apply(&event(1, 4, Happening::Resized { old: VirtAddr(8), outcome: moved }));
    assert!((live(&ledger) - 207.0).abs() < f64::EPSILON);
    // A thread that dies in realloc leaves its block.
    ledger.apply(&event(1, 5, Happening::Withdrawn(VirtAddr(64))));
    ledger.apply(&event(1, 6, Happening::Abandoned(VirtAddr(64))));
    assert!((live(&ledger) - 207.0).abs() < f64::EPSILON);
}

#[test]
fn a_reported_block_stands_for_its_weighted_bytes() {
    let mut ledger = Ledger::new(0, 0);
    let reported = |address, size_bytes, weighted_bytes| {
        let block = allocation(address, size_bytes, 1);
        Happening::Allocated(Allocation { weighted_bytes: Some(weighted_bytes), ..block })
    };
    ledger.apply(&event(1, 1, reported(8, 77, 1_000_003)));
    ledger.apply(&event(1, 2, reported(16, 10, 70)));
    ledger.apply(&event(1, 3, reported(24, 0, 5)));
    ledger.apply(&event(1, 4, Happening::Freed(VirtAddr(16))));
    let totals = ledger.snapshot(10, &Filter::default()).totals;
    let expected = 1_000_003.0 / 77.0;
    assert!((totals.live_bytes.value - 1_000_003.0).abs() < 1e-6, "{totals:?}");
    assert!((totals.live_count.value - expected - 5.0).abs() < 1e-6, "{totals:?}");
    assert!((totals.freed_count - 7.0).abs() < 1e-9 && (totals.freed_bytes - 70.0).abs() < 1e-9);
    assert!(totals.live_bytes.ci95.0 < totals.live_bytes.value, "it is an estimate");
}

#[test]
fn after_a_loss_the_kernels_table_has_the_last_word() {
    use tracer_common::live::LiveBlock;
    let mut ledger = Ledger::new(0, 0);
    ledger.apply(&event(1, 1, Happening::Allocated(allocation(8, 100, 1))));
    ledger.apply(&event(1, 2, Happening::Allocated(allocation(16, 50, 1))));
    let live = [(VirtAddr(16), (50, 1)), (VirtAddr(24), (9, 2))].map(
        |(address, (size_bytes, stack_id))| {
            (address, LiveBlock { size_bytes, stack_id, at_ns: 3, ..LiveBlock::default() })
        },
    );
    ledger.resynchronise(&live.into());
    let snapshot = ledger.snapshot(10, &Filter::default());
    assert!((snapshot.totals.live_bytes.value - 59.0).abs() < f64::EPSILON);
}

#[test]
fn without_frees_what_is_live_stays_as_it_was() {
    let mut ledger = Ledger::new(0, 0);
    ledger.apply(&event(1, 1, Happening::Allocated(allocation(8, 100, 1))));
    ledger.apply(&event(1, 2, Happening::Allocated(allocation(16, 50, 1))));
    ledger.forget_frees_from(2_000_000_000);
    // Told late, but of before.
    ledger.apply(&event(1, 3, Happening::Freed(VirtAddr(8))));
    let later = 3_000_000_000;
    ledger.apply(&event(1, later, Happening::Freed(VirtAddr(16))));
    ledger.apply(&event(1, later, Happening::Allocated(allocation(24, 7, 1))));
    let moved = ResizeOutcome::Moved(allocation(32, 9, 1));
    ledger.apply(&event(1, later, Happening::Resized { old: VirtAddr(16), outcome: moved }));
    let snapshot = ledger.snapshot(12_000_000_000, &Filter::default());
    let whole = |value: f64| value as u64;
    assert_eq!(snapshot.frees_known_s.map(whole), Some(2));
    assert_eq!(whole(snapshot.seconds), 12);
    let totals = &snapshot.totals;
    assert_eq!((whole(totals.live_bytes.value), whole(totals.freed_bytes)), (50, 100));
    assert_eq!(whole(totals.allocated_bytes), 166);
    assert!(snapshot.sites[0].oldest_age_s < 2.1, "ages are of that moment");
}

#[test]
fn samples_keep_the_mean_of_their_moment() {
    use crate::ledger::estimate::weight;
    let mut ledger = Ledger::new(1000, 0);
    for doublings in 0..3 {
        let block = Allocation { doublings, ..allocation(8 + u64::from(doublings), 100, 1) };
        ledger.apply(&event(1, 1, Happening::Allocated(block)));
    }
    let snapshot = ledger.snapshot(10, &Filter::default());
    let expected = weight(100, 1000) + weight(100, 2000) + weight(100, 4000);
    assert_eq!(snapshot.sites.len(), 1, "it is one site all the same");
    assert!((snapshot.totals.live_count.value - expected).abs() < 1e-9);
    ledger.apply(&event(1, 2, Happening::Freed(VirtAddr(9))));
    let freed = ledger.snapshot(10, &Filter::default()).totals.freed_count;
    assert!((freed - weight(100, 2000)).abs() < 1e-9);
}
