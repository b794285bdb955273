//! `outlive goroutines`: what the goroutines of a Go process do, by creation site.

use crate::cli::Outcome;
use crate::cli::args::{Format, Global, Snapshot};
use crate::cli::output::Output;
use crate::fault::{Fault, Status};
use crate::goroutines::{self, text};
use crate::target::{Pid, Target};

/// Runs the command.
pub(super) fn goroutines(arguments: &Snapshot, global: &Global) -> Result<Outcome, Fault> {
    let target = Target::open(Pid(arguments.pid))?;
    let report = goroutines::take(&target, arguments.options())?;
    let mut output =
        Output::open(&arguments.output, arguments.force, arguments.format, global.color)?;
    let _or_reader_gone = output.print(&|format, layout| match format {
        Format::Text => text::render(&report, layout),
        // Plain data to memory: it cannot fail.
        Format::Json => serde_json::to_string(&report).unwrap_or_default() + "\n",
    })?;
    Ok(Outcome::Own(Status::Success))
}
