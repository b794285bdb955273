//! The goroutines of a Go process by creation site: how many, what they wait for and for how long, and their stacks.
//!
//! In: a [`Target`]. Out: a [`GoroutineReport`], as text or JSON. Nothing is attached or stopped.

mod groups;
pub mod model;
pub mod text;

use std::time::SystemTime;

use crate::fault::Fault;
use crate::golang::code::CodeFrame;
use crate::golang::goroutines::{Goroutine, Goroutines};
use crate::golang::{GoError, GoProcess};
use crate::goroutines::groups::{Group, PROGRAMS_OWN, group};
use crate::goroutines::model::{Creator, GoroutineGroup, GoroutineReport, GoroutineTotals, SCHEMA};
use crate::snapshot::{Options, refuse, section_frame, target_section};
use crate::symbolise::Frame;
use crate::sys::usage;
use crate::target::{Target, VirtAddr};

/// Goroutines whose stacks are read; of more, the first ones stand for the others of their site.
const MAX_STACKS: usize = 100_000;
/// What cannot be done, when it cannot.
const WHAT: &str = "cannot list the goroutines of process";
/// Functions of these packages are left out where a stack begins.
const RUNTIME: [&str; 2] = ["runtime.", "internal/runtime/"];

/// Reads the goroutines and reports them. With `raw`, the runtime's own goroutines and frames too.
pub fn take(target: &Target, options: Options) -> Result<GoroutineReport, Fault> {
    let refuse = |error| refuse(target, WHAT, &error);
    let process = GoProcess::open(target).map_err(refuse)?;
    let now_ns = usage::monotonic_ns();
    let goroutines = process.goroutines().map_err(refuse)?;
    if !target.is_same_program() {
        return Err(refuse(GoError::gone()));
    }
    let stacks = stacks(&process, &goroutines.list).map_err(refuse)?;
    Ok(report(target, &process, &goroutines, &stacks, now_ns, options))
}

/// The return addresses of each goroutine.
fn stacks(process: &GoProcess, list: &[Goroutine]) -> Result<Vec<Vec<VirtAddr>>, GoError> {
    list.iter().take(MAX_STACKS).map(|goroutine| process.return_addresses(goroutine)).collect()
}

fn report(
    target: &Target,
    process: &GoProcess,
    goroutines: &Goroutines,
    stacks: &[Vec<VirtAddr>],
    now_ns: u64,
    options: Options,
) -> GoroutineReport {
    let start_of = |goroutine: &Goroutine| {
        let function = process.function_starting_at(goroutine.start);
        function.map_or_else(|| format!("0x{:x}", goroutine.start.0), |frame| frame.function)
    };
    let groups = group(&goroutines.list, stacks, now_ns, &start_of);
    let (system, own): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.system);
    let count = |groups: &[Group]| groups.iter().map(|group| group.count).sum();
    let totals = GoroutineTotals {
        count: count(&own),
        system_count: count(&system),
        stack_bytes: goroutines
            .list
            .iter()
            .map(Goroutine::stack_bytes)
            .fold(0, u64::saturating_add),
    };
    let listed: Vec<Group> =
        if options.raw { own.into_iter().chain(system).collect() } else { own };
    let shown = listed.iter().take(options.top).enumerate();
    let sections: Vec<_> =
        shown.map(|(index, group)| section(process, index + 1, group, options.raw)).collect();
    let mut notices = Vec::new();
    if goroutines.cut {
        notices
            .push(format!("there are more goroutines than the {} listed", goroutines.list.len()));
    }
    if stacks.len() < goroutines.list.len() {
        notices.push(format!("stacks are those of the first {} goroutines", stacks.len()));
    }
    GoroutineReport {
        schema: SCHEMA,
        target: target_section(target, process),
        at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        totals,
        groups_omitted: listed.len() - sections.len(),
        groups: sections,
        notices,
    }
}

fn section(process: &GoProcess, rank: usize, group: &Group, raw: bool) -> GoroutineGroup {
    let created = process.frames_at(group.created_at);
    let creator = created.first().zip(created.last()).map(|(place, function)| Creator {
        function: function.function.clone(),
        file: place.file.clone(),
        line: place.line,
    });
    GoroutineGroup {
        rank,
        count: group.count,
        // The first goroutine has no creator of its own: the runtime's start-up made it.
        created_by: creator.filter(|_| group.start != "runtime.main"),
        starts: group.start.clone(),
        system: group.system,
        states: group.states.clone(),
        longest_wait_s: group.longest_wait_ns.map(|ns| (ns / 1_000_000) as f64 / 1e3),
        waits_known: group.waits_known,
        stack_bytes: group.stack_bytes,
        stack_count: group.common_stack_count,
        frames: frames(process, &group.common_stack, raw),
    }
}

/// The frames of a goroutine's stack, without the runtime's at the leaf, its root and what the compiler wraps functions in.
fn frames(process: &GoProcess, stack: &[VirtAddr], raw: bool) -> Vec<Frame> {
    let mut frames: Vec<_> = stack.iter().flat_map(|at| process.frames_at(*at)).collect();
    if !raw {
        frames.retain(|frame| frame.function != "runtime.goexit" && !frame.wrapper);
        let is_runtime =
            |frame: &CodeFrame| RUNTIME.iter().any(|package| frame.function.starts_with(package));
        let hidden = frames.iter().position(|frame| !is_runtime(frame)).unwrap_or(0);
        frames.drain(..hidden);
    }
    frames.into_iter().map(|frame| section_frame(process, frame)).collect()
}

/// Whether a function that starts a goroutine is the runtime's own, as Go itself tells them apart.
fn is_system(start: &str) -> bool {
    start.starts_with("runtime.") && !PROGRAMS_OWN.contains(&start)
}
