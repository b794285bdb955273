//! One tracing run: events in, reports at intervals and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::allocators::named::nearest;
use crate::collector::event::{Event, Happening, ResizeOutcome};
use crate::collector::ring::Ring;
use crate::fault::{Fault, Status};
use crate::governor::{Costs, Governor, TYPICAL_COSTS};
use crate::probes::attach::release;
use crate::symbolise::{Debuginfod, Symboliser};
use crate::sys::readiness;
use crate::target::symbols::select_functions;
use crate::target::{ModuleId, ModuleTable, Pid, Target};
use crate::trace::calibration;
use crate::trace::following::MappingFollower;
use crate::trace::golang::NotFollowed;
use crate::trace::kernel::Kernel;
use crate::trace::naming::Signals;
use crate::trace::options::TraceOptions;
use crate::trace::process::TracedProcess;
use crate::trace::progress::{Listener, PreparingListener, Progress, UserSignal};
use crate::trace::stacks::Stacks;

/// How often the ring buffer is looked at: kernel programs wake nobody before it fills up.
const POLL: Duration = Duration::from_millis(10);
/// This program, whatever became of its file.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// How often it is looked at what tracing costs.
const LOOK: Duration = Duration::from_millis(50);
/// Records read before timers and signals get their turn.
const BATCH: usize = 65_536;
/// The shortest record and its header in the ring buffer, bytes.
const LEAST_RECORD_BYTES: usize = 32;

/// Traced processes and the kernel side they share.
pub struct Session {
    pub(super) options: TraceOptions,
    pub(super) kernel: Kernel,
    pub(super) ring: Ring,
    /// What a hit costs on this machine.
    pub(super) costs: Costs,
    /// When to look next at what tracing costs.
    next_look: Instant,
    pub(super) modules: ModuleTable,
    pub(super) symboliser: Symboliser,
    pub(super) stacks: Stacks,
    mappings: MappingFollower,
    pub(super) processes: BTreeMap<Pid, TracedProcess>,
    /// Children that were forked and are not followed yet.
    children: Vec<Pid>,
    /// Processes traced so far, those that have ended included.
    pub(super) admitted: usize,
}

impl Session {
    /// Prepares the kernel side. Must be called inside a tokio runtime.
    pub fn open(options: TraceOptions) -> Result<Self, Fault> {
        let (mut kernel, mut ring) = Kernel::open(&options)?;
        let costs = calibration::measure(&mut kernel, &mut ring).unwrap_or_else(|fault| {
            tracing::warn!(
                "what a hit costs cannot be measured, typical costs are used: {}",
                fault.why
            );
            TYPICAL_COSTS
        });
        tracing::debug!("a hit costs {costs:?}");
        Ok(Self {
            options,
            kernel,
            ring,
            costs,
            next_look: Instant::now(),
            modules: ModuleTable::new(),
            symboliser: Symboliser::new(OWN_PROGRAM.into(), Debuginfod::from_environment()),
            stacks: Stacks::default(),
            mappings: MappingFollower::start(),
            processes: BTreeMap::new(),
            children: Vec::new(),
            admitted: 0,
        })
    }

    /// Has it told how many files of how many have their unwind tables, whenever tables are made.
    pub fn tell_preparing(&mut self, listener: PreparingListener) {
        self.kernel.tell_preparing(listener);
    }

    /// Admits a process and attaches to the allocators it has by now; true when there was one.
    pub fn admit(&mut self, target: Target) -> Result<bool, Fault> {
        let process =
            TracedProcess::new(target, &self.options, &mut self.modules, &mut self.kernel)?;
        self.take_in(process)
    }

    /// The same of a process that has run no instruction of its own yet.
    pub fn admit_new(&mut self, target: Target) -> Result<bool, Fault> {
        let mut process =
            TracedProcess::new(target, &self.options, &mut self.modules, &mut self.kernel)?;
        process.set_new();
        self.take_in(process)
    }

    fn take_in(&mut self, mut process: TracedProcess) -> Result<bool, Fault> {
        let pid = process.pid();
        if self.options.mappings {
            process.open_mapping_book();
        }
        let attached = process.attach_new(&mut self.modules, &mut self.kernel);
        if attached.is_err() {
            release(process.detach(&mut self.kernel));
            self.kernel.forget(pid);
        }
        let attached = attached?;
        let exact_go = self.options.go.exact.filter(|_| process.exact.is_some());
        let limit = exact_go.map_or(self.options.max_overhead, |exact| exact.max_overhead);
        let governor = limit.map(Governor::new);
        process.start_window(&self.kernel, governor);
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

    /// The same once its loader has done all its work, for what could not be recognised before.
    pub fn attach_relocated(&mut self, pid: Pid) -> Result<bool, Fault> {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.search_again();
        }
        self.attach_new(pid)
    }

    /// Fails when nothing is hooked in a process, or a function that the user named is not: there is no allocator in it
    /// that is known.
    pub fn require_hooks(&self, pid: Pid) -> Result<(), Fault> {
        let Some(process) = self.processes.get(&pid) else { return Ok(()) };
        let mapped = process.modules();
        if let Some(missing) = self.kernel.missing_functions(&mapped).first() {
            return Err(no_such_function(pid, missing, &mapped, &self.modules));
        }
        if process.is_followed() {
            return Ok(());
        }
        if let Some(refused) = &process.golang_refused {
            return Err(go_not_followed(pid, refused));
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
        signals: tokio::sync::mpsc::UnboundedReceiver<UserSignal>,
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
        let mut signals = Signals::new(signals, hand_on);
        while !signals.ask_for_end() {
            tokio::select! {
                biased;
                signal = signals.receiver.recv() => match signal {
                    Some(UserSignal::HandOn(signal)) => (signals.hand_on)(signal),
                    Some(UserSignal::Finish) | None => break,
                },
                () = sleep_until(deadline) => break,
                Some(pid) = ended.recv() => {
                    if self.end(pid, &mut signals, listener).await?.is_break() {
                        break;
                    }
                    if self.processes.is_empty() {
                        return Ok(());
                    }
                }
                () = sleep_until(next_report) => {
                    self.drain();
                    if self.report_running(false, &mut signals, listener).await?.is_break() {
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
            self.processes.values_mut().for_each(TracedProcess::look_at_beginning);
            if Instant::now() >= self.next_look {
                self.next_look = Instant::now() + LOOK;
                let ControlFlow::Continue(given_up) = self.govern(listener)? else { return Ok(()) };
                for pid in given_up {
                    if self.close(pid, &mut signals, listener).await?.is_break() {
                        return Ok(());
                    }
                }
                if self.processes.is_empty() {
                    return Ok(());
                }
            }
        }
        self.drain();
        let Self { processes, kernel, .. } = self;
        release(processes.values_mut().flat_map(|process| process.detach(kernel)).collect());
        // Events between the last look and the detaching belong to the window.
        self.drain();
        self.report_running(true, &mut signals, listener).await.map(|_| ())
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
    pub(super) fn drain(&mut self) {
        let most_records = self.options.ring_bytes as usize / LEAST_RECORD_BYTES;
        for _ in 0..=most_records / BATCH {
            if !self.drain_batch() {
                break;
            }
        }
    }

    /// Applies one batch of events; true when there may be more.
    pub(super) fn drain_batch(&mut self) -> bool {
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
}

fn tracing_begins(process: &TracedProcess) -> Progress<'_> {
    Progress::Tracing { target: &process.target, source: process.hooks.source }
}

/// There is a Go heap and nothing else, and it cannot be followed.
fn go_not_followed(pid: Pid, refused: &NotFollowed) -> Fault {
    let (status, remedy) = match refused {
        NotFollowed::ProfilerOff => (
            Status::NoTarget,
            "turn it on for as long as it is traced: --enable-go-profiling".to_owned(),
        ),
        NotFollowed::NotAttached(fault) => (fault.status, fault.remedy.clone()),
        NotFollowed::NotGo | NotFollowed::Refused(_) => (
            Status::NoTarget,
            format!(
                "`outlive snapshot {pid}` may know more; `outlive doctor {pid}` lists what was looked at"
            ),
        ),
    };
    Fault::new(status, format!("cannot trace process {pid}"), refused.to_string(), remedy)
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

pub(super) fn broken(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(
        Status::Failed,
        "tracing broke off",
        error.to_string(),
        "run again with -vv and report what it prints",
    )
}
