//! What a process and its call sites held, moment by moment.
//!
//! In: report after report, or what a recording kept. Out: a [`Timeline`] in the last report, and of its largest sites what each held at the
//! same moments. Bounded, however long it was: of moments close together the one with the most live bytes stays, so that no peak goes.

use std::collections::HashMap;

use super::model::Report;
use super::profile::unix_ms;
use super::site_key::SiteKey;

/// Most moments: about as many as a page has columns.
pub const MAX_MOMENTS: usize = 800;
/// Most sites with a line of their own.
pub const MAX_SITES: usize = 200;
/// Most sites that are followed to find these.
const MAX_FOLLOWED: usize = 4096;

/// What a process held, moment by moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The moments, milliseconds since 1970.
    pub at_ms: Vec<i64>,
    /// Live bytes of all sites then.
    pub live_bytes: Vec<u64>,
    /// Where counts begin anew.
    pub breaks: Vec<Break>,
    /// What a reader must know of it.
    pub notes: Vec<String>,
}

/// A moment at which counts begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The first moment after it, by its place.
    pub first: usize,
    /// Why.
    pub why: String,
}

/// The moments to draw of so many, by their places, in their order: the first, the last, and of each group the one with the most.
pub fn drawn(live_bytes: &[u64]) -> Vec<usize> {
    let count = live_bytes.len();
    if count <= MAX_MOMENTS {
        return (0..count).collect();
    }
    let group = (count - 2).div_ceil(MAX_MOMENTS - 2);
    let inner: Vec<usize> = (1..count - 1).collect();
    let most = |group: &[usize]| group.iter().copied().max_by_key(|place| live_bytes[*place]);
    let kept = inner.chunks(group).filter_map(most);
    [0].into_iter().chain(kept).chain([count - 1]).collect()
}

/// What is said of moments that are not drawn.
pub fn thinned_out(drawn: usize, all: usize) -> Option<String> {
    (drawn < all).then(|| {
        format!("{drawn} of {all} moments are drawn: of those close together the one with the most live bytes")
    })
}

/// Says which sites have a line.
pub fn sites_without_line(sites: usize) -> Option<String> {
    (sites > MAX_SITES)
        .then(|| format!("the {MAX_SITES} sites with the most live bytes have a line, of {sites}"))
}

/// The reports of a process so far.
#[derive(Debug, Default)]
pub struct Course {
    at_ms: Vec<i64>,
    live_bytes: Vec<u64>,
    /// By site, as long as the others or shorter: no value is 0.
    sites: HashMap<SiteKey, Vec<u64>>,
    reports: usize,
}

impl Course {
    /// Adds a report.
    pub fn add(&mut self, report: &Report) {
        if self.at_ms.len() == MAX_MOMENTS {
            self.halve();
        }
        let place = self.at_ms.len();
        self.at_ms.push(unix_ms(&report.window.end));
        self.live_bytes.push(report.totals.live_bytes);
        self.reports += 1;
        for site in report.sites.iter().filter(|site| site.live_bytes > 0) {
            let key = SiteKey::of(site);
            if self.sites.len() == MAX_FOLLOWED && !self.sites.contains_key(&key) {
                continue;
            }
            let held = self.sites.entry(key).or_default();
            held.resize(place + 1, 0);
            // Sites that look alike share a line.
            held[place] = held[place].saturating_add(site.live_bytes);
        }
    }

    /// Keeps of two moments the one with more.
    fn halve(&mut self) {
        let at = |values: &[u64], place: usize| values.get(place).copied().unwrap_or(0);
        let kept: Vec<usize> = (0..self.at_ms.len())
            .step_by(2)
            .map(|place| {
                let is_later = at(&self.live_bytes, place + 1) > at(&self.live_bytes, place);
                (place + usize::from(is_later)).min(self.at_ms.len() - 1)
            })
            .collect();
        self.at_ms = kept.iter().map(|place| self.at_ms[*place]).collect();
        let halved = |values: &[u64]| kept.iter().map(|place| at(values, *place)).collect();
        self.live_bytes = halved(&self.live_bytes);
        for held in self.sites.values_mut() {
            *held = halved(held);
        }
    }

    /// Puts it into the last report. A course of one moment is none.
    pub fn put_into(mut self, report: &mut Report) {
        let moments = self.at_ms.len();
        if moments < 2 {
            return;
        }
        for place in largest(report) {
            let site = &mut report.sites[place];
            let mut held = self.sites.remove(&SiteKey::of(site)).unwrap_or_default();
            held.resize(moments, 0);
            site.history = held;
        }
        let notes = [thinned_out(moments, self.reports), sites_without_line(report.sites.len())];
        report.timeline = Some(Timeline {
            at_ms: self.at_ms,
            live_bytes: self.live_bytes,
            breaks: Vec::new(),
            notes: notes.into_iter().flatten().collect(),
        });
    }
}

/// The sites that have a line, by their places.
pub fn largest(report: &Report) -> Vec<usize> {
    let mut places: Vec<usize> = (0..report.sites.len()).collect();
    places.sort_by_key(|place| std::cmp::Reverse(report.sites[*place].live_bytes));
    places.truncate(MAX_SITES);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// One report a second, with a peak.
    fn course(reports: u64, peak: u64) -> Report {
        let mut course = Course::default();
        let mut report = fixture::report(None, 10);
        // Each site at an address of its own.
        let frames = report.sites.iter_mut().flat_map(|site| &mut site.frames);
        (1..).zip(frames).for_each(|(number, frame)| frame.offset = number * 16);
        for second in 0..reports {
            report.window.end = humantime::format_rfc3339(
                std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000 + second),
            )
            .to_string();
            report.totals.live_bytes = if second == peak { 1 << 40 } else { second };
            report.sites[0].live_bytes = second + 1;
            course.add(&report);
        }
        course.put_into(&mut report);
        report
    }

    #[test]
    fn a_course_has_every_moment_while_there_are_few() {
        let report = course(5, 2);
        let timeline = report.timeline.expect("a timeline");
        assert_eq!(timeline.live_bytes, [0, 1, 1 << 40, 3, 4]);
        assert_eq!(timeline.at_ms[4] - timeline.at_ms[0], 4000);
        assert_eq!(report.sites[0].history, [1, 2, 3, 4, 5]);
        assert!(timeline.notes.is_empty());
    }

    #[test]
    fn a_long_course_is_bounded_and_keeps_its_peak() {
        let report = course(10_000, 3333);
        let timeline = report.timeline.expect("a timeline");
        let moments = timeline.at_ms.len();
        assert!((MAX_MOMENTS / 2..=MAX_MOMENTS).contains(&moments), "{moments}");
        assert!(timeline.live_bytes.contains(&(1 << 40)));
        assert!(timeline.at_ms.is_sorted());
        assert_eq!(report.sites[0].history.len(), moments);
        assert!(timeline.notes[0].starts_with(&format!("{moments} of 10000 moments")));
    }

    #[test]
    fn one_moment_is_no_course() {
        assert_eq!(course(1, 0).timeline, None);
    }

    #[test]
    fn what_is_drawn_has_both_ends_and_every_peak() {
        let mut values: Vec<u64> = (0..100_000).map(|place| place % 10).collect();
        values[54_321] = 1000;
        let drawn = drawn(&values);
        assert!(drawn.len() <= MAX_MOMENTS && drawn.is_sorted());
        assert_eq!((drawn.first(), drawn.last()), (Some(&0), Some(&99_999)));
        assert!(drawn.contains(&54_321));
    }
}
