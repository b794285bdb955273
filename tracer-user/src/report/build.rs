//! A report from its parts: sites put in order, cut to the top, rounded and named.

use std::time::SystemTime;

use tracer_common::stack::StackEnd;

use super::model::{
    Breakdown, Cost, FollowedGoSite, GoSite, Loss, Memory, Report, SCHEMA, Site, TargetSection,
    Totals, Window,
};
use super::{mappings, model};
use crate::ledger::mappings::MappingsSnapshot;
use crate::ledger::snapshot::{AGE_CLASSES_S, Estimate, GoFacts, SiteSnapshot, Snapshot};
use crate::symbolise::{Frame, strip_allocator_frames};
use crate::target::Target;
use crate::target::memory::ProcessMemory;

/// Why no site has a verdict.
const NO_VERDICT: &str =
    "this version measures growth and does not judge it: whether a site leaks is not known";

/// The same once frees are not seen any more.
const NO_VERDICT_WITHOUT_FREES: &str =
    "frees were not seen in the whole window: what is live at its end is not known";

/// What sites are ordered by, largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Live bytes.
    #[default]
    Live,
    /// Live blocks.
    Count,
    /// Growth of the live bytes.
    Growth,
    /// Age of the oldest live block.
    Age,
    /// Bytes allocated in all.
    Allocated,
}

/// How allocations were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Every one is recorded.
    Exact,
    /// By bytes.
    Poisson {
        /// Mean bytes between samples now.
        mean_bytes: u64,
        /// The same at the start.
        first_mean_bytes: u64,
    },
    /// By the process itself, which tells of them by static probe points.
    Usdt,
    /// By the process's Go runtime.
    GoRuntime {
        /// Mean bytes between samples; 0 when everything is sampled.
        mean_bytes: u64,
    },
}

/// How a report is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Order of the sites.
    pub sort: Sort,
    /// Most sites in the report.
    pub top: usize,
    /// Keep the allocator's frames too, apart.
    pub raw: bool,
}

/// A call stack, named. Without frames when it was not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Leaf first, the allocator's frames included; empty when the stack was not kept.
    pub frames: Vec<Frame>,
    /// Where it ends; `None` when it was not kept.
    pub end: Option<StackEnd>,
    /// How many of the first frames are the allocator's own, when that is known and need not be told by their names.
    pub own_frames: Option<usize>,
    /// The type that is allocated.
    pub type_name: Option<String>,
}

/// All that a report is made from.
pub struct ReportInput<'a> {
    /// The process.
    pub target: TargetSection,
    /// Wall clock at the start of tracing.
    pub start: SystemTime,
    /// Wall clock of the snapshot.
    pub end: SystemTime,
    /// How allocations were chosen.
    pub sampling: Sampling,
    /// The ledger, filters applied.
    pub snapshot: &'a Snapshot,
    /// What was mapped, filters applied; `None` when that was not followed.
    pub mappings: Option<&'a MappingsSnapshot>,
    /// Names the stack with an id. Called for the sites in the report only, in their order.
    pub stack: &'a mut dyn FnMut(u64) -> Stack,
    /// What was lost on the way to the ledger; what the ledger itself found is added here.
    pub loss: Loss,
    /// The process's memory.
    pub memory: ProcessMemory,
    /// What tracing cost.
    pub cost: Cost,
    /// How the report is made.
    pub options: Options,
}

fn sampling(sampling: Sampling) -> model::Sampling {
    let (mode, mean_bytes, mean_bytes_at_start) = match sampling {
        Sampling::Exact => ("exact", 0, 0),
        Sampling::Poisson { mean_bytes, first_mean_bytes } => {
            ("poisson", mean_bytes, first_mean_bytes)
        }
        Sampling::Usdt => ("usdt", 0, 0),
        Sampling::GoRuntime { mean_bytes } => ("go-runtime", mean_bytes, mean_bytes),
    };
    model::Sampling { mode, mean_bytes, mean_bytes_at_start }
}

/// Makes the report.
pub fn build(input: ReportInput<'_>) -> Report {
    let snapshot = input.snapshot;
    let order = ordered(&snapshot.sites, input.options.sort, |site| site);
    let shown = order.len().min(input.options.top);
    let sites = order.iter().take(shown).enumerate();
    let sites = sites.map(|(index, site)| {
        let stack = (input.stack)(site.stack_id);
        let mut section = site_section(index + 1, site, stack, input.options.raw);
        if snapshot.frees_known_s.is_some() {
            NO_VERDICT_WITHOUT_FREES.clone_into(&mut section.verdict_reason);
        }
        section
    });
    let mut sites: Vec<Site> = sites.collect();
    let mappings = input
        .mappings
        .map(|mappings| mappings::add(mappings, input.options, input.stack, &mut sites));
    Report {
        schema: SCHEMA,
        file: None,
        target: input.target,
        window: Window {
            start: humantime::format_rfc3339_millis(input.start).to_string(),
            end: humantime::format_rfc3339_millis(input.end).to_string(),
            seconds: rounded(snapshot.seconds),
            frees_seen_s: snapshot.frees_known_s.map(rounded),
        },
        sampling: sampling(input.sampling),
        totals: totals(snapshot),
        loss: Loss {
            unknown_frees: snapshot.unknown_frees,
            implied_frees: snapshot.implied_frees,
            ..input.loss
        },
        memory: Memory {
            rss_bytes: input.memory.rss_bytes,
            limit_bytes: input.memory.limit_bytes,
            breakdown: Breakdown {
                live_heap: whole(snapshot.totals.live_bytes.value),
                ..Breakdown::default()
            },
        },
        cost: Cost {
            estimated_slowdown: input.cost.estimated_slowdown.map(rounded),
            tracer_cpu_s: rounded(input.cost.tracer_cpu_s),
            own_cpu_s: rounded(input.cost.own_cpu_s),
            ..input.cost
        },
        sites,
        sites_omitted: order.len() - shown,
        mappings,
        timeline: None,
    }
}

/// The stacks that [`build`] will ask names of.
pub fn shown_stacks(
    snapshot: &Snapshot,
    mappings: Option<&MappingsSnapshot>,
    options: Options,
) -> Vec<u64> {
    let mapped = mappings.map_or(&[][..], |mappings| &mappings.sites);
    let order = ordered(&snapshot.sites, options.sort, |site| site);
    let mapped = ordered(mapped, options.sort, |mapping| &mapping.site);
    let mapped = mapped.into_iter().take(options.top).map(|mapping| &mapping.site);
    order.into_iter().take(options.top).chain(mapped).map(|site| site.stack_id).collect()
}

/// The report's section on a target; `allocators` as people call them, such as `glibc 2.36`; `symbols` is the contract's word.
pub fn describe_target(
    target: &Target,
    allocators: Vec<String>,
    symbols: &'static str,
) -> TargetSection {
    TargetSection {
        pid: target.pid.0,
        comm: target.comm.clone(),
        exe: target.exe.to_string_lossy().into_owned(),
        build_id: target.exe_elf.build_id.clone(),
        kind: target.kind.as_str(),
        go_version: None,
        container_id: target.container_id.clone(),
        pod: None,
        allocators,
        symbols,
    }
}

/// The contract's word for where a stack ends.
pub fn stack_end_word(end: Option<StackEnd>) -> &'static str {
    match end {
        Some(StackEnd::Root) => "root",
        Some(StackEnd::TooDeep) => "too-deep",
        Some(StackEnd::FramePointerLost) => "frame-pointer-lost",
        Some(StackEnd::Unreadable) => "unreadable",
        None => "not-kept",
    }
}

/// Largest first; equal ones by their stack, so that the order does not change between reports on the same data.
pub(super) fn ordered<T>(
    items: &[T],
    sort: Sort,
    site_of: impl Fn(&T) -> &SiteSnapshot,
) -> Vec<&T> {
    let key = |site: &SiteSnapshot| match sort {
        Sort::Live => site.live_bytes.value,
        Sort::Count => site.live_count.value,
        Sort::Growth => site.growth_bytes_per_s.value,
        Sort::Age => site.oldest_age_s,
        Sort::Allocated => site.allocated_bytes,
    };
    let mut order: Vec<_> = items.iter().collect();
    order.sort_by(|a, b| {
        let (a, b) = (site_of(a), site_of(b));
        key(b).total_cmp(&key(a)).then(a.stack_id.cmp(&b.stack_id))
    });
    order
}

fn totals(snapshot: &Snapshot) -> Totals {
    let totals = &snapshot.totals;
    Totals {
        live_bytes: whole(totals.live_bytes.value),
        live_bytes_ci95: whole_interval(&totals.live_bytes),
        live_count: whole(totals.live_count.value),
        allocated_bytes: whole(totals.allocated_bytes),
        allocated_count: whole(totals.allocated_count),
        freed_bytes: whole(totals.freed_bytes),
        freed_count: whole(totals.freed_count),
        inherited_bytes: totals.inherited_bytes.map(whole),
        now_bytes: None,
        now_count: None,
    }
}

pub(super) fn site_section(rank: usize, site: &SiteSnapshot, stack: Stack, raw: bool) -> Site {
    let histogram = AGE_CLASSES_S.iter().zip(&site.age_histogram);
    let growth = &site.growth_bytes_per_s;
    let frames = match stack.own_frames {
        Some(own) => stack.frames.get(own..).unwrap_or_default(),
        None => strip_allocator_frames(&stack.frames),
    };
    Site {
        kind: "allocation",
        backing: None,
        rank,
        live_bytes: whole(site.live_bytes.value),
        live_bytes_ci95: whole_interval(&site.live_bytes),
        live_count: whole(site.live_count.value),
        allocated_bytes: whole(site.allocated_bytes),
        allocated_count: whole(site.allocated_count),
        freed_count: whole(site.freed_count),
        freed_bytes: Some(whole(site.freed_bytes)),
        oldest_age_s: Some(rounded(site.oldest_age_s)),
        median_age_s: Some(rounded(site.median_age_s)),
        age_histogram_s: histogram.map(|(bound, count)| (*bound, whole(*count))).collect(),
        growth_bytes_per_s: Some(rounded(growth.value)),
        growth_ci95: Some([rounded(growth.ci95.0), rounded(growth.ci95.1)]),
        verdict: "unknown",
        verdict_reason: NO_VERDICT.to_owned(),
        type_name: stack.type_name,
        retained_by: None,
        stack_end: stack_end_word(stack.end),
        frames: frames.to_vec(),
        raw_frames: raw.then_some(stack.frames),
        go: site.go.map(|facts| go_site(site, &facts)),
        history: Vec::new(),
        held: None,
    }
}

fn go_site(site: &SiteSnapshot, facts: &GoFacts) -> GoSite {
    GoSite {
        now_bytes: whole(site.live_bytes.value),
        now_count: whole(site.live_count.value),
        sampled_objects: Some(facts.sampled_objects),
        followed: Some(FollowedGoSite {
            inherited_bytes: whole(facts.inherited_bytes),
            inherited_count: whole(facts.inherited_count),
            oldest_age_cycles: facts.oldest_age_cycles,
            median_age_cycles: facts.median_age_cycles,
        }),
    }
}

fn whole(value: f64) -> u64 {
    // A float cast saturates, and takes what is no number for 0.
    value.round() as u64
}

fn whole_interval(estimate: &Estimate) -> [u64; 2] {
    [whole(estimate.ci95.0), whole(estimate.ci95.1)]
}

/// To thousandths; JSON has no word for what is no number.
fn rounded(value: f64) -> f64 {
    // Adding 0 makes -0 into 0.
    if value.is_finite() { (value * 1e3).round() / 1e3 + 0.0 } else { 0.0 }
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_the_key_and_then_by_the_stack() {
        let snapshot = fixture::snapshot();
        let ids = |sort| {
            ordered(&snapshot.sites, sort, |site| site)
                .iter()
                .map(|s| s.stack_id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(Sort::Live), [7, 3, 5, 9]);
        assert_eq!(ids(Sort::Count), [9, 7, 3, 5]);
        assert_eq!(ids(Sort::Growth), [7, 3, 5, 9]);
        assert_eq!(ids(Sort::Age), [3, 7, 5, 9]);
        assert_eq!(ids(Sort::Allocated), [9, 7, 3, 5]);
    }

    #[test]
    fn the_same_data_in_another_order_gives_the_same_report() {
        let first = fixture::report(Some(512 << 10), 10);
        let mut snapshot = fixture::snapshot();
        snapshot.sites.reverse();
        let second = fixture::report_on(&snapshot, Some(512 << 10), 10);
        assert_eq!(super::super::json::document(&first), super::super::json::document(&second));
    }

    #[test]
    fn only_the_top_is_named_and_the_rest_is_counted() {
        let snapshot = fixture::snapshot();
        let mut asked = Vec::new();
        let mut input = fixture::input(&snapshot, None, 2);
        let mut stack = |id| {
            asked.push(id);
            Stack::default()
        };
        input.stack = &mut stack;
        let report = build(input);
        assert_eq!((report.sites.len(), report.sites_omitted), (2, 2));
        assert_eq!(report.sites[0].stack_end, "not-kept");
        assert_eq!(asked, [7, 3]);
    }

    #[test]
    fn numbers_that_are_none_do_not_reach_json() {
        assert!(rounded(f64::NAN).to_bits() == 0);
        assert!(rounded(f64::INFINITY).to_bits() == 0);
        assert!(rounded(-0.0001).to_bits() == 0);
        assert_eq!(whole(f64::NAN), 0);
        assert_eq!(whole(-5.0), 0);
    }
}
