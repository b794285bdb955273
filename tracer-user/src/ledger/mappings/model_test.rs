//! The book against a model with one entry for each page, over random histories of one process.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{MappingBook, MappingsSnapshot};
use crate::collector::mapping::{Backing, MappingChange, Origin};
use crate::ledger::snapshot::Filter;
use crate::target::page_range::PAGE_BYTES;
use crate::target::{PageRange, VirtAddr};

/// First page above which mremap moves.
const FAR: u64 = 100;
/// First page of the heap.
const HEAP: u64 = 1000;

/// One step of a history, as the program does it; numbers are pages.
#[derive(Clone, Debug)]
enum Step {
    Map { at: u64, pages: u64, stack_id: u64, backing: Backing },
    Unmap { at: u64, pages: u64, fails: bool },
    Remap { at: u64, pages: u64, to: u64, new_pages: u64, stack_id: u64, keeps: bool, fails: bool },
    Break { to: u64, stack_id: u64 },
    Execute,
}

fn step() -> impl Strategy<Value = Step> {
    let (at, pages, stack) = (0_u64..40, 1_u64..12, 1_u64..4);
    let backing = prop_oneof![Just(Backing::Anonymous), Just(Backing::WritableFile)];
    let remap = (at.clone(), 0_u64..12, pages.clone(), stack.clone(), 0_u8..4, any::<bool>());
    prop_oneof![
        8 => (at.clone(), pages.clone(), stack.clone(), backing).prop_map(
            |(at, pages, stack_id, backing)| Step::Map { at, pages, stack_id, backing }
        ),
        5 => (at, pages, 0_u8..8)
            .prop_map(|(at, pages, fails)| Step::Unmap { at, pages, fails: fails == 0 }),
        6 => (remap, 0_u8..6).prop_map(|((at, pages, new_pages, stack_id, how, far), fails)| {
            // What stays behind, and what is duplicated, can only be moved.
            let keeps = how == 0 && pages > 0;
            let far = far || keeps || pages == 0;
            let to = if far { FAR + at } else { at };
            Step::Remap { at, pages, to, new_pages, stack_id, keeps, fails: fails == 0 }
        }),
        3 => (HEAP..HEAP + 20, stack).prop_map(|(to, stack_id)| Step::Break { to, stack_id }),
        1 => Just(Step::Execute),
    ]
}

/// What a person would keep on paper: for each page, which call mapped it.
#[derive(Default)]
struct Paper {
    pages: BTreeMap<u64, u64>,
    /// By call: stack and backing.
    calls: Vec<(u64, Backing)>,
    break_page: Option<u64>,
}

impl Paper {
    fn map(&mut self, pages: std::ops::Range<u64>, stack_id: u64, backing: Backing) {
        let call = self.calls.len() as u64;
        self.calls.push((stack_id, backing));
        self.pages.extend(pages.map(|page| (page, call)));
    }

    fn unmap(&mut self, pages: std::ops::Range<u64>) {
        self.pages.retain(|page, _| !pages.contains(page));
    }

    fn remap(&mut self, at: u64, pages: u64, to: u64, new_pages: u64, stack_id: u64, keeps: bool) {
        let moved: Vec<_> =
            (0..pages).filter_map(|i| Some((i, *self.pages.get(&(at + i))?))).collect();
        let last = moved.last().and_then(|(_, call)| self.calls.get(*call as usize));
        let backing = last.map_or(Backing::Anonymous, |call| call.1);
        if !keeps {
            self.unmap(at..at + pages);
        }
        self.unmap(to..to + new_pages);
        let first_added = if keeps { 0 } else { pages };
        if !keeps {
            let kept = moved.iter().filter(|(i, _)| *i < new_pages);
            self.pages.extend(kept.map(|(i, call)| (to + i, *call)));
        }
        if first_added < new_pages {
            self.map(to + first_added..to + new_pages, stack_id, backing);
        }
    }

    fn live(&self, wanted: (u64, Backing)) -> (u64, u64) {
        let of_site = |call: &&u64| self.calls.get(**call as usize) == Some(&wanted);
        let calls: Vec<u64> = self.pages.values().filter(of_site).copied().collect();
        let distinct: BTreeSet<_> = calls.iter().collect();
        (calls.len() as u64 * PAGE_BYTES, distinct.len() as u64)
    }
}

fn range(at: u64, pages: u64) -> Option<PageRange> {
    PageRange::of_call(VirtAddr(at * PAGE_BYTES), pages * PAGE_BYTES, PAGE_BYTES)
}

fn some(at: u64, pages: u64) -> PageRange {
    range(at, pages).expect("not empty")
}

fn origin(stack_id: u64) -> Origin {
    Origin { stack_id, by_allocator: false }
}

/// Does a step on both.
fn play(step: &Step, at_ns: u64, book: &mut MappingBook, paper: &mut Paper) {
    let mut apply = |change| book.apply(1, at_ns, &change);
    match *step {
        Step::Map { at, pages, stack_id, backing } => {
            let (range, origin) = (some(at, pages), origin(stack_id));
            apply(MappingChange::Mapped { range, backing, origin });
            paper.map(at..at + pages, stack_id, backing);
        }
        Step::Unmap { at, pages, fails } => {
            apply(MappingChange::Unmapping(some(at, pages)));
            if fails {
                apply(MappingChange::UnmappingFailed);
            } else {
                paper.unmap(at..at + pages);
            }
        }
        Step::Remap { at, pages, to, new_pages, stack_id, keeps, fails } => {
            let old = range(at, pages);
            let new = if fails { None } else { range(to, new_pages) };
            apply(MappingChange::Remapping(old));
            let origin = origin(stack_id);
            apply(MappingChange::Remapped { old, new, keeps_old: keeps, origin });
            if !fails {
                paper.remap(at, pages, to, new_pages, stack_id, keeps);
            }
        }
        Step::Break { to, stack_id } => {
            let origin = Some(origin(stack_id));
            apply(MappingChange::BreakMoved { to: VirtAddr(to * PAGE_BYTES - 5), origin });
            match paper.break_page.replace(to) {
                Some(from) if from < to => paper.map(from..to, stack_id, Backing::Anonymous),
                Some(from) => paper.unmap(to..from),
                None => {}
            }
        }
        Step::Execute => {
            book.executed();
            paper.pages.clear();
            paper.break_page = None;
        }
    }
}

fn snapshot(book: &MappingBook) -> MappingsSnapshot {
    book.snapshot(1_000_000, &Filter::default(), |_| false)
}

fn live(book: &MappingBook) -> u64 {
    snapshot(book).totals.live_bytes
}

proptest! {
    #[test]
    fn the_book_keeps_what_paper_would(steps in proptest::collection::vec(step(), 0..120)) {
        let mut book = MappingBook::new(0, None);
        let mut paper = Paper::default();
        for (at_ns, step) in (1..).zip(&steps) {
            play(step, at_ns, &mut book, &mut paper);
            prop_assert_eq!(live(&book), paper.pages.len() as u64 * PAGE_BYTES, "after {:?}", step);
        }
        let snapshot = snapshot(&book);
        for site in &snapshot.sites {
            let own = (site.site.live_bytes.value as u64, site.site.live_count.value as u64);
            prop_assert_eq!(own, paper.live((site.site.stack_id, site.backing)));
        }
        let totals = snapshot.totals;
        prop_assert_eq!(totals.mapped_count, paper.calls.len() as u64);
        prop_assert_eq!(totals.live_bytes, totals.mapped_bytes - totals.unmapped_bytes);
    }

    #[test]
    fn what_the_kernel_has_is_the_last_word(
        steps in proptest::collection::vec(step(), 0..60),
        gone in proptest::collection::btree_set(0_u64..150, 0..60),
    ) {
        let mut book = MappingBook::new(0, None);
        let mut paper = Paper::default();
        for (at_ns, step) in (1..).zip(&steps) {
            play(step, at_ns, &mut book, &mut paper);
        }
        let before = live(&book);
        let mapped: Vec<_> = (0..HEAP + 20).filter(|page| !gone.contains(page)).map(|page| some(page, 1)).collect();
        book.resynchronise(&mapped);
        paper.pages.retain(|page, _| !gone.contains(page));
        prop_assert_eq!(live(&book), paper.pages.len() as u64 * PAGE_BYTES);
        prop_assert_eq!(snapshot(&book).resynchronised_bytes, before - live(&book));
    }
}

#[test]
fn pages_given_to_another_thread_meanwhile_are_the_others() {
    let mut book = MappingBook::new(0, None);
    let map = |stack_id, at, pages| MappingChange::Mapped {
        range: some(at, pages),
        backing: Backing::Anonymous,
        origin: origin(stack_id),
    };
    book.apply(1, 1, &map(7, 0, 4));
    book.apply(1, 2, &MappingChange::Unmapping(some(0, 4)));
    book.apply(2, 3, &map(8, 0, 4));
    assert_eq!(live(&book), 4 * PAGE_BYTES, "the second thread's");
    // mremap moves pages away; before it returns another thread is given their place.
    book.apply(2, 4, &MappingChange::Remapping(range(0, 4)));
    assert_eq!(live(&book), 4 * PAGE_BYTES, "live while under way");
    book.apply(1, 5, &map(9, 0, 2));
    let (old, new) = (range(0, 4), range(50, 6));
    let remapped = MappingChange::Remapped { old, new, keeps_old: false, origin: origin(10) };
    book.apply(2, 6, &remapped);
    assert_eq!(live(&book), 8 * PAGE_BYTES);
}

#[test]
fn lost_ends_of_calls_lose_nothing() {
    let mut book = MappingBook::new(0, None);
    let whole = some(0, 8);
    let backing = Backing::Anonymous;
    book.apply(1, 1, &MappingChange::Mapped { range: whole, backing, origin: origin(1) });
    // The end of this mremap is lost: its pages come back when the thread makes another.
    book.apply(1, 2, &MappingChange::Remapping(range(0, 4)));
    book.apply(1, 3, &MappingChange::Remapping(range(4, 2)));
    let (old, new) = (range(4, 2), range(4, 1));
    book.apply(1, 4, &MappingChange::Remapped { old, new, keeps_old: false, origin: origin(2) });
    assert_eq!(live(&book), 7 * PAGE_BYTES);
    // The begin of this one is lost.
    let (old, new) = (range(0, 4), range(60, 4));
    book.apply(1, 5, &MappingChange::Remapped { old, new, keeps_old: false, origin: origin(2) });
    assert_eq!(live(&book), 7 * PAGE_BYTES);
    book.apply(1, 6, &MappingChange::Unmapping(some(60, 4)));
    assert_eq!(live(&book), 3 * PAGE_BYTES);
    assert_eq!(snapshot(&book).unknown_unmapped_bytes, 0);
    book.apply(1, 7, &MappingChange::Unmapping(some(200, 4)));
    assert_eq!(snapshot(&book).unknown_unmapped_bytes, 4 * PAGE_BYTES);
}

#[test]
fn the_break_is_known_from_the_start_or_from_the_first_call() {
    let moved = |to| MappingChange::BreakMoved { to: VirtAddr(to), origin: Some(origin(1)) };
    let asked = |to| MappingChange::BreakMoved { to: VirtAddr(to), origin: None };
    let mut book = MappingBook::new(0, Some(VirtAddr(0x10_0000)));
    book.apply(1, 1, &moved(0x10_0001));
    assert_eq!(live(&book), PAGE_BYTES, "one byte is a page");
    book.apply(1, 2, &moved(0x10_0fff));
    book.apply(1, 3, &asked(0x10_0fff));
    assert_eq!(live(&book), PAGE_BYTES);
    book.apply(1, 4, &moved(0x0f_0000));
    assert_eq!(live(&book), 0);
    let mut book = MappingBook::new(0, None);
    book.apply(1, 1, &asked(0x10_0000));
    book.apply(1, 2, &moved(0x10_3000));
    assert_eq!(live(&book), 3 * PAGE_BYTES);
}

#[test]
fn the_allocators_own_mappings_and_files_only_read_are_apart() {
    let mut book = MappingBook::new(0, None);
    let map = |at, stack_id, backing, by_allocator| MappingChange::Mapped {
        range: some(at, 2),
        backing,
        origin: Origin { stack_id, by_allocator },
    };
    book.apply(1, 1, &map(0, 1, Backing::Anonymous, false));
    book.apply(1, 1, &map(10, 0, Backing::Anonymous, true));
    book.apply(1, 1, &map(20, 66, Backing::Anonymous, false));
    book.apply(1, 1, &map(30, 2, Backing::ReadOnlyFile, false));
    let snapshot = book.snapshot(9, &Filter::default(), |stack_id| stack_id == 66);
    let live = [&snapshot.totals, &snapshot.by_allocator, &snapshot.read_only_files]
        .map(|totals| totals.live_bytes / PAGE_BYTES);
    assert_eq!(live, [2, 4, 2]);
    assert_eq!(snapshot.sites.len(), 1);
}
