//! Poisson sampling by bytes: the interval to the next sample, and the weight of a sampled block.
//!
//! A countdown of exponentially distributed length runs over the bytes requested; the allocation that exhausts it is
//! sampled. The exponential distribution has no memory, so one countdown per CPU is as right as one per thread, and an
//! allocation of `s` bytes is sampled with probability `1 - exp(-s / mean)`.

/// How often the mean can be doubled while tracing goes on.
pub const MAX_DOUBLINGS: u32 = 16;

/// The mean after so many doublings; 0, which records everything, stays 0.
pub const fn doubled(mean_bytes: u64, doublings: u32) -> u64 {
    mean_bytes << if doublings < MAX_DOUBLINGS { doublings } else { MAX_DOUBLINGS }
}

/// What an allocation takes from a countdown that was started by [`countdown`]. Where the mean was doubled each byte counts
/// half, so that the mean can change for one process at any moment, and countdowns that run go on: an exponential interval
/// does not remember how long it has run.
pub const fn countdown_bytes(size_bytes: u64, doublings: u32) -> i64 {
    const MOST_BYTES: u64 = 1 << 46;
    let size_bytes = if size_bytes < MOST_BYTES { size_bytes } else { MOST_BYTES };
    let halvings = if doublings < MAX_DOUBLINGS { doublings } else { MAX_DOUBLINGS };
    (size_bytes << (MAX_DOUBLINGS - halvings)) as i64
}

/// A countdown to the next sample, in the unit of [`countdown_bytes`].
pub fn countdown(random: u32, mean_bytes: u64) -> i64 {
    interval_bytes(random, mean_bytes) << MAX_DOUBLINGS
}

/// Fixed-point fraction bits of [`negative_ln`].
const FRACTION_BITS: u32 = 24;
/// Mantissa bits that index [`LOG2_TABLE`].
const TABLE_BITS: u32 = 6;

/// `log2(1 + i/64)` for i in 0..=64, in units of 2^-24.
static LOG2_TABLE: [u32; (1 << TABLE_BITS) + 1] = log2_table();

/// `log2(1 + i/64)` by repeated squaring, at compile time: floating point is not available to kernel programs.
const fn log2_table() -> [u32; (1 << TABLE_BITS) + 1] {
    let mut table = [0; (1 << TABLE_BITS) + 1];
    let mut i = 0;
    while i <= 1 << TABLE_BITS {
        // x in [1, 2], 62 fraction bits
        let mut x = ((1_u128 << TABLE_BITS) + i as u128) << (62 - TABLE_BITS);
        let mut log = 0_u32;
        let mut bit = 0;
        while bit < FRACTION_BITS {
            log <<= 1;
            x = (x * x) >> 62;
            if x >= 2 << 62 {
                x >>= 1;
                log |= 1;
            }
            bit += 1;
        }
        table[i] = log;
        i += 1;
    }
    table[1 << TABLE_BITS] = 1 << FRACTION_BITS;
    table
}

/// `-ln((random + 1) / 2^32)` in units of 2^-24. The error is below 1e-4.
pub fn negative_ln(random: u32) -> u64 {
    let u = u64::from(random) + 1;
    let exponent = u.checked_ilog2().unwrap_or(0);
    // The mantissa below the leading one, as a 32-bit fraction.
    let fraction = ((u << (63 - exponent)) << 1) >> 32;
    let index = (fraction >> (32 - TABLE_BITS)) as usize & ((1 << TABLE_BITS) - 1);
    let rest = (fraction << TABLE_BITS) & 0xffff_ffff;
    let (Some(low), Some(high)) = (LOG2_TABLE.get(index), LOG2_TABLE.get(index + 1)) else {
        return 0;
    };
    let step = u64::from(*high - *low);
    let log2_mantissa = u64::from(*low) + ((step * rest) >> 32);
    let log2 = (u64::from(exponent) << FRACTION_BITS) + log2_mantissa;
    let negative_log2 = (32_u64 << FRACTION_BITS) - log2;
    // ln 2 in units of 2^-24
    (negative_log2 * 11_629_080) >> FRACTION_BITS
}

/// Bytes until the next sample: exponentially distributed with this mean, at least 1.
///
/// `random` is a uniformly distributed number, `mean_bytes` below 2^32.
pub fn interval_bytes(random: u32, mean_bytes: u64) -> i64 {
    ((negative_ln(random) * mean_bytes) >> FRACTION_BITS) as i64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_is_accurate_over_the_whole_range() {
        for exponent in 0..32 {
            for step in 0..97_u64 {
                let random = (((1_u64 << exponent) - 1) + ((1_u64 << exponent) * step) / 97) as u32;
                let exact = -((f64::from(random) + 1.0) / 4_294_967_296.0).ln();
                let got = negative_ln(random) as f64 / f64::from(1 << FRACTION_BITS);
                assert!((got - exact).abs() < 1e-4, "{random}: {got} {exact}");
            }
        }
    }

    #[test]
    fn a_byte_counts_half_where_the_mean_was_doubled() {
        assert_eq!(countdown_bytes(8, 0), 2 * countdown_bytes(8, 1));
        assert_eq!(countdown_bytes(1, MAX_DOUBLINGS), 1);
        assert_eq!(countdown_bytes(1, u32::MAX), 1);
        assert!(countdown_bytes(u64::MAX, 0) > countdown(0, u64::from(u32::MAX)));
        assert_eq!((doubled(512, 3), doubled(0, 3)), (4096, 0));
    }

    #[test]
    fn a_mean_doubled_meanwhile_samples_as_often_as_it_should() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        let mut left = countdown(random(), 1000);
        let mut sampled = [0_u32; 3];
        for round in 0..3_000_000_u32 {
            // The doublings change every few allocations.
            let doublings = (round / 7) % 3;
            left -= countdown_bytes(100, doublings);
            if left <= 0 {
                left = countdown(random(), 1000);
                sampled[doublings as usize] += 1;
            }
        }
        for (doublings, count) in (0..).zip(sampled) {
            let share = -(-100.0 / doubled(1000, doublings) as f64).exp_m1();
            let expected = share * 1_000_000.0;
            assert!((f64::from(count) / expected - 1.0).abs() < 0.02, "{count} {expected}");
        }
    }

    #[test]
    fn intervals_have_the_mean_and_the_spread_of_an_exponential() {
        let mean = 512.0 * 1024.0;
        // Every residue of a full-period generator: no luck involved.
        let mut state = 1_u32;
        let (mut sum, mut squares, n) = (0.0, 0.0, 1_000_000);
        for _ in 0..n {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = interval_bytes(state, 512 * 1024) as f64;
            sum += x;
            squares += x * x;
        }
        let got_mean = sum / f64::from(n);
        let deviation = (squares / f64::from(n) - got_mean * got_mean).sqrt();
        assert!((got_mean / mean - 1.0).abs() < 0.005, "{got_mean}");
        assert!((deviation / mean - 1.0).abs() < 0.01, "{deviation}");
    }
}
