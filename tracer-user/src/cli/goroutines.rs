//! `outlive goroutines`: what the goroutines of a Go process do, by creation site, and what has changed when looked at again.

use std::time::Duration;

use crate::cli::Outcome;
use crate::cli::args::{Global, Goroutines};
use crate::cli::attach::runtime;
use crate::cli::format::Format;
use crate::cli::output::Output;
use crate::cli::say::say;
use crate::cli::signals::Signals;
use crate::fault::{Fault, Status};
use crate::goroutines::{Lister, text};
use crate::target::{Pid, Target};

/// Runs the command.
pub(super) fn goroutines(arguments: &Goroutines, global: &Global) -> Result<Outcome, Fault> {
    let look = &arguments.look;
    look.format.require_plain("goroutines")?;
    let signals = Signals::hear()?;
    let target = Target::open(Pid(look.pid))?;
    let lister = Lister::open(&target)?;
    let first = lister.look()?;
    let mut output = Output::open(&look.output, look.force, look.format, global.color)?;
    let (last, before) = match arguments.duration {
        None => (first, None),
        Some(span) => {
            wait(span.duration, &signals, || {
                if !global.quiet {
                    say(format_args!("outlive: looking at {} again in {span}", target.pid));
                }
            })?;
            (lister.look()?, Some(first))
        }
    };
    let hold = arguments.hold.map(|span| span.duration);
    let never_wake = arguments.never_wake.then(|| lister.never_wake(hold)).transpose()?;
    let report = lister.report(&last, before.as_ref(), never_wake.as_ref(), look.options());
    let _or_reader_gone = output.print(&|format, layout| match format {
        Format::Text => text::render(&report, layout),
        // Plain data to memory: it cannot fail.
        _ => serde_json::to_string(&report).unwrap_or_default() + "\n",
    })?;
    Ok(Outcome::Own(Status::Success))
}

/// Waits for so long, or until Ctrl-C; says so when either can happen.
fn wait(duration: Duration, signals: &Signals, tell: impl FnOnce()) -> Result<(), Fault> {
    runtime()?.block_on(async {
        let mut signals = signals.end_well();
        tell();
        // Either ends the wait; which of the two did makes no difference.
        let _signal_or_none = tokio::time::timeout(duration, signals.recv()).await;
        Ok(())
    })
}
