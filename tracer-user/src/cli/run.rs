//! `outlive run`: start a program and trace it from its first allocation.

use crate::cli::Outcome;
use crate::cli::args::{Global, Run};
use crate::cli::attach::{listener, runtime, show_preparing, status};
use crate::cli::output::Output;
use crate::cli::signals::Signals;
use crate::fault::{Fault, Status};
use crate::sys::start::{Ending, send_signal, wait_for_end};
use crate::trace::options::Selection;
use crate::trace::session::Session;
use crate::trace::start;

/// Added to a signal's number for the status of a program that it killed.
const KILLED: i32 = 128;

/// Runs the command. Ends with the program's status, unless more was lost than is allowed.
pub(super) fn run(arguments: &Run, global: &Global) -> Result<Outcome, Fault> {
    let trace = &arguments.trace;
    let Some((program, rest)) = arguments.command.split_first() else {
        return Ok(Outcome::Own(Status::Usage));
    };
    let options = trace.options(Selection::Exact, None)?;
    let output = Output::open(&trace.output, trace.force, trace.format, global.color)?;
    let mut output = output.sorted_by(options.report.sort);
    let mut lost = 0;
    let pid = runtime()?.block_on(async {
        let (signals, received) = Signals::hear_for_program()?;
        let mut session = Session::open(options)?;
        show_preparing(&mut session, global);
        let pid = start::start(&mut session, program, rest, |pid| signals.are_for(pid))?;
        let mut hand_on = |signal| {
            if let Err(error) = send_signal(pid.0, signal) {
                tracing::warn!("signal {signal} does not reach {pid}: {error}");
            }
        };
        let mut listener = listener(&mut output, global, &mut lost);
        session.run(received, &mut hand_on, &mut listener).await?;
        Ok::<_, Fault>(pid)
    })?;
    output.finish()?;
    let ending = wait_for_end(pid.0).map_err(|error| {
        Fault::new(
            Status::Failed,
            "cannot tell how the program ended",
            error.to_string(),
            "run it again; its report is complete",
        )
    })?;
    if status(trace, lost) == Status::TooMuchLost {
        return Ok(Outcome::Own(Status::TooMuchLost));
    }
    Ok(Outcome::OfProgram(match ending {
        Ending::Exited(status) => status as u8,
        Ending::Killed(signal) => (KILLED + signal) as u8,
    }))
}
