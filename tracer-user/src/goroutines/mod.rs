//! The goroutines of a Go process by creation site: how many, what they wait for and for how long, and their stacks.
//!
//! In: a [`Target`]. Out: a [`GoroutineReport`], as text or JSON. Nothing is attached or stopped.

mod groups;
pub mod model;
pub mod text;

use std::time::{Duration, SystemTime};

use crate::fault::Fault;
use crate::golang::code::CodeFrame;
use crate::golang::goroutines::{Goroutine, Goroutines};
use crate::golang::never_wake::{Evidence, NeverWake};
use crate::golang::{GoError, GoProcess};
use crate::goroutines::groups::{Group, compare, count_never_wake, group};
use crate::goroutines::model::{
    Change, Creator, GoroutineGroup, GoroutineReport, GoroutineTotals, SCHEMA, Since,
};
use crate::snapshot::{Options, refuse, section_frame, target_section};
use crate::symbolise::Frame;
use crate::sys::usage;
use crate::target::{Target, VirtAddr};
use crate::units::Span;

/// Goroutines whose stacks are read; of more, the first ones stand for the others of their site.
const MAX_STACKS: usize = 100_000;
/// What cannot be done, when it cannot.
const WHAT: &str = "cannot list the goroutines of process";
/// What else cannot be done.
const CANNOT_PROVE: &str = "cannot tell which goroutines never run again in process";
/// Functions of these packages are left out where a stack begins.
const RUNTIME: [&str; 2] = ["runtime.", "internal/runtime/"];

/// The goroutines at an instant.
#[derive(Debug)]
pub struct Look {
    goroutines: Goroutines,
    stacks: Vec<Vec<VirtAddr>>,
    at: SystemTime,
    at_ns: u64,
}

/// Looks at the goroutines of a process.
#[derive(Debug)]
pub struct Lister<'t> {
    target: &'t Target,
    process: GoProcess,
}

impl<'t> Lister<'t> {
    /// Finds the runtime in the process.
    pub fn open(target: &'t Target) -> Result<Self, Fault> {
        let process = GoProcess::open(target).map_err(|error| refuse(target, WHAT, &error))?;
        Ok(Self { target, process })
    }

    /// Reads the goroutines.
    pub fn look(&self) -> Result<Look, Fault> {
        let (at, at_ns) = (SystemTime::now(), usage::monotonic_ns());
        let read = || {
            let goroutines = self.process.goroutines()?;
            if !self.target.is_same_program() {
                return Err(GoError::gone());
            }
            let stacks = stacks(&self.process, &goroutines.list)?;
            Ok(Look { goroutines, stacks, at, at_ns })
        };
        read().map_err(|error| refuse(self.target, WHAT, &error))
    }

    /// Finds the goroutines that can never run again. With `hold` the process may be held for so long, to be sure.
    pub fn never_wake(&self, hold: Option<Duration>) -> Result<NeverWake, Fault> {
        self.process.never_wake(hold).map_err(|error| refuse(self.target, CANNOT_PROVE, &error))
    }

    /// What a look shows, what has changed since one before, and who can never run again. With `raw`, the runtime's own goroutines and frames
    /// too.
    pub fn report(
        &self,
        look: &Look,
        before: Option<&Look>,
        never_wake: Option<&NeverWake>,
        options: Options,
    ) -> GoroutineReport {
        let start_of = |goroutine: &Goroutine| {
            let function = self.process.function_starting_at(goroutine.start);
            function.map_or_else(|| format!("0x{:x}", goroutine.start.0), |frame| frame.function)
        };
        let now = &look.goroutines.list;
        let mut groups = group(now, &look.stacks, look.at_ns, &start_of);
        if let Some(before) = before {
            compare(&mut groups, &before.goroutines.list, now, &start_of);
        }
        if let Some(never_wake) = never_wake {
            count_never_wake(&mut groups, now, &never_wake.ids);
        }
        let (system, own): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.system);
        let totals = totals(&own, &system);
        let listed: Vec<Group> =
            if options.raw { own.into_iter().chain(system).collect() } else { own };
        let shown = listed.iter().take(options.top).enumerate();
        let sections: Vec<_> = shown
            .map(|(index, group)| section(&self.process, index + 1, group, options.raw))
            .collect();
        GoroutineReport {
            schema: SCHEMA,
            target: target_section(self.target, &self.process),
            at: humantime::format_rfc3339_millis(look.at).to_string(),
            since: before.map(|before| Since {
                at: humantime::format_rfc3339_millis(before.at).to_string(),
                seconds: (look.at_ns.saturating_sub(before.at_ns) / 1_000_000) as f64 / 1e3,
            }),
            never_wake: never_wake.map(|found| found.evidence.into()),
            totals,
            groups_omitted: listed.len() - sections.len(),
            groups: sections,
            notices: [self.process.notices(), notices(look, before, never_wake)].concat(),
        }
    }
}

/// The return addresses of each goroutine.
fn stacks(process: &GoProcess, list: &[Goroutine]) -> Result<Vec<Vec<VirtAddr>>, GoError> {
    list.iter().take(MAX_STACKS).map(|goroutine| process.return_addresses(goroutine)).collect()
}

fn totals(own: &[Group], system: &[Group]) -> GoroutineTotals {
    let count = |groups: &[Group]| groups.iter().map(|group| group.count).sum();
    let stacks = own.iter().chain(system).map(|group| group.stack_bytes);
    let changes = own.iter().filter_map(|group| group.change.clone());
    let change = changes.reduce(|sum, change| Change {
        started: sum.started + change.started,
        ended: sum.ended + change.ended,
    });
    GoroutineTotals {
        count: count(own),
        system_count: count(system),
        stack_bytes: stacks.fold(0, u64::saturating_add),
        change,
        never_wake: own.iter().filter_map(|group| group.never_wake).reduce(|sum, n| sum + n),
    }
}

fn notices(look: &Look, before: Option<&Look>, never_wake: Option<&NeverWake>) -> Vec<String> {
    let listed = look.goroutines.list.len();
    let mut notices = Vec::new();
    if look.goroutines.cut || before.is_some_and(|before| before.goroutines.cut) {
        notices.push(format!("there are more goroutines than the {listed} listed"));
    }
    if look.stacks.len() < listed {
        notices.push(format!("stacks are those of the first {} goroutines", look.stacks.len()));
    }
    let some = never_wake.filter(|found| !found.ids.is_empty());
    notices.extend(some.map(|found| certainty(found.evidence)));
    notices.extend(never_wake.and_then(|found| found.not_held.as_ref()).map(|reason| {
        format!("the process was not held for as long as its heap takes to read: {reason}")
    }));
    notices
}

/// How sure it is who can never run again, in words.
fn certainty(evidence: Evidence) -> String {
    match evidence {
        Evidence::AtRest => {
            "nothing ran while the heap was read: that they can never run again is proven"
                .to_owned()
        }
        Evidence::Held(lasted) => format!(
            "the process was held for {} while its heap was read: that they can never run again is proven",
            Span { duration: lasted }
        ),
        Evidence::Readings(readings) => format!(
            "the program ran while its heap was read: those that seem never to run again were found so in {readings} readings, which is no proof; --hold 1s holds the program for at most a second, and proves it"
        ),
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
        change: group.change.clone(),
        never_wake: group.never_wake,
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
