//! `outlive diff`: what grew between two profiles.

use std::path::Path;

use crate::cli::Outcome;
use crate::cli::args::{Diff, Global};
use crate::cli::format::Format;
use crate::cli::output::Output;
use crate::cli::report::{name, read_profile};
use crate::cli::say::say;
use crate::fault::{Fault, Status};
use crate::report::{diff, export};

const FOLDED: Format = Format::Document(export::Format::Folded);
const FLAMEGRAPH: Format = Format::Document(export::Format::Flamegraph);

/// Runs the command.
pub(super) fn diff(arguments: &Diff, global: &Global) -> Result<Outcome, Fault> {
    let written = &arguments.written;
    require_difference(written.format)?;
    if [&arguments.before, &arguments.after].into_iter().all(|path| path == Path::new("-")) {
        return Err(Fault::new(
            Status::Usage,
            "cannot compare",
            "both profiles are to come from standard input",
            "name a file for one of them",
        ));
    }
    let (before, after) = (read_profile(&arguments.before)?, read_profile(&arguments.after)?);
    let names = [name(&arguments.before), name(&arguments.after)];
    let report = diff::compare(&before, &after, names, written.top());
    let mut output = Output::open(&written.output, written.force, written.format, global.color)?;
    let _or_reader_gone = output.put_made(&|format, layout| match format {
        Format::Json => diff::json(&report).into_bytes(),
        FOLDED => diff::folded(&before, &after).into_bytes(),
        FLAMEGRAPH => diff::flamegraph(&before, &after),
        _ => diff::text::render(&report, layout).into_bytes(),
    })?;
    if let Some(limit) = arguments.fail_above
        && let Some(why) = report.growth_above(limit)
    {
        say(format_args!("outlive: {why}"));
        return Ok(Outcome::Own(Status::Exceeded));
    }
    Ok(Outcome::Own(Status::Success))
}

/// Fails for formats that have no form of a difference.
fn require_difference(format: Format) -> Result<(), Fault> {
    if matches!(format, Format::Text | Format::Json | FOLDED | FLAMEGRAPH) {
        return Ok(());
    }
    Err(Fault::new(
        Status::Usage,
        "cannot write the difference",
        format!("it has no form in the format {}", format.name()),
        "use --format text, json, folded or flamegraph",
    ))
}
