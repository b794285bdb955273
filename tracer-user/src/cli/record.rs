//! `outlive record`: snapshots of running processes into a recording, for hours to weeks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use crate::cli::Outcome;
use crate::cli::args::{Global, Record};
use crate::cli::attach::{DEFAULT_MEAN_BYTES, DEFAULT_OVERHEAD, runtime};
use crate::cli::recorder::Recorder;
use crate::cli::say::say;
use crate::cli::signals::Signals;
use crate::fault::{Fault, Status};
use crate::target::{Pid, Target, successor};
use crate::trace::options::{Selection, TraceOptions};
use crate::trace::progress::{Progress, UserSignal};
use crate::trace::session::Session;

/// How often it is looked whether a program that has ended is there again.
const LOOK_FOR_RESTART: Duration = Duration::from_secs(1);

/// What all recorded processes share.
struct Shared {
    recorder: RefCell<Recorder>,
    options: TraceOptions,
    deadline: Option<Instant>,
    /// The user has asked for the end.
    is_ending: Cell<bool>,
    /// Whom to tell of it.
    sessions: RefCell<Vec<UnboundedSender<UserSignal>>>,
    /// Processes that are recorded now.
    recorded: RefCell<BTreeSet<Pid>>,
    quiet: bool,
}

/// Runs the command.
pub(super) fn record(arguments: &Record, global: &Global) -> Result<Outcome, Fault> {
    let selection = Selection::Poisson { mean_bytes: DEFAULT_MEAN_BYTES };
    let options = arguments.options(selection, Some(DEFAULT_OVERHEAD))?;
    let pids: BTreeSet<Pid> =
        arguments.pids.iter().chain(&arguments.pid).map(|pid| Pid(*pid)).collect();
    let targets = pids.iter().map(|pid| Target::open(*pid)).collect::<Result<Vec<_>, _>>()?;
    let recorder = Recorder::open(&arguments.output)?;
    let shared = Rc::new(Shared {
        recorder: RefCell::new(recorder),
        deadline: options.duration.and_then(|time| Instant::now().checked_add(time)),
        is_ending: Cell::new(false),
        sessions: RefCell::default(),
        recorded: RefCell::new(pids),
        quiet: global.quiet,
        options,
    });
    let runtime = runtime()?;
    LocalSet::new().block_on(&runtime, record_all(Rc::clone(&shared), targets))?;
    shared.recorder.borrow().finish()?;
    Ok(Outcome::Own(Status::Success))
}

/// Records each process until the user has enough. The first failure ends it all.
async fn record_all(shared: Rc<Shared>, targets: Vec<Target>) -> Result<(), Fault> {
    let mut signals = Signals::hear()?.end_well();
    let mut tasks = JoinSet::new();
    for target in targets {
        tasks.spawn_local(record_program(Rc::clone(&shared), target));
    }
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => {
                shared.is_ending.set(true);
                // Sessions that have ended by themselves hear nothing.
                shared.sessions.borrow_mut().retain(|session| session.send(signal).is_ok());
            }
            ended = tasks.join_next() => match ended {
                None => return Ok(()),
                Some(Ok(result)) => result?,
                Some(Err(error)) => {
                    let remedy = "record it again, and report this as an error of outlive's";
                    return Err(Fault::new(Status::Failed, "recording has ended", error.to_string(), remedy));
                }
            }
        }
    }
}

/// Records a program through its restarts.
async fn record_program(shared: Rc<Shared>, first: Target) -> Result<(), Fault> {
    let mut last = first.identity();
    record_process(&shared, first).await?;
    while !shared.is_over() {
        let others = shared.recorded.borrow().clone();
        if let Some(target) = successor::find(&last, &others) {
            let identity = target.identity();
            shared.recorded.borrow_mut().insert(identity.pid);
            let recorded = record_process(&shared, target).await;
            shared.recorded.borrow_mut().remove(&identity.pid);
            match recorded {
                Ok(()) => last = identity,
                // It may have no allocator yet: its libraries are being loaded.
                Err(fault) if fault.status == Status::NoTarget => {
                    tracing::debug!("{} is not recorded yet: {}", identity.pid, fault.why);
                }
                Err(fault) => return Err(fault),
            }
        }
        tokio::time::sleep(LOOK_FOR_RESTART.min(shared.time_left())).await;
    }
    Ok(())
}

/// Records one process until it ends or the user has enough.
async fn record_process(shared: &Rc<Shared>, target: Target) -> Result<(), Fault> {
    let (sender, signals) = unbounded_channel();
    shared.sessions.borrow_mut().push(sender);
    let duration = shared.deadline.map(|_| shared.time_left());
    let mut session = Session::open(TraceOptions { duration, ..shared.options.clone() })?;
    let pid = target.pid;
    session.admit(target)?;
    session.require_hooks(pid)?;
    let mut listener = |progress: Progress<'_>| {
        let mut recorder = shared.recorder.borrow_mut();
        match progress {
            Progress::Tracing { target, .. } => {
                if !shared.quiet {
                    say(format_args!("outlive: recording {} ({})", target.pid, target.comm));
                }
                recorder.expect(target);
            }
            Progress::Report { report, last } => {
                // A last report also comes when the user has enough, or when tracing costs too much.
                let has_ended = last && !successor::is_running(Pid(report.target.pid));
                recorder.keep(&report, SystemTime::now(), has_ended)?;
            }
            Progress::Governed { target, what } => {
                if !shared.quiet {
                    say(format_args!("outlive: {} ({}): {what}", target.pid, target.comm));
                }
            }
            Progress::Loaded { .. } | Progress::Naming { .. } => {}
        }
        Ok(ControlFlow::Continue(()))
    };
    session.run(signals, &mut |_| {}, &mut listener).await
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_ending.get() || self.time_left().is_zero()
    }

    fn time_left(&self) -> Duration {
        self.deadline
            .map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
