//! From sampled blocks to unbiased estimates with their 95 % intervals.
//!
//! A block of `s` bytes is sampled with probability `p = 1 - exp(-s / mean)`, so it stands for `1 / p` blocks. The
//! interval is Fay and Feuer's for a weighted sum of Poisson counts (Statistics in Medicine 16, 1997): it holds its
//! level for few samples too, where a normal interval does not. The variance counts `1 - p`, so blocks that are always
//! sampled add none.

use crate::ledger::snapshot::Estimate;

/// Blocks that one sampled block of this size stands for; 1 when every allocation is recorded (`mean_bytes` 0).
pub fn weight(size_bytes: u64, mean_bytes: u64) -> f64 {
    if mean_bytes == 0 {
        return 1.0;
    }
    // malloc(0) is never sampled: the countdown does not move.
    let share = -(-(size_bytes.max(1) as f64) / mean_bytes as f64).exp_m1();
    1.0 / share
}

/// Blocks that a block stands for when the process's own sampler says how many bytes it does.
pub fn reported_weight(size_bytes: u64, weighted_bytes: u64) -> f64 {
    weighted_bytes as f64 / size_bytes.max(1) as f64
}

/// Sums that an estimate is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    sum: f64,
    variance: f64,
    largest: f64,
}

impl Moments {
    /// Adds a sampled block that stands for `weight` blocks, each of this value (1 for counts, its size for bytes).
    pub fn add(&mut self, value: f64, weight: f64) {
        self.add_many(1, value, weight);
    }

    /// Adds so many sampled blocks that are alike.
    pub fn add_many(&mut self, blocks: u64, value: f64, weight: f64) {
        let weighted = value * weight;
        self.sum += weighted * blocks as f64;
        let uncertain = 1.0 - 1.0 / weight;
        if uncertain > 0.0 && blocks > 0 {
            self.variance += weighted * weighted * uncertain * blocks as f64;
            self.largest = self.largest.max(weighted);
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            sum: self.sum + other.sum,
            variance: self.variance + other.variance,
            largest: self.largest.max(other.largest),
        }
    }

    /// The estimate and its interval.
    pub fn estimate(&self) -> Estimate {
        if self.variance <= 0.0 {
            return Estimate { value: self.sum, ci95: (self.sum, self.sum) };
        }
        let low = scaled_gamma(self.sum, self.variance, -Z_975);
        let more = self.largest;
        let high = scaled_gamma(self.sum + more, self.variance + more * more, Z_975);
        Estimate { value: self.sum, ci95: (low.clamp(0.0, self.sum), high.max(self.sum)) }
    }
}

/// The 97.5 % quantile of the normal distribution.
const Z_975: f64 = 1.959_964;

/// Quantile of a gamma distribution with this mean and variance, by Wilson and Hilferty's cube.
fn scaled_gamma(mean: f64, variance: f64, z: f64) -> f64 {
    let freedom = 2.0 * mean * mean / variance;
    let ninth = 2.0 / (9.0 * freedom);
    let root = (1.0 - ninth + z * ninth.sqrt()).max(0.0);
    mean * root * root * root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_recorded_is_exact() {
        let mut moments = Moments::default();
        moments.add(100.0, weight(100, 0));
        moments.add(50.0, weight(50, 0));
        assert_eq!(moments.estimate(), Estimate { value: 150.0, ci95: (150.0, 150.0) });
    }

    #[test]
    fn many_at_once_are_as_many_one_by_one() {
        let (mut one_by_one, mut at_once) = (Moments::default(), Moments::default());
        for _ in 0..5 {
            one_by_one.add(64.0, weight(64, 4096));
        }
        at_once.add_many(5, 64.0, weight(64, 4096));
        at_once.add_many(0, 1e9, weight(64, 4096));
        let difference = one_by_one.estimate().ci95.1 - at_once.estimate().ci95.1;
        assert!(difference.abs() < 1e-6, "{difference}");
    }

    #[test]
    fn few_samples_have_the_exact_poisson_interval() {
        // 3 samples of weight 1000: the exact 95 % interval of a Poisson count of 3 is 0.619 to 8.77.
        let mut moments = Moments::default();
        for _ in 0..3 {
            moments.add(1.0, 1000.0);
        }
        let estimate = moments.estimate();
        assert!((estimate.ci95.0 / 1000.0 - 0.619).abs() < 0.1, "{estimate:?}");
        assert!((estimate.ci95.1 / 1000.0 - 8.77).abs() < 0.1, "{estimate:?}");
    }

    #[test]
    fn sampling_is_unbiased_and_its_interval_holds() {
        use tracer_common::sampling::interval_bytes;
        let mean_bytes = 4096;
        let mut state = 12345_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        let (runs, mut inside, mut error_sum) = (1000, 0, 0.0);
        for _ in 0..runs {
            let (mut truth, mut moments) = (0.0, Moments::default());
            let mut left = interval_bytes(random(), mean_bytes);
            for _ in 0..500 {
                let size = u64::from(random() % 2000) + 16;
                truth += size as f64;
                left -= size as i64;
                if left <= 0 {
                    moments.add(size as f64, weight(size, mean_bytes));
                    left = interval_bytes(random(), mean_bytes);
                }
            }
            let estimate = moments.estimate();
            error_sum += estimate.value / truth - 1.0;
            inside += i32::from(estimate.ci95.0 <= truth && truth <= estimate.ci95.1);
        }
        assert!(inside >= 930, "{inside} of {runs}");
        let error = error_sum / f64::from(runs);
        assert!(error.abs() < 0.01, "{error}");
    }
}
