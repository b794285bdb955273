//! The command line: from words to a run, and from its outcome to an exit status.

pub mod args;
mod attach;
mod bar;
mod diff;
mod format;
mod goroutines;
mod list;
mod manual;
mod moment;
mod output;
mod record;
mod recorder;
mod report;
mod run;
mod say;
mod signals;
mod snapshot;
mod top;
mod unfinished;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::args::{Arguments, Command};
use crate::cli::say::say_fault;
use crate::fault::{Fault, Status};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a status of outlive's own.
    Own(Status),
    /// With the status of the program it ran.
    OfProgram(u8),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    start_log(&arguments);
    let outcome = match arguments.command {
        Command::Attach(attach) => attach::attach(&attach, &arguments.global),
        Command::Run(run) => run::run(&run, &arguments.global),
        Command::Snapshot(snapshot) => snapshot::snapshot(&snapshot, &arguments.global),
        Command::Goroutines(snapshot) => goroutines::goroutines(&snapshot, &arguments.global),
        Command::Report(file) => report::report(&file, &arguments.global),
        Command::List(list) => list::list(&list, &arguments.global),
        Command::Diff(files) => diff::diff(&files, &arguments.global),
        Command::Record(record) => record::record(&record, &arguments.global),
        Command::Top(top) => top::top(&top, &arguments.global),
        Command::Doctor(doctor) => {
            crate::doctor::examine(doctor.pid, doctor.json).map(Outcome::Own)
        }
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { all: Some(folder), .. } => manual::all_pages(&folder),
        Command::Man { command, .. } => manual::man(command.as_deref()),
        Command::SymboliseWorker => work(),
    };
    match outcome {
        Ok(Outcome::Own(status)) => ExitCode::from(status as u8),
        Ok(Outcome::OfProgram(status)) => ExitCode::from(status),
        Err(fault) => {
            signals::let_end();
            unfinished::remove();
            say_fault(&fault);
            ExitCode::from(fault.status as u8)
        }
    }
}

/// Whoever started this process reads how it ended.
fn work() -> Result<Outcome, Fault> {
    crate::symbolise::serve().map(|()| Outcome::Own(Status::Success)).map_err(|error| {
        let remedy = "this command is for outlive itself: use `outlive attach PID`";
        Fault::new(Status::Failed, "no more names are looked up", error.to_string(), remedy)
    })
}

/// clap's own words for help and version; ours, in three lines, for mistakes.
fn explain(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
    };
    let shown = matches!(error.kind(), DisplayHelp | DisplayVersion);
    if shown || error.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
        if let Err(error) = error.print() {
            tracing::debug!("help could not be printed: {error}");
        }
        return ExitCode::from(if shown { Status::Success } else { Status::Usage } as u8);
    }
    let text = error.to_string();
    let why: Vec<&str> = text
        .lines()
        .map(|line| line.trim().trim_start_matches("error: "))
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let name = Arguments::command().get_name().to_owned();
    let fault = Fault::new(
        Status::Usage,
        "the command line cannot be understood",
        why.join("; "),
        format!("see `{name} --help`, or `{name} COMMAND --help`"),
    );
    say_fault(&fault);
    ExitCode::from(Status::Usage as u8)
}

fn start_log(arguments: &Arguments) {
    use tracing_subscriber::filter::LevelFilter;
    let level = match (arguments.global.quiet, arguments.global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(false)
        // Told by a panic where standard error is a terminal that has gone.
        .log_internal_errors(false)
        .init();
}
