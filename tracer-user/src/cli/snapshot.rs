//! `outlive snapshot`: what a Go process holds now.

use crate::cli::Outcome;
use crate::cli::args::{Global, Snapshot};
use crate::cli::output::Output;
use crate::cli::signals::Signals;
use crate::fault::{Fault, Status};
use crate::snapshot;
use crate::target::{Pid, Target};

/// Runs the command.
pub(super) fn snapshot(arguments: &Snapshot, global: &Global) -> Result<Outcome, Fault> {
    let _until_it_ends = Signals::hear()?;
    let target = Target::open(Pid(arguments.pid))?;
    let report = snapshot::take(&target, arguments.options())?;
    let mut output =
        Output::open(&arguments.output, arguments.force, arguments.format, global.color)?;
    let _or_reader_gone = output.write(report)?;
    output.finish()?;
    Ok(Outcome::Own(Status::Success))
}
