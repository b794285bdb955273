//! Call sites from buckets: those of one stack together, scaled to what the samples stand for, with their intervals.
//!
//! In: the heap profile and the live sampled objects. Out: [`ProfileSites`], largest first. Values are pprof's to the byte; intervals are those
//! of Poisson samples ([`Moments`]), whose mean is the runtime's sampling rate.

use std::collections::HashMap;

use crate::golang::buckets::{Buckets, Counts, scale};
use crate::golang::specials::Specials;
use crate::ledger::estimate::{Moments, weight};
use crate::ledger::snapshot::Estimate;
use crate::target::VirtAddr;

/// A call stack and what it has in use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProfileSite {
    /// Return addresses, innermost first.
    pub(super) stack: Vec<VirtAddr>,
    /// Bytes in use after the last finished collection.
    pub(super) live_bytes: Estimate,
    /// Objects in use after the last finished collection.
    pub(super) live_count: Estimate,
    /// Bytes allocated since the program started.
    pub(super) allocated_bytes: u64,
    /// Objects allocated since the program started.
    pub(super) allocated_count: u64,
    /// Bytes in use with what was allocated since the last finished collection.
    pub(super) now_bytes: u64,
    /// Objects in use with what was allocated since the last finished collection.
    pub(super) now_count: u64,
    /// Sampled objects found alive.
    pub(super) sampled_objects: Option<u64>,
}

/// All sites.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProfileSites {
    /// Most bytes in use first; equal ones by their stack.
    pub(super) list: Vec<ProfileSite>,
    /// Sums; without a stack.
    pub(super) totals: ProfileSite,
}

impl ProfileSites {
    /// Puts the buckets together by stack.
    pub(super) fn of(buckets: &Buckets, specials: Option<&Specials>, rate: u64) -> Self {
        let alive = specials.map(by_bucket);
        let mut sums: HashMap<&[VirtAddr], Sum> = HashMap::new();
        let mut total = Sum::default();
        for (bucket, published) in buckets.list.iter().zip(buckets.published()) {
            let alive = alive.as_ref().map(|a| a.get(&bucket.address).copied().unwrap_or(0));
            let sampled = Sampled { published, now: bucket.now(), alive };
            sums.entry(&bucket.stack).or_default().add(bucket.object_bytes, sampled, rate);
            total.add(bucket.object_bytes, sampled, rate);
        }
        let sites = sums.into_iter().map(|(stack, sum)| sum.site(stack.to_vec()));
        let mut list: Vec<_> = sites.collect();
        list.sort_by(|a, b| {
            let by_use = b.live_bytes.value.total_cmp(&a.live_bytes.value);
            by_use
                .then(b.allocated_bytes.cmp(&a.allocated_bytes))
                .then_with(|| a.stack.cmp(&b.stack))
        });
        Self { list, totals: total.site(Vec::new()) }
    }
}

/// What is known of a bucket's samples.
#[derive(Clone, Copy)]
struct Sampled {
    published: Counts,
    now: Counts,
    alive: Option<u64>,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    live: (u64, u64),
    allocated: (u64, u64),
    now: (u64, u64),
    alive: Option<u64>,
    bytes: Moments,
    count: Moments,
}

impl Sum {
    fn add(&mut self, object_bytes: u64, sampled: Sampled, rate: u64) {
        let Sampled { published, now, alive } = sampled;
        let in_use = |counts: Counts| scale(counts.in_use(), counts.in_use_bytes(), rate);
        let more = |sum: &mut (u64, u64), (count, bytes): (u64, u64)| {
            *sum = (sum.0.saturating_add(count), sum.1.saturating_add(bytes));
        };
        more(&mut self.live, in_use(published));
        more(&mut self.now, in_use(now));
        more(&mut self.allocated, scale(published.allocs, published.alloc_bytes, rate));
        if let Some(alive) = alive {
            self.alive = Some(self.alive.unwrap_or(0).saturating_add(alive));
        }
        let weight = weight(object_bytes, if rate <= 1 { 0 } else { rate });
        self.bytes.add_many(published.in_use(), object_bytes as f64, weight);
        self.count.add_many(published.in_use(), 1.0, weight);
    }

    fn site(self, stack: Vec<VirtAddr>) -> ProfileSite {
        ProfileSite {
            stack,
            live_bytes: around(self.live.1, self.bytes),
            live_count: around(self.live.0, self.count),
            allocated_bytes: self.allocated.1,
            allocated_count: self.allocated.0,
            now_bytes: self.now.1,
            now_count: self.now.0,
            sampled_objects: self.alive,
        }
    }
}

/// pprof's value, which is rounded down, with the interval of its samples.
fn around(value: u64, moments: Moments) -> Estimate {
    let value = value as f64;
    let (low, high) = moments.estimate().ci95;
    Estimate { value, ci95: (low.min(value), high.max(value)) }
}

fn by_bucket(specials: &Specials) -> HashMap<VirtAddr, u64> {
    let mut alive = HashMap::new();
    for object in &specials.objects {
        *alive.entry(object.bucket).or_default() += 1;
    }
    alive
}

/// How far profile and live objects are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disagreement {
    /// Buckets with another number of live objects than they say.
    pub(super) sites: u64,
    /// Objects too many or too few.
    pub(super) objects: u64,
}

/// Compares the number of live objects of each bucket with what the bucket says.
pub(super) fn disagreement(buckets: &Buckets, specials: &Specials) -> Disagreement {
    let alive = by_bucket(specials);
    let mut found = Disagreement { sites: 0, objects: 0 };
    for bucket in &buckets.list {
        let alive = alive.get(&bucket.address).copied().unwrap_or(0);
        let difference = bucket.now().in_use().abs_diff(alive);
        found.sites += u64::from(difference > 0);
        found.objects = found.objects.saturating_add(difference);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::buckets::Bucket;
    use crate::golang::specials::SampledObject;

    const RATE: u64 = 512 << 10;

    fn buckets() -> Buckets {
        Buckets {
            list: vec![
                Bucket::sample(0x10, 64, &[1, 2], [3, 1], 4),
                Bucket::sample(0x20, 1 << 20, &[1, 2], [5, 0], 0),
                Bucket::sample(0x30, 4096, &[7], [9, 9], 0),
            ],
            ..Buckets::default()
        }
    }

    fn specials(of: &[u64]) -> Specials {
        let object = |bucket: &u64| SampledObject {
            address: VirtAddr(0),
            bytes: 0,
            bucket: VirtAddr(*bucket),
        };
        Specials { objects: of.iter().map(object).collect(), ..Specials::default() }
    }

    #[test]
    fn buckets_of_one_stack_are_one_site_scaled_one_by_one() {
        let alive = specials(&[0x10, 0x10, 0x20]);
        let sites = ProfileSites::of(&buckets(), Some(&alive), RATE);
        assert_eq!(sites.list.len(), 2);
        let first = &sites.list[0];
        let (small, large) = (scale(2, 128, RATE), scale(5, 5 << 20, RATE));
        assert_eq!(first.live_bytes.value as u64, small.1 + large.1);
        assert_eq!(first.live_count.value as u64, small.0 + large.0);
        assert_eq!(first.now_count, scale(6, 384, RATE).0 + large.0);
        assert_eq!(first.sampled_objects, Some(3));
        let (low, high) = first.live_bytes.ci95;
        assert!(low < first.live_bytes.value && first.live_bytes.value < high);
        assert_eq!(sites.list[1].live_bytes, Estimate::default());
        assert_eq!(sites.list[1].allocated_bytes, scale(9, 9 * 4096, RATE).1);
        assert_eq!(sites.totals.live_bytes.value.to_bits(), first.live_bytes.value.to_bits());
    }

    #[test]
    fn when_everything_is_recorded_numbers_are_exact() {
        let sites = ProfileSites::of(&buckets(), None, 1);
        let exact = f64::from((5 << 20) + 128);
        assert_eq!(sites.totals.live_bytes, Estimate { value: exact, ci95: (exact, exact) });
        assert_eq!(sites.list[0].sampled_objects, None);
    }

    #[test]
    fn absurd_numbers_take_no_time_and_do_not_overflow() {
        let mut buckets = buckets();
        let absurd = Bucket::sample(0x40, 1, &[9], [u64::MAX, 0], 0);
        buckets.list.extend([absurd.clone(), absurd]);
        let sites = ProfileSites::of(&buckets, None, 1);
        assert_eq!(sites.totals.allocated_bytes, u64::MAX);
    }

    #[test]
    fn disagreement_is_counted_in_sites_and_objects() {
        let alive = specials(&[0x20, 0x20, 0x20, 0x20, 0x20, 0x99]);
        let found = disagreement(&buckets(), &alive);
        assert_eq!(found, Disagreement { sites: 1, objects: 6 });
    }
}
