//! What a Go process holds whose runtime keeps no profile: its heap is walked, at one moment or at two.
//!
//! In: a [`GoProcess`]. Out: a [`Report`] without call sites: objects by type and by what holds them, and how much that has grown.

use std::time::{Instant, SystemTime};

use super::{AS_OF_WALK, target_section};
use crate::golang::holdings::{Amount, Contents, Holder, Holdings, VariableNames};
use crate::golang::{GoError, GoProcess};
use crate::report::Sort;
use crate::report::model::{
    Breakdown, Cost, HEAP_WALK, HOLDING, HeldSite, Loss, Memory, Report, SCHEMA, Sampling, Site,
    Totals, Window,
};
use crate::report::words::Word;
use crate::sys::usage;
use crate::target::memory::ProcessMemory;
use crate::target::{Target, VirtAddr};
use crate::units::human_count;

/// Why no line has a verdict.
const NO_VERDICT: &str = "a walk over the heap shows what is held, and does not judge it";
/// The last release that keeps no types beside objects.
const LAST_WITHOUT_TYPES: u32 = 21;
/// The function of a program's first goroutine.
const MAIN: &str = "runtime.main";

/// A heap that was walked once, and can be walked again.
pub struct HeapWalk {
    process: GoProcess,
    names: VariableNames,
    first: Holdings,
    started: SystemTime,
    started_at: Instant,
    /// What it held when it was last walked, when that was not at the start.
    last: Option<(Holdings, SystemTime, f64)>,
    notices: Vec<String>,
}

/// How it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkOptions {
    /// Order of the lines.
    pub sort: Sort,
    /// Most lines.
    pub top: usize,
}

impl HeapWalk {
    /// Walks the heap of a process.
    pub fn begin(process: GoProcess) -> Result<Self, GoError> {
        let names = process.variable_names();
        let (started, started_at) = (SystemTime::now(), Instant::now());
        let first = process.holdings(&names)?;
        let (last, notices) = (None, Vec::new());
        Ok(Self { process, names, first, started, started_at, last, notices })
    }

    /// The version of Go.
    pub fn name(&self) -> String {
        format!("{} runtime", self.process.version)
    }

    /// Walks it again. A process that has ended cannot be walked: then what was seen before is what is known.
    pub fn walk_again(&mut self) {
        let (at, seconds) = (SystemTime::now(), self.started_at.elapsed().as_secs_f64());
        match self.process.holdings(&self.names) {
            Ok(holdings) => self.last = Some((holdings, at, seconds)),
            Err(error) => self.notices.push(format!(
                "its heap could not be walked again: {error}; what it held before is shown"
            )),
        }
    }

    /// Adds what a reader must know.
    pub fn note(&mut self, notice: String) {
        self.notices.push(notice);
    }

    /// What it holds by the last walk, and how that differs from the first.
    pub fn report(&self, target: &Target, options: WalkOptions) -> Report {
        let (now, end, seconds) = match &self.last {
            Some((holdings, at, seconds)) => (holdings, *at, *seconds),
            None => (&self.first, self.started, 0.0),
        };
        let before = self.last.as_ref().map(|_| &self.first);
        let mut sites = self.sites(now, before, seconds);
        order(&mut sites, options.sort);
        let sites_omitted = sites.len().saturating_sub(options.top);
        sites.truncate(options.top);
        for (place, site) in sites.iter_mut().enumerate() {
            site.rank = place + 1;
        }
        let memory = ProcessMemory::read(&target.process).unwrap_or_default();
        let time = |at| humantime::format_rfc3339_millis(at).to_string();
        let totals = totals(now, before);
        Report {
            schema: SCHEMA,
            file: None,
            target: target_section(target, &self.process),
            window: Window {
                start: time(self.started),
                end: time(end),
                seconds: rounded(seconds),
                frees_seen_s: None,
            },
            sampling: Sampling { mode: HEAP_WALK, mean_bytes: 0, mean_bytes_at_start: 0 },
            loss: Loss { notices: self.all_notices(target, now), ..Loss::default() },
            memory: Memory {
                rss_bytes: memory.rss_bytes,
                limit_bytes: memory.limit_bytes,
                breakdown: Breakdown { live_heap: totals.live_bytes, ..Breakdown::default() },
            },
            totals,
            cost: Cost::without_probes(
                rounded(usage::own_cpu_time().as_secs_f64()),
                usage::own_rss_bytes(),
            ),
            timeline: None,
            sites_omitted,
            sites,
            mappings: None,
        }
    }

    /// A line for all that is held now, or was at the first walk.
    fn sites(&self, now: &Holdings, before: Option<&Holdings>, seconds: f64) -> Vec<Site> {
        let gone = before.into_iter().flat_map(|before| before.held.keys());
        let gone = gone.filter(|key| !now.held.contains_key(*key));
        let keys = now.held.keys().chain(gone);
        keys.map(|key| {
            let amount = now.held.get(key).copied().unwrap_or_default();
            let was = before.map(|before| before.held.get(key).copied().unwrap_or_default());
            self.site(key, amount, was, seconds)
        })
        .collect()
    }

    fn site(
        &self,
        (holder, contents): &(Holder, Contents),
        amount: Amount,
        was: Option<Amount>,
        seconds: f64,
    ) -> Site {
        let (kind, name) = self.holder(holder);
        let (type_name, slot_bytes, has_pointers) = match contents {
            Contents::Typed(name) => (Some(name.clone()), None, None),
            Contents::Sized { bytes, has_pointers } => (None, Some(*bytes), Some(*has_pointers)),
            Contents::Large { has_pointers } => (None, None, Some(*has_pointers)),
        };
        let growth = |now: u64, was: u64| now.cast_signed().saturating_sub(was.cast_signed());
        let growth_bytes = was.map(|was| growth(amount.bytes, was.bytes));
        let growth_bytes_per_s =
            growth_bytes.filter(|_| seconds > 0.0).map(|growth| rounded(growth as f64 / seconds));
        Site {
            kind: HOLDING,
            live_bytes: amount.bytes,
            live_bytes_ci95: [amount.bytes; 2],
            live_count: amount.count,
            growth_bytes_per_s,
            growth_ci95: growth_bytes_per_s.map(|growth| [growth; 2]),
            verdict: "unknown",
            verdict_reason: NO_VERDICT.to_owned(),
            type_name,
            retained_by: Some(name),
            stack_end: "not-kept",
            held: Some(HeldSite {
                holder: kind,
                slot_bytes,
                has_pointers,
                growth_bytes,
                growth_count: was.map(|was| growth(amount.count, was.count)),
            }),
            ..Site::default()
        }
    }

    /// The contract's word for a holder, and what people call it.
    fn holder(&self, holder: &Holder) -> (Word, String) {
        match holder {
            Holder::Variable(name) => ("variable", name.clone()),
            Holder::Variables => ("variables", "several variables".to_owned()),
            Holder::Goroutines { created_at, start } => {
                ("goroutines", self.goroutines(*created_at, *start))
            }
            Holder::SeveralGoroutines => {
                ("several-goroutines", "goroutines of several go statements".to_owned())
            }
            Holder::Runtime => ("runtime", "the runtime".to_owned()),
        }
    }

    fn goroutines(&self, created_at: VirtAddr, start: VirtAddr) -> String {
        let start = self.process.function_starting_at(start);
        let start = start.map_or_else(|| "an unknown function".to_owned(), |frame| frame.function);
        if start == MAIN {
            return "the main goroutine".to_owned();
        }
        let Some(place) = self.process.frames_at(created_at).into_iter().next() else {
            return format!("goroutines of {start}");
        };
        let line = match (&place.file, place.line) {
            (Some(file), Some(line)) => {
                format!(" ({}:{line})", file.rsplit('/').next().unwrap_or(file))
            }
            _ => String::new(),
        };
        format!("goroutines of {start}, started in {}{line}", place.function)
    }

    fn all_notices(&self, target: &Target, now: &Holdings) -> Vec<String> {
        let mut notices = vec![
            format!(
                "its runtime does not sample allocations (runtime.MemProfileRate is 0): its heap was walked from outside, which shows no call sites; outlive attach --enable-go-profiling {} does",
                target.pid
            ),
            AS_OF_WALK.to_owned(),
        ];
        if now.untyped.count > 0 {
            let kept = if self.process.version.minor <= LAST_WITHOUT_TYPES {
                "Go up to 1.21 keeps no types beside objects"
            } else {
                "Go keeps the types of objects with pointers above 512 B only"
            };
            notices.push(format!(
                "the type of {} of {} objects is not known, they are told apart by the size of their slots: {kept}",
                human_count(now.untyped.count as f64),
                human_count(now.live.count as f64)
            ));
        }
        if !now.was_at_rest {
            notices.push(
                "the process ran while its heap was walked: what it moved from one place to another meanwhile may be missing"
                    .to_owned(),
            );
        }
        if !self.names.are_known() {
            notices.push(
                "it has no symbols: variables are named by their distance from where those with a value (data) and without (bss) begin"
                    .to_owned(),
            );
        }
        if now.unread_bytes > 0 {
            notices.push(format!("{} bytes of its memory could not be read", now.unread_bytes));
        }
        notices.extend(self.process.notices());
        if self.process.has_plugins {
            notices.push("it has loaded plugins: what their variables hold is not seen".to_owned());
        }
        notices.extend(self.notices.iter().cloned());
        notices
    }
}

fn totals(now: &Holdings, before: Option<&Holdings>) -> Totals {
    Totals {
        live_bytes: now.live.bytes,
        live_bytes_ci95: [now.live.bytes; 2],
        live_count: now.live.count,
        allocated_bytes: 0,
        allocated_count: 0,
        freed_bytes: 0,
        freed_count: 0,
        inherited_bytes: Some(before.unwrap_or(now).live.bytes),
        now_bytes: Some(now.allocated.bytes),
        now_count: Some(now.allocated.count),
    }
}

/// Largest first; a walk knows neither ages nor what was allocated.
fn order(sites: &mut [Site], sort: Sort) {
    let key = |site: &Site| match sort {
        Sort::Growth => site.held.as_ref().and_then(|held| held.growth_bytes).unwrap_or(0) as f64,
        Sort::Count => site.live_count as f64,
        Sort::Live | Sort::Age | Sort::Allocated => site.live_bytes as f64,
    };
    sites.sort_by(|a, b| key(b).total_cmp(&key(a)));
}

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
