//! Reports of a run: the ledger at an instant, put together with names, losses and costs.
//!
//! In: a process of the session. Out: its report, to the listener.

use std::ops::ControlFlow;
use std::time::SystemTime;

use tracer_common::sampling::doubled;

use crate::collector::counts::Counts;
use crate::fault::Fault;
use crate::probes::attach::release;
use crate::report::model::{Report, TargetSection};
use crate::report::{ReportInput, Sampling, Stack, build, describe_target, shown_stacks};
use crate::snapshot::walk::WalkOptions;
use crate::symbolise::Symboliser;
use crate::sys::usage::monotonic_ns;
use crate::target::memory::ProcessMemory;
use crate::target::{ModuleTable, Pid};
use crate::trace::golang::GoHeap;
use crate::trace::golang_exact::ExactGoHeap;
use crate::trace::hooks::Source;
use crate::trace::kernel::Kernel;
use crate::trace::naming::{Patience, Signals};
use crate::trace::process::TracedProcess;
use crate::trace::progress::{Listener, Progress};
use crate::trace::session::{Session, broken};
use crate::trace::stacks::KnownStack;
use crate::trace::summary::{RunFacts, cost, loss};

impl Session {
    /// Final report of a process that has ended.
    pub(super) async fn end(
        &mut self,
        pid: Pid,
        signals: &mut Signals<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        self.drain();
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(ControlFlow::Continue(()));
        };
        release(process.detach(&mut self.kernel));
        process.ended = true;
        self.close(pid, signals, listener).await
    }

    /// Final report of a process that has no probes any more.
    pub(super) async fn close(
        &mut self,
        pid: Pid,
        signals: &mut Signals<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        self.drain();
        let is_last = self.processes.len() == 1;
        // While others are traced, their signals and reports are not kept waiting.
        let mut patience =
            if is_last { Patience::last(signals) } else { Patience::between(signals) };
        let report = Box::new(self.report(pid, &mut patience, listener).await?);
        self.processes.remove(&pid);
        self.kernel.forget(pid);
        listener(Progress::Report { report, last: true })
    }

    /// Reports on every process; `last` when the run ends.
    pub(super) async fn report_running(
        &mut self,
        last: bool,
        signals: &mut Signals<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        let running: Vec<Pid> = self.processes.keys().copied().collect();
        let mut patience = if last { Patience::last(signals) } else { Patience::between(signals) };
        for pid in running {
            let report = Box::new(self.report(pid, &mut patience, listener).await?);
            if listener(Progress::Report { report, last })?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn report(
        &mut self,
        pid: Pid,
        patience: &mut Patience<'_, '_>,
        listener: &mut Listener<'_>,
    ) -> Result<Report, Fault> {
        let end = SystemTime::now();
        let facts = RunFacts {
            counts: self.kernel.counts(),
            undecodable: self.ring.undecodable,
            link_kind: self.kernel.link_kind,
            costs: self.costs,
            processes: self.admitted,
        };
        let mean_bytes = self.options.selection.mean_bytes();
        let walk = WalkOptions { sort: self.options.report.sort, top: self.options.report.top };
        let Some(process) = self.processes.get_mut(&pid) else {
            return Err(broken(&"a process without a ledger"));
        };
        if let Some(report) = process.walk_report(&self.options.filter, walk) {
            return Ok(report);
        }
        if process.cut_ns.is_none() {
            process.spending.look(self.kernel.hits(pid));
        }
        // What a sampler of its own tells is not in the kernel's table.
        let by_itself = process.hooks.source != Source::Allocators;
        if !process.ended {
            resynchronise(process, &self.kernel, mean_bytes != 0 && !by_itself, &facts.counts);
        }
        let now_ns = process.cut_ns.unwrap_or_else(monotonic_ns);
        let snapshot = process.snapshot(now_ns, &self.options.filter);
        let mappings = process.mappings_snapshot(now_ns, &self.options.filter, &self.stacks);
        let mut loss = loss(process, &self.stacks, &snapshot, mappings.as_ref(), &facts);
        match ProcessMemory::read(&process.target.process) {
            // A process that is ending has no memory any more: what it had last is what counts.
            Ok(memory) if memory.rss_bytes > 0 => process.memory = memory,
            _ => {}
        }
        let memory = process.memory;
        let shown = shown_stacks(&snapshot, mappings.as_ref(), self.options.report);
        let named = self.name_stacks(pid, &shown, patience, listener).await?;
        let Self { symboliser, processes, options, modules, .. } = self;
        let Some(process) = processes.get(&pid) else {
            return Err(broken(&"a process without a ledger"));
        };
        loss.notices.extend(symboliser.notices(&named.modules));
        if named.given_up > 0 {
            let count = named.given_up;
            loss.notices.push(format!("addresses without a name, since it was interrupted while they were looked up: {count}"));
        }
        let heap = process.golang.as_ref();
        let exact = process.exact.as_ref();
        let mut stack = |id| match named.stacks.get(&id) {
            Some(known) => named_stack(known, exact, modules, symboliser),
            None => heap.and_then(|heap| heap.stack(id)).unwrap_or_default(),
        };
        let symbols = named.program.map_or("none", |id| symboliser.level(id));
        let doublings = process.spending.control.doublings;
        let sampling = sampling(heap, by_itself, mean_bytes, doublings);
        Ok(build(ReportInput {
            target: target_section(process, symbols),
            start: process.started,
            end,
            sampling,
            snapshot: &snapshot,
            mappings: mappings.as_ref(),
            stack: &mut stack,
            loss,
            memory,
            cost: cost(process, &facts, symboliser.usage()),
            options: options.report,
        }))
    }
}

fn target_section(process: &TracedProcess, symbols: &'static str) -> TargetSection {
    let (heap, exact) = (process.golang.as_ref(), process.exact.as_ref());
    let allocators = process.hooks.allocators.iter().cloned();
    let allocators = allocators.chain(heap.map(GoHeap::name));
    let allocators = allocators.chain(exact.map(ExactGoHeap::name)).collect();
    let go_version = heap.map(GoHeap::version).or(exact.map(ExactGoHeap::version));
    TargetSection {
        go_version: go_version.map(str::to_owned),
        ..describe_target(&process.target, allocators, symbols)
    }
}

/// A stack that was walked: in Go code by the function table of its module, elsewhere by symbols.
fn named_stack(
    known: &KnownStack,
    exact: Option<&ExactGoHeap>,
    modules: &ModuleTable,
    symboliser: &Symboliser,
) -> Stack {
    if let Some(exact) = exact.filter(|exact| exact.is_go(known, modules)) {
        return exact.stack(known, modules, &|others| symboliser.frames(others));
    }
    let frames = symboliser.frames(&known.locations);
    Stack { frames, end: Some(known.end), ..Stack::default() }
}

/// After events were lost, what can be asked anew has the last word; `sampled` when the kernel has a table of live blocks.
fn resynchronise(process: &mut TracedProcess, kernel: &Kernel, sampled: bool, counts: &Counts) {
    if counts.lost_events() > 0 {
        if sampled {
            process.ledger.resynchronise(&kernel.live_blocks(process.pid()));
        }
        if let Some(heap) = &mut process.golang {
            heap.resynchronise();
        }
    }
    if counts.lost_mapping_events() > 0 {
        process.resynchronise_mappings();
    }
}

fn sampling(
    heap: Option<&GoHeap>,
    by_itself: bool,
    first_mean_bytes: u64,
    doublings: u32,
) -> Sampling {
    match (heap, by_itself, first_mean_bytes) {
        (Some(heap), ..) => Sampling::GoRuntime { mean_bytes: heap.mean_bytes() },
        (None, true, _) => Sampling::Usdt,
        (None, false, 0) => Sampling::Exact,
        (None, false, _) => {
            Sampling::Poisson { mean_bytes: doubled(first_mean_bytes, doublings), first_mean_bytes }
        }
    }
}
