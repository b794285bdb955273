//! A report of what a file holds.

use crate::report::build::Options;
use crate::report::model::{
    Breakdown, Cost, Loss, Mappings, Memory, NO_TIME, Report, SCHEMA, Sampling, Site,
    TargetSection, Totals, Window,
};
use crate::report::profile::{Amounts, Profile, ProfileSite};
use crate::symbolise::Frame;

/// Why no site has a verdict.
const NO_VERDICT: &str =
    "a profile shows an instant, not whether it grows: compare two with `outlive diff`";

/// The report of a profile that was read from a file of this name; sites in order, cut to the top.
pub fn report(profile: &Profile, file: &str, options: Options) -> Report {
    let of_kind = |kind| {
        let mut order = profile.ordered(options.sort);
        order.retain(|site| site.kind == kind);
        let omitted = order.len().saturating_sub(options.top);
        order.truncate(options.top);
        (order, omitted)
    };
    let ((mut shown, sites_omitted), (mapped, mappings_omitted)) =
        (of_kind("allocation"), of_kind("mapping"));
    shown.extend(mapped);
    let sites = (1..).zip(shown).map(|(rank, site)| section(profile, rank, site)).collect();
    let at = profile.time().unwrap_or_else(|| NO_TIME.to_owned());
    let totals = totals(profile);
    Report {
        schema: SCHEMA,
        file: Some(file.to_owned()),
        target: target(profile, file),
        window: Window { start: at.clone(), end: at, seconds: 0.0, frees_seen_s: None },
        sampling: Sampling {
            mode: profile.mode,
            mean_bytes: profile.mean_bytes,
            mean_bytes_at_start: profile.mean_bytes,
        },
        loss: Loss { notices: profile.notices.clone(), ..Loss::default() },
        memory: Memory {
            breakdown: Breakdown { live_heap: totals.live_bytes, ..Breakdown::default() },
            ..Memory::default()
        },
        totals,
        cost: Cost::default(),
        sites,
        sites_omitted,
        mappings: mappings(profile, mappings_omitted),
        timeline: profile.timelines.get(&0).cloned(),
    }
}

/// The first process, and what is known of its functions.
fn target(profile: &Profile, file: &str) -> TargetSection {
    let frames = || profile.sites.iter().flat_map(|site| profile.stack(site));
    let symbols = if frames().any(|frame| frame.line.is_some()) {
        "full"
    } else if frames().any(Frame::is_named) {
        "stripped"
    } else {
        "none"
    };
    let process = profile.processes.first().cloned();
    TargetSection { symbols, ..process.unwrap_or_else(|| super::described(None, None, 0, file)) }
}

fn sites_of<'p>(profile: &'p Profile, kind: &str) -> impl Iterator<Item = &'p ProfileSite> {
    profile.sites.iter().filter(move |site| site.kind == kind)
}

fn sum<'p>(sites: impl Iterator<Item = &'p ProfileSite>) -> Amounts {
    sites.fold(Amounts::default(), |sum, site| sum.plus(site.amounts))
}

/// Sums of what was mapped; nothing when no site is a mapping.
fn mappings(profile: &Profile, sites_omitted: usize) -> Option<Mappings> {
    sites_of(profile, "mapping").next()?;
    let sum = sum(sites_of(profile, "mapping"));
    Some(Mappings {
        live_bytes: sum.live_bytes,
        live_count: sum.live_count,
        mapped_bytes: sum.allocated_bytes,
        mapped_count: sum.allocated_count,
        unmapped_bytes: sum.allocated_bytes.saturating_sub(sum.live_bytes),
        sites_omitted,
        ..Mappings::default()
    })
}

fn totals(profile: &Profile) -> Totals {
    let Amounts { allocated_count, allocated_bytes, live_count, live_bytes } =
        sum(sites_of(profile, "allocation"));
    // The widths of independent intervals add up as squares.
    let width = |of: &dyn Fn(&ProfileSite) -> u64| {
        sites_of(profile, "allocation").map(|site| (of(site) as f64).powi(2)).sum::<f64>().sqrt()
            as u64
    };
    let below = width(&|site| site.amounts.live_bytes.saturating_sub(site.live_bytes_ci95[0]));
    let above = width(&|site| site.live_bytes_ci95[1].saturating_sub(site.amounts.live_bytes));
    Totals {
        live_bytes,
        live_bytes_ci95: [live_bytes.saturating_sub(below), live_bytes.saturating_add(above)],
        live_count,
        allocated_bytes,
        allocated_count,
        freed_bytes: allocated_bytes.saturating_sub(live_bytes),
        freed_count: allocated_count.saturating_sub(live_count),
        inherited_bytes: None,
        now_bytes: None,
        now_count: None,
    }
}

fn section(profile: &Profile, rank: usize, site: &ProfileSite) -> Site {
    let amounts = site.amounts;
    Site {
        kind: site.kind,
        backing: None,
        rank,
        live_bytes: amounts.live_bytes,
        live_bytes_ci95: site.live_bytes_ci95,
        live_count: amounts.live_count,
        allocated_bytes: amounts.allocated_bytes,
        allocated_count: amounts.allocated_count,
        freed_count: amounts.allocated_count.saturating_sub(amounts.live_count),
        freed_bytes: site.freed_bytes(),
        oldest_age_s: site.oldest_age_s,
        median_age_s: None,
        age_histogram_s: Vec::new(),
        growth_bytes_per_s: None,
        growth_ci95: None,
        verdict: "unknown",
        verdict_reason: NO_VERDICT.to_owned(),
        type_name: None,
        retained_by: None,
        stack_end: if site.stack.is_empty() { "not-kept" } else { "root" },
        frames: profile.stack(site).cloned().collect(),
        raw_frames: None,
        go: None,
        history: Vec::new(),
        held: None,
    }
}
