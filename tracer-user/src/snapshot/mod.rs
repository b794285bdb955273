//! What a Go process holds now, by call site: its runtime's own heap profile, read from outside without a probe or a stop.
//!
//! In: a [`Target`]. Out: a [`Report`] of an instant, or the reason why there is none.

pub mod frames;
mod refusal;
mod sites;
pub mod walk;

use std::time::SystemTime;

use crate::fault::Fault;
use crate::golang::buckets::Buckets;
use crate::golang::specials::Specials;
use crate::golang::{GoError, GoProcess};
use crate::ledger::snapshot::Estimate;
use crate::report::model::{
    Breakdown, Cost, GoSite, Loss, Memory, Report, SCHEMA, Sampling, Site, TargetSection, Totals,
    Window,
};
use crate::report::{Sort, describe_target};
use crate::snapshot::frames::Named;
pub(crate) use crate::snapshot::frames::section_frame;
use crate::snapshot::sites::{ProfileSite, ProfileSites};
use crate::snapshot::walk::{HeapWalk, WalkOptions};
use crate::sys::usage;
use crate::target::Target;
use crate::target::memory::ProcessMemory;
use crate::units::human_count;

/// Why no site has a verdict.
const NO_VERDICT: &str =
    "a snapshot shows what is in use, not whether it grows: use `outlive attach`";

/// Of when the numbers are.
const AS_OF: &str = "in use is as of the last finished garbage collection, as pprof has it; now is with what was allocated since, and with garbage that is not swept yet";

/// What a walk over the heap counts.
const AS_OF_WALK: &str = "held is what some way leads to from a variable, a goroutine or the runtime, in bytes of slots; a stale word that looks like an address counts as a way, so that what is held is at most that; what no way leads to is garbage that is not collected yet";

/// What cannot be done, when it cannot.
const WHAT: &str = "cannot take a snapshot of process";

/// Samples that a program may well take and free between two looks.
const CHANGES_MEANWHILE: u64 = 16;

/// How a snapshot is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most sites in the report.
    pub top: usize,
    /// Keep the runtime's frames too, apart.
    pub raw: bool,
}

/// Reads the profile and reports it.
pub fn take(target: &Target, options: Options) -> Result<Report, Fault> {
    let refuse = |error| refuse(target, WHAT, &error);
    let process = GoProcess::open(target).map_err(refuse)?;
    let rate = process.sampling_rate().map_err(refuse)?;
    let buckets = process.buckets().map_err(refuse)?;
    // Since Go 1.25 the very first allocation of a program is sampled before the profiler is told to be off.
    if rate == 0 && buckets.list.len() <= 1 {
        let walk = HeapWalk::begin(process).map_err(refuse)?;
        if !target.is_same_program() {
            return Err(refuse(GoError::gone()));
        }
        return Ok(walk.report(target, WalkOptions { sort: Sort::Live, top: options.top }));
    }
    let at = SystemTime::now();
    let mut notices = notices_on(&process, &buckets, rate);
    let specials = match process.specials() {
        Ok(specials) => checked(specials, &buckets, &mut notices),
        Err(error) => {
            notices.push(format!("the live sampled objects were not looked at: {error}"));
            None
        }
    };
    let sites = ProfileSites::of(&buckets, specials.as_ref(), rate);
    notices.push(AS_OF.to_owned());
    if !target.is_same_program() {
        return Err(refuse(GoError::gone()));
    }
    Ok(report(target, &process, &sites, rate, at, notices, options))
}

/// What cannot be done with a Go process, up to its number, and why.
pub(crate) fn refuse(target: &Target, what: &str, error: &GoError) -> Fault {
    refusal::fault(what, target.pid, error)
}

fn report(
    target: &Target,
    process: &GoProcess,
    sites: &ProfileSites,
    rate: u64,
    at: SystemTime,
    notices: Vec<String>,
    options: Options,
) -> Report {
    let at = humantime::format_rfc3339_millis(at).to_string();
    let named = sites.list.iter().take(options.top).enumerate();
    let shown: Vec<Site> = named
        .map(|(index, site)| section(index + 1, site, frames::name(process, &site.stack), options))
        .collect();
    let memory = ProcessMemory::read(&target.process).unwrap_or_default();
    let mean_bytes = if rate <= 1 { 0 } else { rate };
    let own_cpu_s = (usage::own_cpu_time().as_secs_f64() * 1e3).round() / 1e3;
    let totals = totals(sites);
    let truncated_stacks = sites.list.iter().filter(|site| frames::is_cut(process, &site.stack));
    let truncated_stacks = truncated_stacks.count() as u64;
    Report {
        schema: SCHEMA,
        file: None,
        target: target_section(target, process),
        window: Window { start: at.clone(), end: at, seconds: 0.0, frees_seen_s: None },
        sampling: Sampling { mode: "go-runtime", mean_bytes, mean_bytes_at_start: mean_bytes },
        loss: Loss {
            truncated_stacks,
            incomplete_stacks: truncated_stacks,
            notices,
            ..Loss::default()
        },
        memory: Memory {
            rss_bytes: memory.rss_bytes,
            limit_bytes: memory.limit_bytes,
            breakdown: Breakdown { live_heap: totals.live_bytes, ..Breakdown::default() },
        },
        totals,
        cost: Cost::without_probes(own_cpu_s, usage::own_rss_bytes()),
        sites_omitted: sites.list.len() - shown.len(),
        sites: shown,
        mappings: None,
        timeline: None,
    }
}

/// The report's section on a Go process.
pub(crate) fn target_section(target: &Target, process: &GoProcess) -> TargetSection {
    let runtime = if process.module.path == target.exe {
        process.version.text.clone()
    } else {
        format!("{} in {}", process.version, process.module.path.display())
    };
    TargetSection {
        kind: "go",
        go_version: Some(process.version.text.clone()),
        ..describe_target(target, vec![runtime], "full")
    }
}

fn totals(sites: &ProfileSites) -> Totals {
    let totals = &sites.totals;
    Totals {
        live_bytes: totals.live_bytes.value as u64,
        live_bytes_ci95: interval(&totals.live_bytes),
        live_count: totals.live_count.value as u64,
        allocated_bytes: totals.allocated_bytes,
        allocated_count: totals.allocated_count,
        freed_bytes: totals.allocated_bytes.saturating_sub(totals.live_bytes.value as u64),
        freed_count: totals.allocated_count.saturating_sub(totals.live_count.value as u64),
        inherited_bytes: Some(totals.live_bytes.value as u64),
        now_bytes: Some(totals.now_bytes),
        now_count: Some(totals.now_count),
    }
}

fn section(rank: usize, site: &ProfileSite, named: Named, options: Options) -> Site {
    let live_count = site.live_count.value as u64;
    let live_bytes = site.live_bytes.value as u64;
    Site {
        kind: "allocation",
        backing: None,
        rank,
        live_bytes,
        live_bytes_ci95: interval(&site.live_bytes),
        live_count,
        allocated_bytes: site.allocated_bytes,
        allocated_count: site.allocated_count,
        freed_count: site.allocated_count.saturating_sub(live_count),
        freed_bytes: Some(site.allocated_bytes.saturating_sub(live_bytes)),
        oldest_age_s: None,
        median_age_s: None,
        age_histogram_s: Vec::new(),
        growth_bytes_per_s: None,
        growth_ci95: None,
        verdict: "unknown",
        verdict_reason: NO_VERDICT.to_owned(),
        type_name: named.type_name,
        retained_by: None,
        stack_end: named.end,
        frames: named.frames[named.runtime_frames..].to_vec(),
        raw_frames: options.raw.then_some(named.frames),
        history: Vec::new(),
        go: Some(GoSite {
            now_bytes: site.now_bytes,
            now_count: site.now_count,
            followed: None,
            sampled_objects: site.sampled_objects,
        }),
        held: None,
    }
}

fn interval(estimate: &Estimate) -> [u64; 2] {
    [estimate.ci95.0.floor() as u64, estimate.ci95.1.ceil() as u64]
}

/// The sampled objects, if they are as many as the profile says for most sites. A running program changes both meanwhile; a layout that does
/// not fit makes nonsense of one.
fn checked(specials: Specials, buckets: &Buckets, notices: &mut Vec<String>) -> Option<Specials> {
    if specials.cut {
        notices.push(format!(
            "more than {} objects are sampled: sampled_objects counts those only",
            human_count(specials.objects.len() as f64)
        ));
        return Some(specials);
    }
    let disagreement = sites::disagreement(buckets, &specials);
    let objects = specials.objects.len() as u64 + CHANGES_MEANWHILE;
    if disagreement.sites * 2 > buckets.list.len() as u64 && disagreement.objects * 2 > objects {
        notices.push(format!(
            "the live sampled objects were not counted: in {} of {} call sites they are not as many as the profile says",
            disagreement.sites,
            buckets.list.len()
        ));
        return None;
    }
    Some(specials)
}

fn notices_on(process: &GoProcess, buckets: &Buckets, rate: u64) -> Vec<String> {
    let mut notices = Vec::new();
    if rate == 0 {
        notices.push(
            "the program has turned its profiler off (MemProfileRate is 0): what was sampled before is shown, and not scaled up"
                .to_owned(),
        );
    }
    if buckets.torn {
        notices.push(
            "collections ended faster than the profile could be read: some sites may be of another cycle than others"
                .to_owned(),
        );
    }
    if buckets.cut {
        notices.push(format!(
            "its heap profile has more call sites than the {} that outlive reads",
            human_count(buckets.list.len() as f64)
        ));
    }
    notices.extend(process.notices());
    notices
}
