//! One tracing run: events in, reports at intervals and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior};

use crate::allocators::named::nearest;
use crate::collector::event::{Event, Happening, ResizeOutcome};
use crate::collector::ring::Ring;
use crate::fault::{Fault, Status};
use crate::probes::attach::release;
use crate::report::model::Report;
use crate::report::{ReportInput, Sampling, Stack, build, describe_target};
use crate::symbolise::Symboliser;
use crate::sys::readiness;
use crate::sys::usage::monotonic_ns;
use crate::target::memory::ProcessMemory;
use crate::target::symbols::select_functions;
use crate::target::{ModuleId, ModuleTable, Pid, Target};
use crate::trace::following::MappingFollower;
use crate::trace::hooks::Source;
use crate::trace::kernel::Kernel;
use crate::trace::options::TraceOptions;
use crate::trace::process::TracedProcess;
use crate::trace::progress::{Listener, Progress, UserSignal};
use crate::trace::stacks::Stacks;
use crate::trace::summary::{RunFacts, cost, loss};

/// How often the ring buffer is looked at: kernel programs wake nobody before it fills up.
const POLL: Duration = Duration::from_millis(10);
/// Records read before timers and signals get their turn.
const BATCH: usize = 65_536;
/// The shortest record and its header in the ring buffer, bytes.
const LEAST_RECORD_BYTES: usize = 32;

/// Traced processes and the kernel side they share.
pub struct Session {
    options: TraceOptions,
    kernel: Kernel,
    ring: Ring,
    modules: ModuleTable,
    symboliser: Symboliser,
    stacks: Stacks,
    mappings: MappingFollower,
    processes: BTreeMap<Pid, TracedProcess>,
    /// Children that were forked and are not followed yet.
    children: Vec<Pid>,
    /// Processes traced so far, those that have ended included.
    admitted: usize,
}

impl Session {
    /// Prepares the kernel side. Must be called inside a tokio runtime.
    pub fn open(options: TraceOptions) -> Result<Self, Fault> {
        let (kernel, ring) = Kernel::open(&options)?;
        Ok(Self {
            options,
            kernel,
            ring,
            modules: ModuleTable::new(),
            symboliser: Symboliser::new(),
            stacks: Stacks::default(),
            mappings: MappingFollower::start(),
            processes: BTreeMap::new(),
            children: Vec::new(),
            admitted: 0,
        })
    }

    /// Admits a process and attaches to the allocators it has by now; true when there was one.
    pub fn admit(&mut self, target: Target) -> Result<bool, Fault> {
        let pid = target.pid;
        let mean_bytes = self.options.selection.mean_bytes();
        let mut process =
            TracedProcess::new(target, mean_bytes, &mut self.modules, &mut self.kernel)?;
        if self.options.mappings {
            process.open_mapping_book();
        }
        let attached = process.attach_new(&mut self.modules, &mut self.kernel);
        if attached.is_err() {
            release(process.detach(&mut self.kernel));
        }
        let attached = attached?;
        process.start_window();
        self.processes.insert(pid, process);
        self.admitted += 1;
        Ok(attached)
    }

    /// Attaches to allocators that a process has mapped since.
    pub fn attach_new(&mut self, pid: Pid) -> Result<bool, Fault> {
        match self.processes.get_mut(&pid) {
            Some(process) => process.attach_new(&mut self.modules, &mut self.kernel),
            None => Ok(false),
        }
    }

    /// Fails when nothing is hooked in a process, or a function that the user named is not: there is no allocator in it
    /// that is known.
    pub fn require_hooks(&self, pid: Pid) -> Result<(), Fault> {
        let Some(process) = self.processes.get(&pid) else { return Ok(()) };
        let mapped = process.modules();
        if let Some(missing) = self.kernel.missing_functions(&mapped).first() {
            return Err(no_such_function(pid, missing, &mapped, &self.modules));
        }
        if !process.hooks.is_empty() {
            return Ok(());
        }
        let hidden = self.target(pid).is_some_and(|target| {
            target.exe_elf.interpreter.is_none() && !target.exe_elf.names.symtab
        });
        let (why, remedy) = if hidden {
            (
                "it is linked statically and has no symbols: if it holds an allocator, nothing tells where",
                "trace a build that was not stripped (link without -s)".to_owned(),
            )
        } else {
            (
                "there is no allocator in it: no file that it has mapped defines malloc and free",
                format!("`outlive doctor {pid}` lists what was looked at"),
            )
        };
        Err(Fault::new(Status::NoTarget, format!("cannot trace process {pid}"), why, remedy))
    }

    /// The target of an admitted process.
    pub fn target(&self, pid: Pid) -> Option<&Target> {
        self.processes.get(&pid).map(|process| &process.target)
    }

    /// Runs until the duration is over, all processes have ended, or `signals` says so; the final reports are given to
    /// the listener before it returns. Probes are released before the last symbols are looked up.
    pub async fn run(
        &mut self,
        mut signals: tokio::sync::mpsc::UnboundedReceiver<UserSignal>,
        hand_on: &mut (dyn FnMut(i32) + Send),
        listener: &mut Listener<'_>,
    ) -> Result<(), Fault> {
        for process in self.processes.values() {
            if listener(tracing_begins(process))?.is_break() {
                return Ok(());
            }
        }
        let (ended_sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
        for process in self.processes.values() {
            await_end(&process.target, ended_sender.clone())?;
        }
        let deadline = self.options.duration.map(|duration| Instant::now() + duration);
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let interval = self.options.interval.unwrap_or(Duration::from_secs(u64::MAX / 4));
        let first_report = Instant::now().checked_add(interval);
        let mut next_report = first_report;
        loop {
            tokio::select! {
                biased;
                signal = signals.recv() => match signal {
                    Some(UserSignal::HandOn(signal)) => hand_on(signal),
                    Some(UserSignal::Finish) | None => break,
                },
                () = sleep_until(deadline) => break,
                Some(pid) = ended.recv() => {
                    if self.end(pid, listener)?.is_break() {
                        break;
                    }
                    if self.processes.is_empty() {
                        return Ok(());
                    }
                }
                () = sleep_until(next_report) => {
                    self.drain();
                    if self.report_running(false, listener)?.is_break() {
                        break;
                    }
                    next_report = Instant::now().checked_add(interval);
                }
                ready = self.ring.ready() => ready.map_err(|error| broken(&error))?,
                _ = poll.tick() => {}
            }
            self.drain_batch();
            for child in std::mem::take(&mut self.children) {
                self.follow(child, &ended_sender, listener);
            }
            self.tell_loaded(listener)?;
        }
        self.drain();
        let Self { processes, kernel, .. } = self;
        release(processes.values_mut().flat_map(|process| process.detach(kernel)).collect());
        // Events between the last look and the detaching belong to the window.
        self.drain();
        self.report_running(true, listener).map(|_| ())
    }

    fn tell_loaded(&mut self, listener: &mut Listener<'_>) -> Result<(), Fault> {
        for process in self.processes.values_mut() {
            for allocator in std::mem::take(&mut process.loaded) {
                let target = &process.target;
                if listener(Progress::Loaded { target, allocator: &allocator })?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads everything that is in the ring buffer now. What a busy target adds meanwhile may stay for the next time.
    fn drain(&mut self) {
        let most_records = self.options.ring_bytes as usize / LEAST_RECORD_BYTES;
        for _ in 0..=most_records / BATCH {
            if !self.drain_batch() {
                break;
            }
        }
    }

    /// Applies one batch of events; true when there may be more.
    fn drain_batch(&mut self) -> bool {
        let Self { ring, kernel, stacks, mappings, processes, modules, children, .. } = self;
        mappings.follow(processes, modules, kernel);
        let mut executed = Vec::new();
        let more = ring.drain(BATCH, |mut event: Event| {
            let Some(process) = processes.get_mut(&event.pid) else { return };
            match &mut event.what {
                Happening::Forked(child) => children.push(*child),
                Happening::Executed => executed.push(event.pid),
                Happening::Stack(stack) => stacks.keep(stack, process, kernel, modules),
                Happening::StackCopy(copied) => stacks.complete(copied, process, kernel),
                Happening::Allocated(allocation)
                | Happening::Resized { outcome: ResizeOutcome::Moved(allocation), .. } => {
                    allocation.stack_id = stacks.canonical(allocation.stack_id);
                }
                Happening::Mapping(change) => {
                    if let Some(origin) = change.origin_mut() {
                        origin.stack_id = stacks.canonical(origin.stack_id);
                    }
                }
                _ => {}
            }
            process.apply(&event);
        });
        kernel.flush_log();
        for pid in executed {
            self.kernel.forget_live(pid);
            if let (Ok(target), Some(process)) = (Target::open(pid), self.processes.get_mut(&pid)) {
                process.target = target;
                process.hooks.executed();
            }
            if let Err(fault) = self.attach_new(pid) {
                tracing::warn!("{pid} runs another program that cannot be traced: {}", fault.why);
            }
        }
        more
    }

    /// Traces a child as a target of its own. A child that has ended already is a notice, not a failure.
    fn follow(
        &mut self,
        child: Pid,
        ended: &tokio::sync::mpsc::UnboundedSender<Pid>,
        listener: &mut Listener<'_>,
    ) {
        let followed = Target::open(child).and_then(|target| {
            self.admit(target)?;
            let Some(process) = self.processes.get_mut(&child) else { return Ok(()) };
            process.notices.push(
                "a followed child: what it allocated before its probes were attached, a few milliseconds, is not seen, \
                 and what it got from its parent counts as unknown when freed"
                    .to_owned(),
            );
            await_end(&process.target, ended.clone())?;
            listener(tracing_begins(process)).map(|_| ())
        });
        if let Err(fault) = followed {
            tracing::warn!("child {child} is not followed: {}", fault.why);
        }
    }

    /// Final report of a process that has ended.
    fn end(&mut self, pid: Pid, listener: &mut Listener<'_>) -> Result<ControlFlow<()>, Fault> {
        self.drain();
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(ControlFlow::Continue(()));
        };
        release(process.detach(&mut self.kernel));
        process.ended = true;
        let report = Box::new(self.report(pid)?);
        self.processes.remove(&pid);
        listener(Progress::Report { report, last: true })
    }

    fn report_running(
        &mut self,
        last: bool,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        let running: Vec<Pid> = self.processes.keys().copied().collect();
        for pid in running {
            let report = Box::new(self.report(pid)?);
            if listener(Progress::Report { report, last })?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn report(&mut self, pid: Pid) -> Result<Report, Fault> {
        let facts = RunFacts {
            counts: self.kernel.counts(),
            undecodable: self.ring.undecodable,
            link_kind: self.kernel.link_kind,
            processes: self.admitted,
        };
        let mean_bytes = self.options.selection.mean_bytes();
        let Some(process) = self.processes.get_mut(&pid) else {
            return Err(broken(&"a process without a ledger"));
        };
        // What a sampler of its own tells is not in the kernel's table.
        let by_itself = process.hooks.source != Source::Allocators;
        if mean_bytes != 0 && !by_itself && facts.counts.lost_events() > 0 && !process.ended {
            let live = self.kernel.live_blocks(pid);
            process.ledger.resynchronise(&live);
        }
        if facts.counts.lost_mapping_events() > 0 && !process.ended {
            process.resynchronise_mappings();
        }
        let now_ns = process.cut_ns.unwrap_or_else(monotonic_ns);
        let snapshot = process.ledger.snapshot(now_ns, &self.options.filter);
        let mappings = process.mappings_snapshot(now_ns, &self.options.filter, &self.stacks);
        let loss = loss(process, &self.stacks, &snapshot, mappings.as_ref(), &facts);
        match ProcessMemory::read(&process.target.process) {
            // A process that is ending has no memory any more: what it had last is what counts.
            Ok(memory) if memory.rss_bytes > 0 => process.memory = memory,
            _ => {}
        }
        let Self { symboliser, modules, options, stacks, .. } = self;
        let mut stack = |id| match stacks.get(id) {
            Some(known) => Stack {
                frames: symboliser.symbolise_stack(&known.locations, modules),
                end: Some(known.end),
            },
            None => Stack { frames: Vec::new(), end: None },
        };
        let sampling = match (by_itself, mean_bytes) {
            (true, _) => Sampling::Usdt,
            (false, 0) => Sampling::Exact,
            (false, mean_bytes) => Sampling::Poisson { mean_bytes },
        };
        Ok(build(ReportInput {
            target: describe_target(
                &process.target,
                process.hooks.allocators.iter().cloned().collect(),
            ),
            start: process.started,
            end: SystemTime::now(),
            sampling,
            snapshot: &snapshot,
            mappings: mappings.as_ref(),
            stack: &mut stack,
            loss,
            memory: process.memory,
            cost: cost(&facts),
            options: options.report,
        }))
    }
}

fn tracing_begins(process: &TracedProcess) -> Progress<'_> {
    Progress::Tracing { target: &process.target, source: process.hooks.source }
}

/// Names what there is instead.
fn no_such_function(
    pid: Pid,
    name: &str,
    mapped: &BTreeSet<ModuleId>,
    modules: &ModuleTable,
) -> Fault {
    let mut defined = BTreeSet::new();
    for file in mapped.iter().filter_map(|id| modules.get(*id)?.file.as_ref()) {
        let mut is_like = |candidate: &str| {
            if !nearest(name, std::iter::once(candidate)).is_empty() {
                defined.insert(candidate.to_owned());
            }
            false
        };
        if let Err(error) = select_functions(file, &mut is_like) {
            tracing::debug!("symbols cannot be read: {error}");
        }
    }
    let alike = nearest(name, defined.iter().map(String::as_str)).join(", ");
    let remedy = if alike.is_empty() {
        "check the name against `nm -D FILE` and `nm FILE`; a stripped file names its exported functions only".to_owned()
    } else {
        format!("similar names are: {alike}")
    };
    Fault::new(
        Status::NoTarget,
        format!("cannot hook {name} in process {pid}"),
        "no file that it has mapped defines a function of that name",
        remedy,
    )
}

/// Tells when a process ends.
fn await_end(target: &Target, ended: tokio::sync::mpsc::UnboundedSender<Pid>) -> Result<(), Fault> {
    let pid = target.pid;
    let pidfd = target.pidfd.try_clone().map_err(|error| broken(&error))?;
    let pidfd = readiness::watch(pidfd).map_err(|error| broken(&error))?;
    tokio::spawn(async move {
        let ready = pidfd.readable().await.map(|_| ());
        if ready.is_ok() && ended.send(pid).is_err() {
            tracing::debug!("{pid} has ended after the run");
        }
    });
    Ok(())
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn broken(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        Status::Failed,
        "tracing broke off",
        error.to_string(),
        "run again with -vv and report what it prints",
    )
}
