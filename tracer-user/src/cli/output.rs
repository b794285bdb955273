//! Where reports go: standard output or a file, opened before anything is traced.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::path::Path;

use crate::cli::args::{Colour, Format};
use crate::fault::{Fault, Status};
use crate::report::model::Report;
use crate::report::{json, text};

/// A place for reports, and their format.
pub(super) struct Output {
    sink: Box<dyn Write>,
    format: Format,
    layout: text::Layout,
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
            (Box::new(options.open(path).map_err(|error| cannot_open(path, &error))?), false)
        };
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        let width = if is_terminal { terminal_width() } else { None };
        Ok(Self { sink, format, layout: text::Layout { colour, width } })
    }

    /// Writes a report. A reader that has gone away is no failure but a break: nobody wants the rest.
    pub(super) fn write(&mut self, report: &Report) -> Result<ControlFlow<()>, Fault> {
        self.print(&|format, layout| match format {
            Format::Text => text::render(report, layout),
            Format::Json => json::line(report),
        })
    }

    /// Writes what is made for its format and layout.
    pub(super) fn print(
        &mut self,
        made: &dyn Fn(Format, text::Layout) -> String,
    ) -> Result<ControlFlow<()>, Fault> {
        let text = made(self.format, self.layout);
        match self.sink.write_all(text.as_bytes()).and_then(|()| self.sink.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            other => other.map(ControlFlow::Continue).map_err(|error| {
                Fault::new(
                    Status::Failed,
                    "cannot write the report",
                    error.to_string(),
                    "check that there is room, or write elsewhere with --output",
                )
            }),
        }
    }
}

/// Columns of the terminal on standard output.
fn terminal_width() -> Option<usize> {
    crate::sys::terminal::columns()
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
