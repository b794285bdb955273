//! The numbers of a site, as a row of integers.
//!
//! In: a [`Site`]. Out: a [`Row`] and, from one, the site again. Seconds and bytes a second are kept in thousandths, as reports round
//! them.

use crate::ledger::snapshot::AGE_CLASSES_S;
use crate::report::model::{FollowedGoSite, GoSite, Site};

/// How many numbers a site has. What they are: [`row`].
pub(super) const COLUMNS: usize = 30;

/// The numbers of a site in one snapshot.
pub(super) type Row = [i64; COLUMNS];

/// Where in a row it says whether the site was in the report.
pub(super) const PRESENT: usize = 0;
/// Where its live bytes are.
pub(super) const LIVE_BYTES: usize = 1;
/// Where the words are, as ids of strings.
pub(super) const VERDICT: usize = 26;
pub(super) const REASON: usize = 27;
pub(super) const RETAINED_BY: usize = 28;
/// Bytes freed and one more; 0 when they are not known, as in recordings from before there was this number.
const FREED_BYTES: usize = 29;
/// How many numbers a site has in every recording.
pub(super) const LEAST_COLUMNS: usize = FREED_BYTES;

/// In place of a number that is not known.
pub(super) const NONE: i64 = i64::MIN;

const AGES: usize = 13;
const GO: usize = 19;

/// The row of a site, without its words.
pub(super) fn row(site: &Site) -> Row {
    let mut row = [NONE; COLUMNS];
    let [low, high] = site.live_bytes_ci95;
    let growth = site.growth_ci95.unwrap_or([f64::NAN; 2]);
    let first = [
        1,
        site.live_bytes as i64,
        low as i64,
        high as i64,
        site.live_count as i64,
        site.allocated_bytes as i64,
        site.allocated_count as i64,
        site.freed_count as i64,
        thousandths(site.oldest_age_s.unwrap_or(f64::NAN)),
        thousandths(site.median_age_s.unwrap_or(f64::NAN)),
        thousandths(site.growth_bytes_per_s.unwrap_or(f64::NAN)),
        thousandths(growth[0]),
        thousandths(growth[1]),
    ];
    let ages = site.age_histogram_s.iter().map(|(_, count)| *count as i64);
    let ages = ages.chain(std::iter::repeat(NONE)).take(AGE_CLASSES_S.len());
    let values = first.into_iter().chain(ages).chain(site.go.as_ref().map_or([NONE; 7], go_part));
    row.iter_mut().zip(values).for_each(|(place, value)| *place = value);
    row[FREED_BYTES] =
        site.freed_bytes.map_or(0, |freed_bytes| freed_bytes.saturating_add(1) as i64);
    row
}

fn go_part(go: &GoSite) -> [i64; 7] {
    let known = |value: Option<u64>| value.map_or(NONE, |value| value as i64);
    let followed = go.followed.as_ref();
    [
        go.now_bytes as i64,
        go.now_count as i64,
        known(go.sampled_objects),
        known(followed.map(|followed| followed.inherited_bytes)),
        known(followed.map(|followed| followed.inherited_count)),
        known(followed.map(|followed| u64::from(followed.oldest_age_cycles))),
        known(followed.map(|followed| u64::from(followed.median_age_cycles))),
    ]
}

/// Gives a site the numbers of a row.
pub(super) fn fill(site: &mut Site, row: &Row) {
    let number = |place: usize| row[place] as u64;
    site.live_bytes = number(LIVE_BYTES);
    site.live_bytes_ci95 = [number(2), number(3)];
    site.live_count = number(4);
    site.allocated_bytes = number(5);
    site.allocated_count = number(6);
    site.freed_count = number(7);
    site.freed_bytes = number(FREED_BYTES).checked_sub(1);
    site.oldest_age_s = from_thousandths(row[8]);
    site.median_age_s = from_thousandths(row[9]);
    site.growth_bytes_per_s = from_thousandths(row[10]);
    site.growth_ci95 =
        from_thousandths(row[11]).zip(from_thousandths(row[12])).map(|(low, high)| [low, high]);
    let ages = AGE_CLASSES_S.into_iter().zip(&row[AGES..GO]);
    site.age_histogram_s = ages
        .filter(|(_, count)| **count != NONE)
        .map(|(class, count)| (class, *count as u64))
        .collect();
    site.go = known(row[GO]).map(|now_bytes| GoSite {
        now_bytes,
        now_count: number(GO + 1),
        sampled_objects: known(row[GO + 2]),
        followed: known(row[GO + 3]).map(|inherited_bytes| FollowedGoSite {
            inherited_bytes,
            inherited_count: number(GO + 4),
            oldest_age_cycles: number(GO + 5) as u32,
            median_age_cycles: number(GO + 6) as u32,
        }),
    });
}

fn known(value: i64) -> Option<u64> {
    (value != NONE).then_some(value as u64)
}

/// Thousandths of a finite number.
fn thousandths(value: f64) -> i64 {
    if value.is_finite() { (value * 1e3).round() as i64 } else { NONE }
}

fn from_thousandths(value: i64) -> Option<f64> {
    (value != NONE).then_some(value as f64 / 1e3)
}
