//! `outlive report`: what a file holds, as a report or in another format.
//!
//! What other commands read of files is here too.

use std::fs::File;
use std::io::{self, Read, stdin};
use std::path::Path;

use crate::cli::Outcome;
use crate::cli::args::{Global, ReportFile};
use crate::cli::bar::Bar;
use crate::cli::format::Format;
use crate::cli::moment::{Detail, RecordedMoment};
use crate::cli::output::Output;
use crate::cli::signals::Signals;
use crate::fault::{Fault, Status};
use crate::report::export;
use crate::report::import::{self, Content, ImportError};
use crate::report::model::Report;
use crate::report::profile::Profile;

/// What standard input is called.
const STANDARD_INPUT: &str = "standard input";

/// Runs the command.
pub(super) fn report(arguments: &ReportFile, global: &Global) -> Result<Outcome, Fault> {
    let written = &arguments.written;
    let _until_it_ends = Signals::hear()?;
    let has_timeline = written.format == Format::Document(export::Format::Html);
    let detail = if has_timeline { Detail::Course } else { Detail::Moment };
    let content = read(&arguments.file, detail);
    if let Ok(Content::Reports(reports)) = content {
        return reports_again(reports, arguments, global);
    }
    let options = arguments.options()?;
    let mut profile = content?.into_profile();
    let output = Output::open(&written.output, written.force, written.format, global.color)?;
    let mut output = output.sorted_by(options.sort);
    if written.format.document().is_some() {
        profile.keep_top(options.sort, options.top);
        output.write_profile(&profile)?;
    } else {
        let report = import::report(&profile, &name(&arguments.file), options);
        let _or_reader_gone = output.write(report)?;
    }
    Ok(Outcome::Own(Status::Success))
}

/// Writes reports that outlive made, as they are asked for now.
fn reports_again(
    reports: Vec<Report>,
    arguments: &ReportFile,
    global: &Global,
) -> Result<Outcome, Fault> {
    let written = &arguments.written;
    let output = Output::open(&written.output, written.force, written.format, global.color)?;
    let mut output = output.sorted_by(arguments.order());
    for report in reports {
        if output.write(arguments.of_reports(report))?.is_break() {
            break;
        }
    }
    output.finish()?;
    Ok(Outcome::Own(Status::Success))
}

/// Reads the call stacks of a file, or of a moment of a recording; `-` is standard input.
pub(super) fn read_profile(path: &Path) -> Result<Profile, Fault> {
    read(path, Detail::Moment).map(Content::into_profile)
}

fn read(path: &Path, detail: Detail) -> Result<Content, Fault> {
    if let Some(moment) = RecordedMoment::find(path)? {
        return moment.reports(detail).map(Content::Reports);
    }
    let name = name(path);
    let content = if path == Path::new("-") {
        import::read(stdin().lock(), &name)
    } else {
        let file = File::open(path).map_err(ImportError::from);
        file.and_then(|file| import::read(Watched::new(file), &name))
    };
    content.map_err(|error| {
        let remedy = match error {
            ImportError::Unreadable(_) => "name a file that exists and that you may read",
            ImportError::NotOfMemory(_) => {
                "take a heap profile: /debug/pprof/heap of a Go service, or outlive attach PID -f pprof"
            }
            ImportError::TooLarge | ImportError::Damaged(_) | ImportError::Difference => {
                "name a heap profile in pprof's format (outlive attach PID -f pprof), folded stacks, or a report (-f json)"
            }
        };
        Fault::new(Status::Failed, format!("cannot report {name}"), error.to_string(), remedy)
    })
}

/// A file that shows how much of it has been read.
struct Watched {
    file: File,
    bytes: u64,
    read: u64,
    bar: Bar,
}

impl Watched {
    fn new(file: File) -> Self {
        let bytes = file.metadata().map_or(0, |data| data.len());
        Self { file, bytes, read: 0, bar: Bar::default() }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        match count {
            0 => self.bar.clear(),
            _ => self.bar.show("reading", self.read, self.bytes),
        }
        Ok(count)
    }
}

/// What people call a file.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { STANDARD_INPUT.to_owned() } else { path.display().to_string() }
}
