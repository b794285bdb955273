//! Ages of outstanding blocks: histogram and median.

use crate::ledger::snapshot::AGE_CLASSES_S;

/// Outstanding blocks by age: see [`AGE_CLASSES_S`].
pub(super) type AgeHistogram = [f64; AGE_CLASSES_S.len()];

/// Seconds from one moment to another, 0 when it lies before.
pub(super) fn seconds_between(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}

/// Adds a block of this age that stands for `weight` blocks.
pub(super) fn add_age(histogram: &mut AgeHistogram, at_ns: u64, now_ns: u64, weight: f64) {
    let age_s = now_ns.saturating_sub(at_ns) / 1_000_000_000;
    let class = AGE_CLASSES_S.iter().position(|bound| age_s < *bound);
    if let Some(sum) = histogram.get_mut(class.unwrap_or(AGE_CLASSES_S.len() - 1)) {
        *sum += weight;
    }
}

/// The moment before which half of the blocks were allocated; each is given with how many it stands for. Changes their
/// order.
pub(super) fn median_birth(births: &mut [(u64, f64)], are_equal: bool) -> Option<u64> {
    if are_equal && !births.is_empty() {
        let middle = births.len().div_ceil(2) - 1;
        return Some(births.select_nth_unstable_by_key(middle, |(at_ns, _)| *at_ns).1.0);
    }
    births.sort_unstable_by_key(|(at_ns, _)| *at_ns);
    let half = births.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut before = 0.0;
    births
        .iter()
        .find(|(_, weight)| {
            before += weight;
            before >= half
        })
        .map(|(at_ns, _)| *at_ns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equal_weights_have_the_same_median_either_way(births in proptest::collection::vec(0_u64..100, 0..50)) {
            let births: Vec<(u64, f64)> = births.into_iter().map(|at_ns| (at_ns, 1.0)).collect();
            prop_assert_eq!(
                median_birth(&mut births.clone(), true),
                median_birth(&mut births.clone(), false)
            );
        }
    }

    #[test]
    fn a_heavy_block_is_the_median() {
        assert_eq!(median_birth(&mut [(3, 1.0), (1, 1.0), (2, 5.0)], false), Some(2));
        assert_eq!(median_birth(&mut [], true), None);
    }

    #[test]
    fn what_is_older_than_all_classes_is_in_the_last() {
        let mut histogram = AgeHistogram::default();
        add_age(&mut histogram, 0, 500_000_000, 2.0);
        add_age(&mut histogram, 0, 1_000_000_000_000_000, 3.0);
        assert_eq!(histogram.map(|count| count as u64), [2, 0, 0, 0, 0, 3]);
    }
}
