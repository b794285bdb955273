//! What each call site held in the last minute.
//!
//! In: report after report. Out: the last values of a site's live bytes, oldest first.

use std::collections::{HashMap, VecDeque};

use crate::report::model::Report;
use crate::report::site_key::SiteKey;

/// Values kept for each site.
pub(super) const KEPT: usize = 60;

/// The trails of all sites of a process.
#[derive(Default)]
pub(super) struct Trails {
    by_site: HashMap<SiteKey, VecDeque<u64>>,
}

impl Trails {
    /// Adds what a report says; gives the key and the trail of each of its sites, in their order. Sites that look alike share a trail.
    pub(super) fn extend(&mut self, report: &Report) -> Vec<(SiteKey, Vec<u64>)> {
        let keys: Vec<SiteKey> = report.sites.iter().map(SiteKey::of).collect();
        let mut now: HashMap<SiteKey, u64> = HashMap::with_capacity(keys.len());
        for (key, site) in keys.iter().zip(&report.sites) {
            let sum = now.entry(*key).or_default();
            *sum = sum.saturating_add(site.live_bytes);
        }
        self.by_site.retain(|key, _| now.contains_key(key));
        for (key, bytes) in now {
            let trail = self.by_site.entry(key).or_default();
            if trail.len() == KEPT {
                trail.pop_front();
            }
            trail.push_back(bytes);
        }
        let trail = |key| self.by_site.get(&key).into_iter().flatten().copied().collect();
        keys.into_iter().map(|key| (key, trail(key))).collect()
    }
}

/// The report that golden tests show, each frame at an address of its own.
#[cfg(test)]
pub(super) fn fixture_report(sample: Option<u64>) -> Report {
    let mut report = crate::report::fixture::report(sample, 10);
    let frames = report.sites.iter_mut().flat_map(|site| &mut site.frames);
    for (number, frame) in (1..).zip(frames) {
        frame.offset = number * 16;
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_is_the_last_minute_of_its_site() {
        let mut report = fixture_report(None);
        let mut trails = Trails::default();
        for bytes in 0..100 {
            report.sites[0].live_bytes = bytes;
            // Names that come later, and another place in the report, make no other site.
            report.sites[0].frames[0].function = format!("named_{bytes}");
            trails.extend(&report);
        }
        report.sites.reverse();
        let last = trails.extend(&report);
        assert_eq!(last.last().map(|site| site.1.clone()), Some((41..100).chain([99]).collect()));
        assert_eq!(last[0].1.len(), KEPT);
    }

    #[test]
    fn a_site_that_is_gone_is_forgotten() {
        let mut report = fixture_report(None);
        let mut trails = Trails::default();
        trails.extend(&report);
        let site = report.sites.remove(0);
        trails.extend(&report);
        report.sites.push(site);
        assert_eq!(trails.extend(&report).last().map(|site| site.1.len()), Some(1));
    }
}
