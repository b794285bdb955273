//! `outlive top`: a live view of running processes.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _};
use std::ops::ControlFlow;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use crate::cli::Outcome;
use crate::cli::args::{Global, Top};
use crate::cli::attach::{DEFAULT_MEAN_BYTES, DEFAULT_OVERHEAD, runtime};
use crate::cli::signals::Signals;
use crate::fault::{Fault, Status};
use crate::target::{Pid, Target};
use crate::top::{News, Theme, show, terminal};
use crate::trace::options::{Selection, TraceOptions};
use crate::trace::progress::{Progress, UserSignal};
use crate::trace::session::Session;

/// How long the view may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs the command.
pub(super) fn top(arguments: &Top, global: &Global) -> Result<Outcome, Fault> {
    let pids: BTreeSet<Pid> =
        arguments.pids.iter().chain(&arguments.pid).map(|pid| Pid(*pid)).collect();
    require_terminal(&pids)?;
    let options = arguments
        .options(Selection::Poisson { mean_bytes: DEFAULT_MEAN_BYTES }, Some(DEFAULT_OVERHEAD))?;
    let signals = Signals::hear()?;
    let targets = pids.into_iter().map(Target::open).collect::<Result<Vec<_>, _>>()?;
    let theme = Theme { colour: global.color.is_wanted(true) };
    let runtime = runtime()?;
    let watched = runtime.block_on(watch(options, targets, theme, &signals));
    // Not even a view that does not end can keep outlive.
    runtime.shutdown_background();
    watched?;
    Ok(Outcome::Own(Status::Success))
}

/// Traces, and shows it, until the person has enough.
async fn watch(
    options: TraceOptions,
    targets: Vec<Target>,
    theme: Theme,
    signals: &Signals,
) -> Result<(), Fault> {
    let (sort, duration) = (options.report.sort, options.duration);
    let mut session = Session::open(options)?;
    let mut named = Vec::new();
    for target in targets {
        let pid = target.pid;
        named.push((pid.0, target.comm.clone()));
        session.admit(target)?;
        session.require_hooks(pid)?;
    }
    let mut signals = signals.end_well();
    let (news, received) = channel();
    let (finish, finished) = unbounded_channel();
    let mut view = spawn_blocking(move || show(named, sort, theme, &received));
    let mut listener = |progress: Progress<'_>| Ok(tell(&news, duration, progress));
    let tracing = async {
        let traced = session.run(finished, &mut |_| {}, &mut listener).await;
        // The view stays when tracing has ended, but not when it failed.
        if traced.is_err() {
            quit(&news);
        }
        traced
    };
    tokio::pin!(tracing);
    let mut traced = None;
    let mut deadline = None;
    let shown = loop {
        tokio::select! {
            shown = &mut view => break outcome(shown),
            Some(_) = signals.recv() => {
                quit(&news);
                deadline = Instant::now().checked_add(PATIENCE);
            }
            // A terminal that takes nothing, such as one at the end of a broken connection, holds it in the middle of its drawing.
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break Ok(()),
            result = &mut tracing, if traced.is_none() => traced = Some(result),
        }
    };
    // Once for the end, once more so that its last report, which nobody sees, waits for no server.
    for _ in 0..2 {
        if finish.send(UserSignal::Finish).is_err() {
            tracing::debug!("tracing has ended before the view");
        }
    }
    let traced = match traced {
        Some(result) => result,
        None => tracing.await,
    };
    terminal::leave();
    traced.and(shown)
}

/// Hands a report on to the view.
fn tell(
    news: &Sender<News>,
    duration: Option<Duration>,
    progress: Progress<'_>,
) -> ControlFlow<()> {
    let sent = match progress {
        Progress::Report { report, last } => {
            let is_time_over =
                duration.is_some_and(|duration| report.window.seconds >= duration.as_secs_f64());
            let ended = match (last, is_time_over) {
                (false, _) => None,
                (true, true) => Some("traced for as long as --duration says"),
                (true, false) => Some("the process has ended"),
            };
            news.send(News::Report { report, ended })
        }
        Progress::Naming { done, total, .. } => news.send(News::Naming(done, total)),
        // Reports have a notice of it.
        Progress::Governed { .. } | Progress::Tracing { .. } | Progress::Loaded { .. } => Ok(()),
    };
    match sent {
        Ok(()) => ControlFlow::Continue(()),
        // The view has ended.
        Err(_) => ControlFlow::Break(()),
    }
}

fn quit(news: &Sender<News>) {
    if news.send(News::Quit).is_err() {
        tracing::debug!("the view has ended by itself");
    }
}

/// A panic of the view goes on here, where the probes have been released.
fn outcome(shown: Result<Result<(), Fault>, JoinError>) -> Result<(), Fault> {
    match shown {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => {
                let remedy = "start it again, and report this as an error of outlive's";
                Err(Fault::new(Status::Failed, "the view has ended", error.to_string(), remedy))
            }
        },
    }
}

fn require_terminal(pids: &BTreeSet<Pid>) -> Result<(), Fault> {
    let stream = match (io::stdin().is_terminal(), io::stdout().is_terminal()) {
        (true, true) => return Ok(()),
        (_, false) => "output",
        (false, true) => "input",
    };
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    Err(Fault::new(
        Status::Usage,
        "cannot show a live view",
        format!("standard {stream} is not a terminal"),
        format!("use `outlive attach --interval 1s {}`, which needs none", pids.join(" ")),
    ))
}
