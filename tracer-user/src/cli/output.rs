//! Where reports go: standard output or a file, opened before anything is traced.
//!
//! Text and JSON are written report by report. Every other format is one document, which [`Output::finish`] makes of all reports.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::Path;

use crate::cli::args::Colour;
use crate::cli::format::Format;
use crate::cli::unfinished;
use crate::fault::{Fault, Status};
use crate::report::Sort;
use crate::report::export::Metric;
use crate::report::model::Report;
use crate::report::profile::Profile;
use crate::report::timeline::Course;
use crate::report::{export, json, text};

/// A place for reports, and their format.
pub(super) struct Output {
    sink: Box<dyn Write>,
    format: Format,
    layout: text::Layout,
    /// What formats with one number show.
    metric: Metric,
    /// The last report of each process, for the document that is written last.
    kept: Vec<Report>,
    /// What they held before, by PID.
    courses: HashMap<u32, Course>,
}

impl Output {
    /// Opens it. A file that exists is not overwritten without `force`.
    pub(super) fn open(
        path: &Path,
        force: bool,
        format: Format,
        colour: Colour,
    ) -> Result<Self, Fault> {
        let (sink, is_terminal): (Box<dyn Write>, bool) = if path == Path::new("-") {
            (Box::new(io::stdout().lock()), io::stdout().is_terminal())
        } else {
            let mut options = OpenOptions::new();
            options.write(true).truncate(true);
            if force {
                options.create(true)
            } else {
                options.create_new(true)
            };
            let file = options.open(path).map_err(|error| cannot_open(path, &error))?;
            if !force {
                unfinished::begin(path);
            }
            (Box::new(file), false)
        };
        if is_terminal && let Some(format) = format.document().filter(|format| format.is_binary()) {
            return Err(not_for_terminals(format));
        }
        let colour = colour.is_wanted(is_terminal);
        let width = if is_terminal { terminal_width() } else { None };
        let layout = text::Layout { colour, width };
        Ok(Self {
            sink,
            format,
            layout,
            metric: Metric::default(),
            kept: Vec::new(),
            courses: HashMap::new(),
        })
    }

    /// Has formats with one number show that by which sites are sorted.
    pub(super) fn sorted_by(self, sort: Sort) -> Self {
        Self { metric: Metric::of(sort), ..self }
    }

    /// Takes a report. A reader that has gone away is no failure but a break: nobody wants the rest.
    pub(super) fn write(&mut self, report: Report) -> Result<ControlFlow<()>, Fault> {
        match self.format {
            Format::Text => self.put(text::render(&report, self.layout).as_bytes()),
            Format::Json => self.put(json::line(&report).as_bytes()),
            Format::Document(_) => {
                let pid = report.target.pid;
                tracing::debug!("a report of the page on {pid}");
                if report.timeline.is_none() {
                    self.courses.entry(pid).or_default().add(&report);
                    self.kept.retain(|earlier| earlier.target.pid != pid);
                }
                self.kept.push(report);
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// Writes the document of all reports, in the formats that have one.
    pub(super) fn finish(mut self) -> Result<(), Fault> {
        let mut reports = std::mem::take(&mut self.kept);
        for report in reports.iter_mut().filter(|report| report.timeline.is_none()) {
            let course = self.courses.remove(&report.target.pid);
            course.unwrap_or_default().put_into(report);
        }
        let profile = Profile::of(&reports);
        self.write_profile(&profile)
    }

    /// Writes a profile, in the formats that have a document of it.
    pub(super) fn write_profile(mut self, profile: &Profile) -> Result<(), Fault> {
        if let Some(format) = self.format.document() {
            let _or_reader_gone = self.put(&export::document(profile, format, self.metric))?;
        }
        Ok(())
    }

    /// Writes what is made for its format and layout.
    pub(super) fn print(
        &mut self,
        made: &dyn Fn(Format, text::Layout) -> String,
    ) -> Result<ControlFlow<()>, Fault> {
        self.put_made(&|format, layout| made(format, layout).into_bytes())
    }

    /// The same of bytes.
    pub(super) fn put_made(
        &mut self,
        made: &dyn Fn(Format, text::Layout) -> Vec<u8>,
    ) -> Result<ControlFlow<()>, Fault> {
        let bytes = made(self.format, self.layout);
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<ControlFlow<()>, Fault> {
        match self.sink.write_all(bytes).and_then(|()| self.sink.flush()) {
            Ok(()) => {
                unfinished::finish();
                Ok(ControlFlow::Continue(()))
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(Fault::new(
                Status::Failed,
                "cannot write the report",
                error.to_string(),
                "check that there is room, or write elsewhere with --output",
            )),
        }
    }
}

/// Columns of the terminal on standard output.
fn terminal_width() -> Option<usize> {
    crate::sys::terminal::columns()
}

fn not_for_terminals(format: export::Format) -> Fault {
    Fault::new(
        Status::Usage,
        "cannot write the report to a terminal",
        format!("the format {} is not text", format.name()),
        format!("name a file: --output {}", format.usual_file()),
    )
}

fn cannot_open(path: &Path, error: &io::Error) -> Fault {
    let what = format!("cannot write to {}", path.display());
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Fault::new(
            Status::Usage,
            what,
            "the file exists",
            "choose another name, or overwrite it with --force",
        );
    }
    Fault::new(
        Status::Failed,
        what,
        error.to_string(),
        "choose a folder that exists and that you may write to",
    )
}
