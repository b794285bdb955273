//! The ledger at an instant: what the analysis and the report work on.

/// A number of blocks or bytes: exact when every allocation is recorded, else an estimate with its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The value, or the unbiased estimate of it.
    pub value: f64,
    /// The 95 % interval; both ends equal `value` when it is exact.
    pub ci95: (f64, f64),
}

impl Estimate {
    /// The sum of two independent ones. The distances of their limits are squared and added (Zou and Donner, Statistics in Medicine
    /// 27, 2008).
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let value = self.value + other.value;
        let low = (self.value - self.ci95.0).hypot(other.value - other.ci95.0);
        let high = (self.ci95.1 - self.value).hypot(other.ci95.1 - other.value);
        Self { value, ci95: (value - low, value + high) }
    }

    /// The difference of two independent ones.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let (low, high) = other.ci95;
        self.plus(Self { value: -other.value, ci95: (-high, -low) })
    }
}

/// Upper bounds, in seconds, of the classes of [`SiteSnapshot::age_histogram`]; the last class also holds what is older.
pub const AGE_CLASSES_S: [u64; 6] = [1, 10, 60, 600, 3600, 86_400];

/// One call site (a distinct call stack) and its allocations.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteSnapshot {
    /// Identifier of the call stack.
    pub stack_id: u64,
    /// Outstanding bytes that the program asked for.
    pub live_bytes: Estimate,
    /// Outstanding blocks.
    pub live_count: Estimate,
    /// Bytes allocated since the start.
    pub allocated_bytes: f64,
    /// Blocks allocated since the start.
    pub allocated_count: f64,
    /// Blocks freed since the start, of those counted in `allocated_count`.
    pub freed_count: f64,
    /// Bytes freed since the start.
    pub freed_bytes: f64,
    /// Age of the oldest outstanding block, seconds.
    pub oldest_age_s: f64,
    /// Median age of the outstanding blocks, seconds.
    pub median_age_s: f64,
    /// Outstanding blocks by age: see [`AGE_CLASSES_S`].
    pub age_histogram: [f64; AGE_CLASSES_S.len()],
    /// Change of the live bytes since the window's start, bytes per second, with its 95 % interval.
    pub growth_bytes_per_s: Estimate,
    /// What is known besides when the site allocates in a Go heap.
    pub go: Option<GoFacts>,
}

/// What is known of a call site in a Go heap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GoFacts {
    /// Bytes of `live_bytes` that were there before tracing started; their ages count from then.
    pub inherited_bytes: f64,
    /// Objects of `live_count` that were there.
    pub inherited_count: f64,
    /// Objects that the estimates are made from.
    pub sampled_objects: u64,
    /// Collections that the oldest live object has survived.
    pub oldest_age_cycles: u32,
    /// The median of that.
    pub median_age_cycles: u32,
}

/// Sums over all sites.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Outstanding bytes.
    pub live_bytes: Estimate,
    /// Outstanding blocks.
    pub live_count: Estimate,
    /// Bytes allocated.
    pub allocated_bytes: f64,
    /// Blocks allocated.
    pub allocated_count: f64,
    /// Bytes freed.
    pub freed_bytes: f64,
    /// Blocks freed.
    pub freed_count: f64,
    /// Live bytes that were there before tracing started; `None` when that is not known.
    pub inherited_bytes: Option<f64>,
}

/// The ledger of one process at an instant. Sites are in no particular order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Seconds since tracing started.
    pub seconds: f64,
    /// Seconds of it in which frees were seen, when that ended before: what is live and freed is of that moment.
    pub frees_known_s: Option<f64>,
    /// Sums over all sites, before any filter.
    pub totals: Totals,
    /// Sites with at least one allocation.
    pub sites: Vec<SiteSnapshot>,
    /// Frees of blocks that were not in the ledger: from before tracing, or whose allocation was lost.
    pub unknown_frees: u64,
    /// Blocks whose address was given out again although no free was seen: the free was lost.
    pub implied_frees: u64,
}

impl Snapshot {
    /// With another heap of the same process, which has other sites.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let (a, b) = (self.totals, other.totals);
        Self {
            seconds: self.seconds,
            frees_known_s: self.frees_known_s,
            totals: Totals {
                live_bytes: a.live_bytes.plus(b.live_bytes),
                live_count: a.live_count.plus(b.live_count),
                allocated_bytes: a.allocated_bytes + b.allocated_bytes,
                allocated_count: a.allocated_count + b.allocated_count,
                freed_bytes: a.freed_bytes + b.freed_bytes,
                freed_count: a.freed_count + b.freed_count,
                inherited_bytes: a.inherited_bytes.or(b.inherited_bytes),
            },
            sites: self.sites.into_iter().chain(other.sites).collect(),
            unknown_frees: self.unknown_frees + other.unknown_frees,
            implied_frees: self.implied_frees + other.implied_frees,
        }
    }
}

/// Which outstanding blocks a report counts as live.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only blocks at least this old, seconds.
    pub older_s: Option<f64>,
    /// Only blocks of at least this size, bytes.
    pub min_size_bytes: Option<u64>,
    /// Only blocks of at most this size, bytes.
    pub max_size_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_sum_or_difference_holds_both() {
        let a = Estimate { value: 10.0, ci95: (7.0, 14.0) };
        let b = Estimate { value: 4.0, ci95: (1.0, 8.0) };
        let near = |found: Estimate, value: f64, low: f64, high: f64| {
            let (a, b) = found.ci95;
            (found.value - value).abs() + (a - low).abs() + (b - high).abs() < 1e-9
        };
        assert!(near(a.minus(b), 6.0, 1.0, 11.0));
        assert!(near(a.plus(b), 14.0, 14.0 - 18_f64.sqrt(), 14.0 + 32_f64.sqrt()));
        let exact = Estimate { value: 5.0, ci95: (5.0, 5.0) };
        assert!(near(a.plus(exact), 15.0, 12.0, 19.0));
    }
}
