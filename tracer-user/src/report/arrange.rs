//! The sites of a report that was kept whole: put in another order, and cut.

use super::build::Sort;
use super::model::{Report, Site};

impl Report {
    /// The same, with its sites in this order, at most `top` of each kind.
    #[must_use]
    pub fn arranged(mut self, sort: Sort, top: usize) -> Self {
        let sites = std::mem::take(&mut self.sites);
        let (mut blocks, mut mapped): (Vec<_>, Vec<_>) =
            sites.into_iter().partition(|site| site.kind == "allocation");
        self.sites_omitted += arrange(&mut blocks, sort, top);
        let omitted = arrange(&mut mapped, sort, top);
        if let Some(mappings) = &mut self.mappings {
            mappings.sites_omitted += omitted;
        }
        self.sites = blocks;
        self.sites.extend(mapped);
        self
    }
}

/// Gives how many were cut off.
fn arrange(sites: &mut Vec<Site>, sort: Sort, top: usize) -> usize {
    let key = |site: &Site| match sort {
        Sort::Live => site.live_bytes as f64,
        Sort::Count => site.live_count as f64,
        Sort::Growth => site.growth_bytes_per_s.unwrap_or(f64::NEG_INFINITY),
        Sort::Age => site.oldest_age_s.unwrap_or(f64::NEG_INFINITY),
        Sort::Allocated => site.allocated_bytes as f64,
    };
    sites.sort_by(|a, b| key(b).total_cmp(&key(a)));
    let omitted = sites.len().saturating_sub(top);
    sites.truncate(top);
    for (place, site) in sites.iter_mut().enumerate() {
        site.rank = place + 1;
    }
    omitted
}

#[cfg(test)]
mod tests {
    use super::super::build::fixture;
    use super::*;

    #[test]
    fn sites_are_put_in_the_order_that_a_report_would_have_them() {
        for sort in [Sort::Live, Sort::Count, Sort::Growth, Sort::Age, Sort::Allocated] {
            let report = fixture::report(None, 10).arranged(sort, 2);
            assert_eq!((report.sites.len(), report.sites_omitted), (2, 2), "{sort:?}");
            assert_eq!([report.sites[0].rank, report.sites[1].rank], [1, 2]);
        }
        let by_count = fixture::report(None, 10).arranged(Sort::Count, 1);
        let most = fixture::report(None, 10).sites.iter().map(|site| site.live_count).max();
        assert_eq!(Some(by_count.sites[0].live_count), most);
        let twice = fixture::report(None, 10).arranged(Sort::Age, 3).arranged(Sort::Live, 10);
        assert_eq!((twice.sites.len(), twice.sites_omitted), (3, 1));
    }
}
