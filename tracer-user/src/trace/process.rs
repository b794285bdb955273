//! One traced process: its ledger, its stacks, and the links that hold its probes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::collector::event::{Event, Happening};
use crate::fault::{Fault, Status};
use crate::golang::GoProcess;
use crate::governor::{Governor, Remedies};
use crate::ledger::mappings::MappingsSnapshot;
use crate::ledger::snapshot::{Filter, Snapshot};
use crate::ledger::{Ledger, MappingBook};
use crate::probes::attach::Links;
use crate::report::model::Report;
use crate::snapshot::walk::{HeapWalk, WalkOptions};
use crate::sys::usage::monotonic_ns;
use crate::target::mapped;
use crate::target::memory::ProcessMemory;
use crate::target::{AddressSpace, CodeLocation, ModuleId, ModuleTable, Pid, Target, VirtAddr};
use crate::trace::golang::{GoHeap, NotFollowed, Start};
use crate::trace::golang_exact::ExactGoHeap;
use crate::trace::hooks::{Hooks, Source};
use crate::trace::kernel::Kernel;
use crate::trace::options::{GoOptions, TraceOptions};
use crate::trace::spending::Spending;
use crate::trace::stacks::Stacks;

/// What can be done to keep the cost of tracing within its limit, in the order of a report's notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Governing {
    /// The sampling mean was raised.
    Raised,
    /// Frees are not probed any more.
    WithoutFrees,
    /// Nothing is probed any more.
    Detached,
}

/// One traced process.
pub struct TracedProcess {
    /// The process.
    pub target: Target,
    /// Its outstanding allocations.
    pub ledger: Ledger,
    /// What it has mapped, when that is followed.
    pub mappings: Option<MappingBook>,
    /// What is attached in it.
    pub hooks: Hooks,
    /// Its Go heap, when it has one that is followed.
    pub golang: Option<GoHeap>,
    /// Its Go heap, when every allocation of it is recorded.
    pub exact: Option<ExactGoHeap>,
    /// Its Go heap, walked because nothing tells of it.
    pub walked: Option<HeapWalk>,
    /// Why it is not followed although there is one.
    pub golang_refused: Option<NotFollowed>,
    start: Start,
    /// Allocators loaded since, that nobody was told of.
    pub loaded: Vec<String>,
    /// What a reader must know, in words.
    pub notices: Vec<String>,
    /// What was done to keep the cost of tracing within its limit, in words.
    pub governed: BTreeMap<Governing, String>,
    /// What tracing has cost it.
    pub spending: Spending,
    /// When tracing started, by the calendar.
    pub started: SystemTime,
    /// When tracing started, `CLOCK_MONOTONIC`, nanoseconds.
    pub started_ns: u64,
    /// It has ended.
    pub ended: bool,
    /// The end of the window, `CLOCK_MONOTONIC`, nanoseconds; what happens later is not recorded.
    pub cut_ns: Option<u64>,
    /// Its memory when it was last looked at.
    pub memory: ProcessMemory,
    /// It has mapped code since its mappings were read.
    pub mapped_code: bool,
    code_left_out: bool,
    space: AddressSpace,
    /// How its Go heap is to be traced.
    go: GoOptions,
    /// Modules among which no Go runtime was found.
    searched_for_go: BTreeSet<ModuleId>,
    /// When the mappings were last followed, `CLOCK_MONOTONIC`, nanoseconds.
    refreshed_ns: u64,
    pause_ns: u64,
}

/// Time between two readings of the mappings, nanoseconds: more and more while nothing has changed. A program that runs code
/// compiled at run time has frames in no file all the time.
const LEAST_PAUSE_NS: u64 = 1_000_000;
const MOST_PAUSE_NS: u64 = 100_000_000;

impl TracedProcess {
    /// Admits a process. Nothing is attached yet.
    pub fn new(
        target: Target,
        options: &TraceOptions,
        modules: &mut ModuleTable,
        kernel: &mut Kernel,
    ) -> Result<Self, Fault> {
        let space = AddressSpace::open(std::sync::Arc::clone(&target.process), modules)
            .map_err(|error| gone(target.pid, &error))?;
        kernel.admit(target.pid)?;
        let started_ns = monotonic_ns();
        let memory = ProcessMemory::read(&target.process).unwrap_or_default();
        Ok(Self {
            ledger: Ledger::new(options.selection.mean_bytes(), started_ns),
            mappings: None,
            hooks: Hooks::default(),
            golang: None,
            exact: None,
            walked: None,
            golang_refused: None,
            start: Start::Unseen,
            go: options.go,
            searched_for_go: BTreeSet::new(),
            loaded: Vec::new(),
            notices: Vec::new(),
            governed: BTreeMap::new(),
            spending: Spending::start(target.pid, kernel.hits(target.pid), None),
            started: SystemTime::now(),
            started_ns,
            ended: false,
            cut_ns: None,
            memory,
            mapped_code: false,
            code_left_out: false,
            space,
            refreshed_ns: 0,
            pause_ns: 0,
            target,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.target.pid
    }

    /// Follows what the process maps from now on. It is admitted: what it does meanwhile comes as events.
    pub fn open_mapping_book(&mut self) {
        let break_end = mapped::break_end(&self.target.process);
        self.mappings = Some(MappingBook::new(self.started_ns, break_end));
    }

    /// Drops mappings that are not there any more, after events were lost.
    pub fn resynchronise_mappings(&mut self) {
        let Some(mappings) = &mut self.mappings else { return };
        match mapped::mapped_ranges(&self.target.process) {
            // A process that is ending has none: what it had last is what counts.
            Ok(ranges) if !ranges.is_empty() => mappings.resynchronise(&ranges),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!("{}: its mappings cannot be read: {error}", self.target.pid);
            }
        }
    }

    /// What is mapped at `now_ns`, when that is followed.
    pub fn mappings_snapshot(
        &self,
        now_ns: u64,
        filter: &Filter,
        stacks: &Stacks,
    ) -> Option<MappingsSnapshot> {
        let in_allocator = |stack_id| {
            let stack = stacks.get(stack_id);
            let locations = stack.into_iter().flat_map(|stack| &stack.locations);
            locations.into_iter().any(|location| self.is_allocators(*location))
        };
        Some(self.mappings.as_ref()?.snapshot(now_ns, filter, in_allocator))
    }

    fn is_allocators(&self, location: CodeLocation) -> bool {
        let CodeLocation::InModule(module, address) = location else { return false };
        self.hooks.is_allocators(module, address)
    }

    /// Attaches to what is mapped and not attached yet, see [`Hooks::attach`]; true when there was something.
    pub fn attach_new(
        &mut self,
        modules: &mut ModuleTable,
        kernel: &mut Kernel,
    ) -> Result<bool, Fault> {
        if let Err(error) = self.space.refresh(modules) {
            return Err(gone(self.pid(), &error));
        }
        self.map_code(modules, kernel)?;
        let has_recorded = self.ledger.stack_ids().next().is_some();
        let mapped = self.space.modules();
        let attached =
            self.hooks.attach(self.target.pid, &mapped, has_recorded, modules, kernel)?;
        Ok(self.follow_go(mapped, kernel) || attached)
    }

    /// It was started by outlive, and has run no instruction of its own.
    pub fn set_new(&mut self) {
        self.start = Start::Seen;
    }

    /// A Go program that was only just started is looked at until it has chosen how it samples.
    pub fn look_at_beginning(&mut self) {
        if let Some(heap) = &mut self.golang {
            heap.look_at_beginning();
        }
    }

    /// What was no Go runtime may look like one now.
    pub fn search_again(&mut self) {
        self.searched_for_go.clear();
    }

    /// Follows the Go heap, if there is one that is not followed yet; true when it is from now on.
    fn follow_go(&mut self, mapped: BTreeSet<ModuleId>, kernel: &mut Kernel) -> bool {
        let is_followed = self.golang.is_some() || self.exact.is_some();
        if is_followed || mapped.is_subset(&self.searched_for_go) {
            return false;
        }
        self.searched_for_go = mapped;
        if self.go.exact.is_some() {
            return self.follow_all_of_go(kernel);
        }
        match GoHeap::follow(&self.target, self.go.profiling, self.start, kernel) {
            Ok(heap) => {
                self.golang_refused = None;
                self.golang = Some(heap);
                true
            }
            Err(NotFollowed::NotGo) => false,
            Err(NotFollowed::ProfilerOff) if self.go.walks && self.hooks.is_empty() => {
                match GoProcess::open(&self.target).and_then(HeapWalk::begin) {
                    Ok(walk) => self.walked = Some(walk),
                    Err(error) => self.golang_refused = Some(NotFollowed::Refused(error)),
                }
                false
            }
            Err(refused) => {
                self.golang_refused = Some(refused);
                false
            }
        }
    }

    /// Records every allocation of the Go heap, if there is one.
    fn follow_all_of_go(&mut self, kernel: &mut Kernel) -> bool {
        match ExactGoHeap::follow(&self.target, kernel) {
            Ok(heap) => {
                self.golang_refused = None;
                self.exact = Some(heap);
            }
            Err(NotFollowed::NotGo) => {}
            Err(refused) => self.golang_refused = Some(refused),
        }
        self.exact.is_some()
    }

    /// Reads the mappings anew: code that is new gets its unwind tables, and its allocators are attached to. True when
    /// something changed. Looked at less and less often while nothing does.
    pub fn follow_mappings(&mut self, modules: &mut ModuleTable, kernel: &mut Kernel) -> bool {
        let now_ns = monotonic_ns();
        if self.cut_ns.is_some() || now_ns - self.refreshed_ns < self.pause_ns {
            return false;
        }
        self.mapped_code = false;
        let changed = self.space.refresh(modules).unwrap_or_else(|error| {
            tracing::debug!("{}: mappings cannot be read: {error}", self.target.pid);
            false
        });
        if changed {
            self.attach_late(modules, kernel);
        }
        self.refreshed_ns = monotonic_ns();
        self.pause_ns =
            if changed { 0 } else { (2 * self.pause_ns).clamp(LEAST_PAUSE_NS, MOST_PAUSE_NS) };
        changed
    }

    /// Attaches to allocators that were loaded while the window was open, and says so.
    fn attach_late(&mut self, modules: &mut ModuleTable, kernel: &mut Kernel) {
        let before = self.hooks.allocators.clone();
        if let Err(fault) = self.attach_new(modules, kernel) {
            self.notices.push(format!("code that was loaded later is not traced: {}", fault.why));
        }
        let after_s = monotonic_ns().saturating_sub(self.started_ns) as f64 / 1e9;
        for allocator in self.hooks.allocators.difference(&before) {
            self.notices.push(format!(
                "{allocator} was loaded after tracing had started; it is traced from {after_s:.1} s on"
            ));
            self.loaded.push(allocator.clone());
        }
    }

    /// Tells the kernel side how to walk stacks of what is mapped now.
    fn map_code(&mut self, modules: &ModuleTable, kernel: &mut Kernel) -> Result<(), Fault> {
        if self.cut_ns.is_some() {
            return Ok(());
        }
        if !kernel.map_code(self.target.pid, &self.space, modules)? && !self.code_left_out {
            self.code_left_out = true;
            self.notices.push(
                "some of its code has no unwind table, there was no room for all: stacks are followed by frame pointers there"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Whether anything is attached, or its heap is walked.
    pub fn is_followed(&self) -> bool {
        let has_go = self.golang.is_some() || self.exact.is_some() || self.walked.is_some();
        has_go || !self.hooks.is_empty()
    }

    /// Its heap as it is walked now; `None` when something else tells of it.
    pub fn walk_report(&mut self, filter: &Filter, options: WalkOptions) -> Option<Report> {
        let walk = self.walked.as_mut().filter(|_| self.hooks.is_empty())?;
        if self.ended {
            walk.note(
                "it ended before its heap could be walked again: what it held before is shown"
                    .to_owned(),
            );
        } else {
            walk.walk_again();
        }
        let mut report = walk.report(&self.target, options);
        report.loss.notices.extend(self.notices.iter().cloned());
        if *filter != Filter::default() {
            report.loss.notices.push(
                "--older, --min-size and --max-size do not choose what a walk over the heap shows"
                    .to_owned(),
            );
        }
        Some(report)
    }

    /// What can be done about the cost of tracing it, beside taking all probes off. What a process's own sampler chooses is
    /// not ours to make less, and it tells of few frees.
    pub fn remedies(&self, is_sampled: bool) -> Remedies {
        let has_probed_allocators =
            self.hooks.source == Source::Allocators && !self.hooks.is_empty();
        Remedies { raise: is_sampled && has_probed_allocators, drop_frees: has_probed_allocators }
    }

    /// What is outstanding at `now_ns`, in all its heaps.
    pub fn snapshot(&self, now_ns: u64, filter: &Filter) -> Snapshot {
        let snapshot = self.ledger.snapshot(now_ns, filter);
        match &self.golang {
            Some(heap) => snapshot.with(heap.snapshot(now_ns, filter)),
            None => snapshot,
        }
    }

    /// The modules that it has mapped.
    pub fn modules(&self) -> BTreeSet<ModuleId> {
        self.space.modules()
    }

    /// The first moment of the window is now: called when everything is attached.
    pub fn start_window(&mut self, kernel: &Kernel, governor: Option<Governor>) {
        self.spending = Spending::start(self.pid(), kernel.hits(self.pid()), governor);
        self.started = SystemTime::now();
        self.started_ns = monotonic_ns();
        self.ledger.start_at(self.started_ns);
        if let Some(heap) = &mut self.golang {
            heap.start_at(self.started_ns);
        }
        if let Some(mappings) = &mut self.mappings {
            mappings.start_at(self.started_ns);
        }
    }

    /// Applies an event of this process. What needs the kernel side is left to the caller.
    ///
    /// Probes go one after the other when they are released: only what happened before the first one went is complete.
    pub fn apply(&mut self, event: &Event) {
        if self.cut_ns.is_some_and(|cut_ns| event.at_ns > cut_ns) {
            return;
        }
        if event.what == Happening::Executed {
            self.notices.push(format!(
                "the process replaced its program {:.1} s into the window; {} blocks of the old one are gone with its memory",
                event.at_ns.saturating_sub(self.started_ns) as f64 / 1e9,
                self.ledger.live_count()
            ));
        }
        if let Some(mappings) = &mut self.mappings {
            match &event.what {
                Happening::Executed => mappings.executed(),
                Happening::Mapping(change) => mappings.apply(event.tid, event.at_ns, change),
                _ => {}
            }
        }
        self.ledger.apply(event);
        if let Some(heap) = &mut self.golang {
            heap.apply(event);
        }
        if let Some(heap) = &mut self.exact {
            heap.apply(event, &mut self.ledger);
        }
        if event.what == Happening::Executed {
            // Its probes are in a file that the process does not run any more.
            self.golang = None;
            self.exact = None;
            self.walked = None;
            self.golang_refused = None;
            self.searched_for_go.clear();
        }
    }

    /// Where an address of its memory lies.
    pub fn locate(&self, address: VirtAddr) -> CodeLocation {
        self.space.locate(address)
    }

    /// Ends the window, and hands out the links for [`crate::probes::attach::release`]: once they are released the process
    /// runs as if nothing had been.
    pub fn detach(&mut self, kernel: &mut Kernel) -> Vec<Links> {
        if self.cut_ns.is_none() {
            self.spending.look(kernel.hits(self.target.pid));
        }
        self.cut_ns.get_or_insert_with(monotonic_ns);
        kernel.dismiss(self.target.pid);
        let heap = self.golang.as_mut().and_then(GoHeap::detach);
        let exact = self.exact.as_mut().and_then(ExactGoHeap::detach);
        self.hooks.take().into_iter().chain(heap).chain(exact).collect()
    }
}

fn gone(pid: Pid, error: &std::io::Error) -> Fault {
    Fault::new(
        Status::NoTarget,
        format!("cannot trace process {pid}"),
        format!("its mappings cannot be read: {error}; it has probably ended"),
        "check the PID; a short-lived program can be traced from its start with `outlive run -- CMD`",
    )
}
