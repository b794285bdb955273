//! The sampled objects of a Go heap: those that lived before tracing started, and what its runtime's sampler tells since.
//!
//! In: objects read from the heap, and events. Out: a [`Snapshot`]. An object counts as often as Go's own profiler lets it count.
//!
//! Probes are in place before the heap is read, so that nothing is missed. What happens while it is being read comes twice or in
//! another order: until that is over, an object that is told of again is the same one, and an end without an object is not missed.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::ledger::ages::{AgeHistogram, add_age, median_birth, seconds_between};
use crate::ledger::estimate::{Moments, weight};
use crate::ledger::snapshot::{Filter, GoFacts, SiteSnapshot, Snapshot, Totals};
use crate::target::VirtAddr;

/// An object that the runtime's sampler chose, and where it was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledObject {
    /// Where it is.
    pub address: VirtAddr,
    /// Size of its slot.
    pub size_bytes: u64,
    /// Identifier of the call stack.
    pub stack_id: u64,
}

/// A thread of the target may have been between the place of the probe and the list of records when the probe came, and lost its
/// processor there: its object was neither told of nor read. It has come and gone unseen when its end is told within this time.
const UNDER_WAY_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
struct Object {
    site: u32,
    size_bytes: u64,
    /// When it was allocated, or found.
    at_ns: u64,
    cycle: u32,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// An event told of it.
    Told,
    /// It was there when tracing started.
    Inherited,
    /// Its event was lost: it was found when the heap was read anew.
    Found,
}

/// What happened at a call site since the start.
#[derive(Clone, Debug, Default)]
struct Site {
    stack_id: u64,
    allocated_bytes: f64,
    allocated_count: f64,
    freed_bytes: f64,
    freed_count: f64,
    /// Bytes of inherited objects that are gone.
    inherited_gone: Moments,
}

/// The book of one Go heap.
#[derive(Debug)]
pub struct GoBook {
    mean_bytes: u64,
    start_ns: u64,
    /// The heap was being read until then, `CLOCK_MONOTONIC`, nanoseconds.
    settled_ns: u64,
    objects: HashMap<VirtAddr, Object, FixedState>,
    sites: Vec<Site>,
    site_by_stack: HashMap<u64, u32, FixedState>,
    unknown_frees: u64,
    implied_frees: u64,
}

impl GoBook {
    /// An empty book; `mean_bytes` between the runtime's samples, at most 1 when it samples everything.
    pub fn new(mean_bytes: u64, start_ns: u64) -> Self {
        Self {
            mean_bytes: if mean_bytes <= 1 { 0 } else { mean_bytes },
            start_ns,
            settled_ns: start_ns,
            objects: HashMap::default(),
            sites: Vec::new(),
            site_by_stack: HashMap::default(),
            unknown_frees: 0,
            implied_frees: 0,
        }
    }

    /// When the window starts, `CLOCK_MONOTONIC`, nanoseconds.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// The window starts then.
    pub fn start_at(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
        for object in self.objects.values_mut().filter(|o| o.origin == Origin::Inherited) {
            object.at_ns = start_ns;
        }
    }

    /// Takes over what lives already, before any event is applied; the heap was read until `settled_ns`.
    pub fn inherit(&mut self, objects: &[SampledObject], cycle: u32, settled_ns: u64) {
        let at_ns = self.start_ns;
        for object in objects {
            self.put(object, at_ns, cycle, Origin::Inherited);
        }
        self.settled_ns = settled_ns;
    }

    /// Makes the book agree with the heap, after events were lost; it was read until `settled_ns`.
    pub fn resynchronise(&mut self, objects: &[SampledObject], cycle: u32, settled_ns: u64) {
        let alive: HashMap<VirtAddr, &SampledObject> =
            objects.iter().map(|object| (object.address, object)).collect();
        let is_gone = |address: &VirtAddr| !alive.contains_key(address);
        let gone: Vec<VirtAddr> = self.objects.keys().copied().filter(is_gone).collect();
        for object in
            gone.iter().filter_map(|address| self.objects.remove(address)).collect::<Vec<_>>()
        {
            self.count_gone(&object);
        }
        for object in
            objects.iter().filter(|o| !self.objects.contains_key(&o.address)).collect::<Vec<_>>()
        {
            self.put(object, settled_ns, cycle, Origin::Found);
        }
        self.settled_ns = settled_ns;
    }

    /// The sampler chose an object.
    pub fn sampled(&mut self, object: &SampledObject, at_ns: u64, cycle: u32) {
        let before = self.put(object, at_ns, cycle, Origin::Told);
        let weight = weight(object.size_bytes, self.mean_bytes);
        let site = self.site(object.stack_id);
        if let Some(site) = self.sites.get_mut(site as usize) {
            site.allocated_bytes += weight * object.size_bytes as f64;
            site.allocated_count += weight;
        }
        let Some(before) = before else { return };
        // It was read, and only now its event comes.
        if before.origin != Origin::Told && at_ns <= self.settled_ns {
            return;
        }
        self.implied_frees += 1;
        self.count_gone(&before);
    }

    /// An object was swept.
    pub fn freed(&mut self, address: VirtAddr, at_ns: u64) {
        match self.objects.remove(&address) {
            Some(object) => self.count_gone(&object),
            // It was gone before its place in the heap was read, or came while the probes did.
            None if at_ns <= self.settled_ns.saturating_add(UNDER_WAY_NS) => {}
            None => self.unknown_frees += 1,
        }
    }

    /// The process runs another program: its heap is gone.
    pub fn executed(&mut self) {
        self.objects.clear();
    }

    /// Sampled objects that live.
    pub fn live_objects(&self) -> impl Iterator<Item = VirtAddr> {
        self.objects.keys().copied()
    }

    /// What lives at `now_ns`, in collection `now_cycle`.
    pub fn snapshot(&self, now_ns: u64, now_cycle: u32, filter: &Filter) -> Snapshot {
        let mut live = vec![Live::default(); self.sites.len()];
        let mut total = Live::default();
        for object in self.objects.values() {
            let weight = weight(object.size_bytes, self.mean_bytes);
            total.add(object, weight);
            if let Some(live) = live.get_mut(object.site as usize)
                && is_wanted(object, now_ns, filter)
            {
                live.add(object, weight);
                live.add_age(object, weight, now_ns);
            }
        }
        let sum = |value: fn(&Site) -> f64| self.sites.iter().map(value).sum();
        let seconds = seconds_between(self.start_ns, now_ns);
        let at = At { ns: now_ns, cycle: now_cycle, seconds };
        Snapshot {
            seconds,
            frees_known_s: None,
            totals: Totals {
                live_bytes: total.bytes().estimate(),
                live_count: total.count.estimate(),
                allocated_bytes: sum(|site| site.allocated_bytes),
                allocated_count: sum(|site| site.allocated_count),
                freed_bytes: sum(|site| site.freed_bytes),
                freed_count: sum(|site| site.freed_count),
                inherited_bytes: Some(total.inherited.estimate().value),
            },
            sites: self
                .sites
                .iter()
                .zip(live)
                .map(|(site, live)| live.snapshot(site, &at))
                .collect(),
            unknown_frees: self.unknown_frees,
            implied_frees: self.implied_frees,
        }
    }

    fn put(
        &mut self,
        object: &SampledObject,
        at_ns: u64,
        cycle: u32,
        origin: Origin,
    ) -> Option<Object> {
        let site = self.site(object.stack_id);
        let new = Object { site, size_bytes: object.size_bytes, at_ns, cycle, origin };
        self.objects.insert(object.address, new)
    }

    fn count_gone(&mut self, object: &Object) {
        let weight = weight(object.size_bytes, self.mean_bytes);
        let Some(site) = self.sites.get_mut(object.site as usize) else { return };
        if object.origin == Origin::Told {
            site.freed_bytes += weight * object.size_bytes as f64;
            site.freed_count += weight;
        } else {
            site.inherited_gone.add(object.size_bytes as f64, weight);
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

/// An instant.
struct At {
    ns: u64,
    cycle: u32,
    /// Since the start.
    seconds: f64,
}

/// The live objects of one site, or of all.
#[derive(Clone, Debug, Default)]
struct Live {
    /// Bytes of those that came since the start, and of those that were there.
    new: Moments,
    inherited: Moments,
    count: Moments,
    inherited_count: f64,
    objects: u64,
    ages: AgeHistogram,
    births: Vec<(u64, f64)>,
    cycles: Vec<(u64, f64)>,
}

impl Live {
    fn add(&mut self, object: &Object, weight: f64) {
        let bytes = if object.origin == Origin::Told { &mut self.new } else { &mut self.inherited };
        bytes.add(object.size_bytes as f64, weight);
        self.count.add(1.0, weight);
        self.objects += 1;
        if object.origin != Origin::Told {
            self.inherited_count += weight;
        }
    }

    fn add_age(&mut self, object: &Object, weight: f64, now_ns: u64) {
        add_age(&mut self.ages, object.at_ns, now_ns, weight);
        self.births.push((object.at_ns, weight));
        self.cycles.push((u64::from(object.cycle), weight));
    }

    fn bytes(&self) -> Moments {
        self.new.plus(&self.inherited)
    }

    fn snapshot(mut self, site: &Site, at: &At) -> SiteSnapshot {
        let age_s = |at_ns: u64| seconds_between(at_ns, at.ns);
        let age_cycles = |cycle: u64| at.cycle.saturating_sub(cycle as u32);
        let oldest = |births: &[(u64, f64)]| births.iter().map(|(birth, _)| *birth).min();
        let growth = self.new.estimate().minus(site.inherited_gone.estimate());
        SiteSnapshot {
            stack_id: site.stack_id,
            live_bytes: self.bytes().estimate(),
            live_count: self.count.estimate(),
            allocated_bytes: site.allocated_bytes,
            allocated_count: site.allocated_count,
            freed_count: site.freed_count,
            freed_bytes: site.freed_bytes,
            oldest_age_s: oldest(&self.births).map_or(0.0, age_s),
            median_age_s: median_birth(&mut self.births, false).map_or(0.0, age_s),
            age_histogram: self.ages,
            growth_bytes_per_s: super::gather::per_second(growth, at.seconds),
            go: Some(GoFacts {
                inherited_bytes: self.inherited.estimate().value,
                inherited_count: self.inherited_count,
                sampled_objects: self.objects,
                oldest_age_cycles: oldest(&self.cycles).map_or(0, age_cycles),
                median_age_cycles: median_birth(&mut self.cycles, false).map_or(0, age_cycles),
            }),
        }
    }
}

fn is_wanted(object: &Object, now_ns: u64, filter: &Filter) -> bool {
    filter.older_s.is_none_or(|older_s| seconds_between(object.at_ns, now_ns) >= older_s)
        && filter.min_size_bytes.is_none_or(|min| object.size_bytes >= min)
        && filter.max_size_bytes.is_none_or(|max| object.size_bytes <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(address: u64, size_bytes: u64, stack_id: u64) -> SampledObject {
        SampledObject { address: VirtAddr(address), size_bytes, stack_id }
    }

    fn live(book: &GoBook) -> Vec<u64> {
        let mut live: Vec<u64> = book.live_objects().map(|address| address.0).collect();
        live.sort_unstable();
        live
    }

    /// Everything is sampled, so that numbers are exact.
    fn book() -> GoBook {
        let mut book = GoBook::new(1, 1_000_000_000);
        book.inherit(&[object(8, 100, 1), object(16, 50, 2)], 3, 1_500_000_000);
        book
    }

    #[test]
    fn what_was_there_is_inherited_and_what_comes_grows() {
        let mut book = book();
        book.sampled(&object(24, 64, 1), 2_000_000_000, 4);
        book.freed(VirtAddr(16), 2_500_000_000);
        let snapshot = book.snapshot(3_000_000_000, 6, &Filter::default());
        assert_eq!(snapshot.totals.inherited_bytes, Some(100.0));
        assert!((snapshot.totals.live_bytes.value - 164.0).abs() < 1e-9);
        assert!((snapshot.totals.allocated_bytes - 64.0).abs() < 1e-9);
        assert!(snapshot.totals.freed_bytes.abs() < 1e-9, "inherited ones were not allocated here");
        let site = |id| snapshot.sites.iter().find(|site| site.stack_id == id).expect("a site");
        assert!((site(1).growth_bytes_per_s.value - 32.0).abs() < 1e-9, "64 bytes in 2 s");
        assert!((site(2).growth_bytes_per_s.value + 25.0).abs() < 1e-9, "50 bytes gone in 2 s");
        let facts = site(1).go.expect("facts");
        assert_eq!((facts.oldest_age_cycles, facts.median_age_cycles), (3, 3));
        assert_eq!(facts.sampled_objects, 2);
        assert!((site(1).oldest_age_s - 2.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_told_while_the_heap_is_read_is_not_counted_twice() {
        let mut book = book();
        book.sampled(&object(8, 100, 1), 1_200_000_000, 3);
        book.freed(VirtAddr(99), 1_300_000_000);
        let snapshot = book.snapshot(3_000_000_000, 3, &Filter::default());
        assert_eq!((snapshot.implied_frees, snapshot.unknown_frees), (0, 0));
        assert_eq!(snapshot.totals.inherited_bytes, Some(50.0));
        assert!((snapshot.totals.live_bytes.value - 150.0).abs() < 1e-9);
        book.sampled(&object(8, 10, 1), 1_600_000_000, 3);
        // The one came while the probes did, the other was missed.
        book.freed(VirtAddr(99), 1_600_000_000);
        book.freed(VirtAddr(99), 2_600_000_000);
        let snapshot = book.snapshot(3_000_000_000, 3, &Filter::default());
        assert_eq!((snapshot.implied_frees, snapshot.unknown_frees), (1, 1));
        assert_eq!(live(&book), [8, 16]);
    }

    #[test]
    fn after_a_loss_the_heap_has_the_last_word() {
        let mut book = book();
        book.sampled(&object(24, 64, 1), 2_000_000_000, 4);
        book.resynchronise(&[object(8, 100, 1), object(32, 7, 3)], 5, 2_600_000_000);
        assert_eq!(live(&book), [8, 32]);
        book.sampled(&object(32, 7, 3), 2_500_000_000, 5);
        let snapshot = book.snapshot(3_000_000_000, 5, &Filter::default());
        assert_eq!((snapshot.implied_frees, snapshot.unknown_frees), (0, 0));
        assert!((snapshot.totals.live_bytes.value - 107.0).abs() < 1e-9);
        book.executed();
        assert_eq!(live(&book), [0; 0]);
    }

    #[test]
    fn filters_apply_to_sites_and_not_to_totals() {
        let filter = Filter { min_size_bytes: Some(60), ..Filter::default() };
        let snapshot = book().snapshot(3_000_000_000, 3, &filter);
        let live: f64 = snapshot.sites.iter().map(|site| site.live_bytes.value).sum();
        assert!((live - 100.0).abs() < 1e-9);
        assert!((snapshot.totals.live_bytes.value - 150.0).abs() < 1e-9);
    }
}
