//! `outlive attach`: trace running processes.

use std::ops::ControlFlow;

use crate::cli::Outcome;
use crate::cli::args::{Attach, Global, Trace};
use crate::cli::bar::Bar;
use crate::cli::output::Output;
use crate::cli::say::say;
use crate::cli::signals::Signals;
use crate::fault::{Fault, Status};
use crate::report::model::Report;
use crate::target::{Kind, Pid, Target};
use crate::trace::hooks::Source;
use crate::trace::options::{GoOptions, Selection, TraceOptions};
use crate::trace::progress::Progress;
use crate::trace::session::Session;

/// Mean bytes between samples unless told otherwise.
pub(super) const DEFAULT_MEAN_BYTES: u64 = 512 << 10;

/// Slowdown of a target that is allowed unless told otherwise.
pub(super) const DEFAULT_OVERHEAD: f64 = 0.1;

/// Runs the command.
pub(super) fn attach(arguments: &Attach, global: &Global) -> Result<Outcome, Fault> {
    let trace = &arguments.trace;
    let mut pids: Vec<Pid> =
        arguments.pids.iter().chain(&arguments.pid).map(|pid| Pid(*pid)).collect();
    pids.sort();
    pids.dedup();
    let selection = Selection::Poisson { mean_bytes: DEFAULT_MEAN_BYTES };
    let options = trace.options(selection, Some(DEFAULT_OVERHEAD))?;
    let exact = trace.exact_go(Some(DEFAULT_OVERHEAD));
    let targets = pids.into_iter().map(Target::open).collect::<Result<Vec<_>, _>>()?;
    if exact.is_some() && options.duration.is_none() {
        require_no_go(&targets)?;
    }
    let signals = Signals::hear()?;
    // A Go library in another program is not slowed without an end in sight either.
    let exact = exact.filter(|_| options.duration.is_some());
    let go = GoOptions { exact, walks: true, ..options.go };
    let options = TraceOptions { go, ..options };
    let output = Output::open(&trace.output, trace.force, trace.format, global.color)?;
    let mut output = output.sorted_by(options.report.sort);
    let mut lost = 0;
    runtime()?.block_on(async {
        let mut session = Session::open(options)?;
        show_preparing(&mut session, global);
        for target in targets {
            let pid = target.pid;
            session.admit(target)?;
            session.require_hooks(pid)?;
        }
        let mut listener = listener(&mut output, global, &mut lost);
        session.run(signals.end_well(), &mut |_| {}, &mut listener).await
    })?;
    output.finish()?;
    Ok(Outcome::Own(status(trace, lost)))
}

/// Shows how far the tables are by which stacks will be walked.
pub(super) fn show_preparing(session: &mut Session, global: &Global) {
    let mut bar = Bar::default();
    if !global.quiet {
        session.tell_preparing(Box::new(move |done, total| {
            if done < total {
                bar.show("reading unwind information", done as u64, total as u64);
            } else {
                bar.clear();
            }
        }));
    }
}

/// Without an end in sight a Go program is not slowed as much as recording every allocation slows it.
fn require_no_go(targets: &[Target]) -> Result<(), Fault> {
    let Some(target) = targets.iter().find(|target| target.kind == Kind::Go) else {
        return Ok(());
    };
    Err(Fault::new(
        Status::Usage,
        format!("cannot record every allocation of process {} without an end", target.pid),
        "it is a Go program, which --exact slows many times",
        "say for how long: --exact -d 5s; or leave out --exact, and its runtime's own samples are followed",
    ))
}

/// Prints what a run tells: progress to standard error, reports to the output.
pub(super) fn listener<'a>(
    output: &'a mut Output,
    global: &'a Global,
    lost: &'a mut u64,
) -> impl FnMut(Progress<'_>) -> Result<ControlFlow<()>, Fault> + 'a {
    let mut bar = Bar::default();
    move |progress| match progress {
        Progress::Tracing { target, source } => {
            let by = match source {
                Source::Allocators => String::new(),
                Source::Sampler(provider) => {
                    format!(" by its own sampler, {} (USDT)", provider.name())
                }
            };
            if !global.quiet {
                say(format_args!("outlive: tracing {} ({}){by}", target.pid, target.comm));
            }
            Ok(ControlFlow::Continue(()))
        }
        Progress::Loaded { target, allocator } => {
            if !global.quiet {
                say(format_args!(
                    "outlive: {} has loaded {allocator}: traced from now on",
                    target.pid
                ));
            }
            Ok(ControlFlow::Continue(()))
        }
        Progress::Naming { done, total, fetching } => {
            if !global.quiet {
                let what = if fetching { "fetching debug information" } else { "naming addresses" };
                bar.show(what, done as u64, total as u64);
            }
            Ok(ControlFlow::Continue(()))
        }
        Progress::Governed { target, what } => {
            if !global.quiet {
                say(format_args!("outlive: {} ({}): {what}", target.pid, target.comm));
            }
            Ok(ControlFlow::Continue(()))
        }
        Progress::Report { report, last: _ } => {
            bar.clear();
            *lost = (*lost).max(lost_events(&report));
            output.write(*report)
        }
    }
}

fn lost_events(report: &Report) -> u64 {
    report.loss.lost_events + report.loss.untracked_allocations + report.loss.missed_returns
}

/// Whether more was lost than is allowed.
pub(super) fn status(trace: &Trace, lost: u64) -> Status {
    match trace.max_loss {
        Some(allowed) if lost > allowed => Status::TooMuchLost,
        _ => Status::Success,
    }
}

/// One thread: it is also the one that ptrace belongs to.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Fault::new(
            Status::Failed,
            "cannot start the event loop",
            error.to_string(),
            "check the limits of this process (ulimit -n)",
        )
    })
}
