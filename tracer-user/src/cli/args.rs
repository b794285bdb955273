//! The words of the command line. Nothing of clap is seen beyond [`crate::cli`].

mod files;
mod tracing;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub(super) use crate::cli::args::files::{Diff, List, ReportFile};
use crate::cli::args::tracing::Tracing;
use crate::cli::format::Format;
use crate::fault::Fault;
use crate::report::{self, Sort as SortKey};
use crate::snapshot;
use crate::trace::options::{ExactGo, Selection, TraceOptions};
use crate::units::Span;

const EXAMPLES: &str = "\
Examples:
  outlive attach 4242                     what grows in process 4242, until Ctrl-C
  outlive attach 4242 -d 60s --older 30s  only blocks that are at least 30 s old after a minute
  outlive attach 4242 -f json -o leak.json
  outlive attach 4242 -d 60s -f pprof -o heap.pb.gz && go tool pprof -http : heap.pb.gz
  outlive snapshot 4242                   what a Go process holds now, without probes
  outlive goroutines 4242 -d 1m           which go statements started more than ended within a minute
  outlive goroutines 4242 --never-wake    which goroutines wait for what cannot happen any more
  outlive run -- ./server --port 8080     from the first allocation on
  outlive report heap.pb.gz               a heap profile that a Go service served, or outlive wrote
  outlive list heap.pb.gz render          the source of a function in it, with what each line holds
  outlive diff before.pb.gz after.pb.gz   what grew between two of them
  outlive top 4242                        watch it grow: a live view of its call sites
  outlive doctor 4242                     can this process be traced, and how well

Exit status: 0 ok, 1 failed, 2 usage, 3 not allowed here, 4 no such target or nothing in it to trace,
5 lost more than --max-loss, 10 a threshold was exceeded. `run` ends with its program's status.";

const ATTACH_EXAMPLES: &str = "\
Examples:
  outlive attach 4242 -i 10s                    a report every 10 s, until Ctrl-C
  outlive attach 4242 --exact -d 60s -n 0       every allocation of a minute, all sites
  outlive attach 4242 -d 10m --older 5m         what was kept for five minutes
  outlive attach 4242 -d 60s -f html -o heap.html
  outlive attach 4242 -d 60s -f pprof -o heap.pb.gz";

const RUN_EXAMPLES: &str = "\
Examples:
  outlive run -- ./server --port 8080
  outlive run -f html -o heap.html -- ./batch input.csv
  outlive run --sample 512KiB -i 1m -- ./server";

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  outlive snapshot 4242
  outlive snapshot 4242 -f pprof -o now.pb.gz && outlive diff earlier.pb.gz now.pb.gz";

const RECORD_EXAMPLES: &str = "\
Examples:
  outlive record 4242 -o svc.outlive      a snapshot each minute, until Ctrl-C, through restarts
  outlive record 4242 -o svc.outlive -d 7d -i 10m
  outlive diff svc.outlive@-1d svc.outlive";

const TOP_EXAMPLES: &str = "\
Examples:
  outlive top 4242
  outlive top 4242 --exact -s age -i 5s   every allocation, oldest first, a look every 5 s";

const GOROUTINES_EXAMPLES: &str = "\
Examples:
  outlive goroutines 4242                 what they wait for, by the go statement that started them
  outlive goroutines 4242 -d 10m          and which go statements have more of them ten minutes later
  outlive goroutines 4242 --never-wake    which wait for what cannot happen any more
  outlive goroutines 4242 --never-wake --hold 500ms -f json";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  outlive doctor                          what this host offers, and what is missing
  outlive doctor 4242                     the same, and whether process 4242 can be traced
  outlive doctor 4242 --json | jq '.findings[] | select(.status != \"ok\")'";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  outlive completions bash > /etc/bash_completion.d/outlive
  outlive completions zsh > /usr/local/share/zsh/site-functions/_outlive
  outlive completions fish > ~/.config/fish/completions/outlive.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  outlive man | man -l -
  outlive man attach | man -l -
  outlive man --all /usr/local/share/man/man1";

/// Names the allocations that outlive their welcome in a running process.
#[derive(Debug, Parser)]
#[command(name = "outlive", version, about, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
    #[command(flatten)]
    pub(super) global: Global,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Log more, to standard error; twice for debugging
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say nothing but the data and errors
    #[arg(short, long, global = true, env = "OUTLIVE_QUIET")]
    pub(super) quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, env = "OUTLIVE_COLOR", value_name = "WHEN")]
    pub(super) color: Colour,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Colour {
    Auto,
    Always,
    Never,
}

impl Colour {
    /// Whether to use colour on a terminal, or elsewhere.
    pub(super) fn is_wanted(self, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Trace running processes
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(Attach),
    /// Start a program and trace it from its first allocation
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Tell what a Go process holds now, by call site: no probes, in a fraction of a second
    #[command(after_help = SNAPSHOT_EXAMPLES)]
    Snapshot(Snapshot),
    /// Tell what the goroutines of a Go process do or wait for, by creation site: no probes
    #[command(after_help = GOROUTINES_EXAMPLES)]
    Goroutines(Goroutines),
    /// Report a profile that was written to a file, or convert it to another format
    #[command(visible_alias = "export")]
    Report(ReportFile),
    /// Print the source of functions with what each line holds: live, allocated and freed bytes
    List(List),
    /// Tell what grew between two profiles, by call site
    Diff(Diff),
    /// Keep snapshots of running processes in a file, for hours to weeks
    #[command(after_help = RECORD_EXAMPLES)]
    Record(Record),
    /// Watch running processes: a live view of their call sites, in the terminal
    #[command(after_help = TOP_EXAMPLES)]
    Top(Top),
    /// Tell whether this host and a process can be traced, how well, and what to do about it
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
    /// Print what completes the words of this command line in a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, of all or of one command
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// The command
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
        /// Write the pages of all commands into this directory instead
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        all: Option<PathBuf>,
    },
    /// Read debug information for the process that started this one
    #[command(name = crate::symbolise::WORKER_COMMAND, hide = true)]
    SymboliseWorker,
}

#[derive(Debug, Args)]
pub(super) struct Attach {
    /// Processes to trace
    #[arg(required_unless_present = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pids: Vec<u32>,
    /// The same, as an option
    #[arg(short, long, value_name = "PID", value_delimiter = ',', env = "OUTLIVE_PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Vec<u32>,
    #[command(flatten)]
    pub(super) trace: Trace,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) trace: Trace,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct Snapshot {
    /// The Go process
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: u32,
    /// Where the report goes; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", env = "OUTLIVE_OUTPUT")]
    pub(super) output: PathBuf,
    /// Overwrite the output file
    #[arg(long)]
    pub(super) force: bool,
    /// Format of the report
    #[arg(short, long, value_enum, default_value_t = Format::Text, env = "OUTLIVE_FORMAT")]
    pub(super) format: Format,
    /// Sites shown, 0 for all [default: 10 in text and json, else all]
    #[arg(short = 'n', long, value_name = "N", env = "OUTLIVE_TOP")]
    pub(super) top: Option<usize>,
    /// Show the runtime's own frames (and goroutines) too
    #[arg(long)]
    pub(super) raw: bool,
}

#[derive(Debug, Args)]
pub(super) struct Goroutines {
    #[command(flatten)]
    pub(super) look: Snapshot,
    /// Look again after this time, or at Ctrl-C, and tell what has changed
    #[arg(short, long, value_name = "TIME", env = "OUTLIVE_DURATION")]
    pub(super) duration: Option<Span>,
    /// Tell which can never run again: they wait for channels that nothing which can still run leads to
    #[arg(long)]
    pub(super) never_wake: bool,
    /// Hold the process for at most this time if it runs, so that --never-wake is proven
    #[arg(long, value_name = "TIME", requires = "never_wake", env = "OUTLIVE_HOLD")]
    pub(super) hold: Option<Span>,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// A process to examine too
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Option<u32>,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Record {
    /// Processes to record, through their restarts
    #[arg(required_unless_present = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pids: Vec<u32>,
    /// The same, as an option
    #[arg(short, long, value_name = "PID", value_delimiter = ',', env = "OUTLIVE_PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Vec<u32>,
    /// The recording: begun, or gone on with
    #[arg(short, long, value_name = "FILE", env = "OUTLIVE_OUTPUT")]
    pub(super) output: PathBuf,
    /// Time between two snapshots
    #[arg(
        short = 'i',
        long,
        visible_alias = "interval",
        value_name = "TIME",
        default_value = "60s",
        env = "OUTLIVE_INTERVAL"
    )]
    every: Span,
    #[command(flatten)]
    tracing: Tracing,
}

impl Record {
    /// The options of a recording that is made as `default` says unless told otherwise.
    pub(super) fn options(
        &self,
        default: Selection,
        default_overhead: Option<f64>,
    ) -> Result<TraceOptions, Fault> {
        let report = report::Options { sort: SortKey::Live, top: usize::MAX, raw: false };
        self.tracing.options(default, default_overhead, Some(self.every), report)
    }
}

#[derive(Debug, Args)]
pub(super) struct Top {
    /// Processes to watch
    #[arg(required_unless_present = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pids: Vec<u32>,
    /// The same, as an option
    #[arg(short, long, value_name = "PID", value_delimiter = ',', env = "OUTLIVE_PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) pid: Vec<u32>,
    /// Time between two looks
    #[arg(short, long, value_name = "TIME", default_value = "1s", env = "OUTLIVE_INTERVAL")]
    interval: Span,
    /// Order of the sites at first
    #[arg(short, long, value_enum, default_value_t = Sort::Live, env = "OUTLIVE_SORT")]
    sort: Sort,
    #[command(flatten)]
    tracing: Tracing,
}

impl Top {
    /// The options of a view that is made as `default` says unless told otherwise: every report has all sites.
    pub(super) fn options(
        &self,
        default: Selection,
        default_overhead: Option<f64>,
    ) -> Result<TraceOptions, Fault> {
        let report = report::Options { sort: self.sort.key(), top: usize::MAX, raw: false };
        self.tracing.options(default, default_overhead, Some(self.interval), report)
    }
}

/// Flags of the commands that trace and report.
#[derive(Debug, Args)]
pub(super) struct Trace {
    #[command(flatten)]
    tracing: Tracing,
    /// Report every so often, too
    #[arg(short, long, value_name = "TIME", env = "OUTLIVE_INTERVAL")]
    interval: Option<Span>,
    /// Where reports go; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", env = "OUTLIVE_OUTPUT")]
    pub(super) output: PathBuf,
    /// Overwrite the output file
    #[arg(long)]
    pub(super) force: bool,
    /// Format of reports
    #[arg(short, long, value_enum, default_value_t = Format::Text, env = "OUTLIVE_FORMAT")]
    pub(super) format: Format,
    /// Sites shown, 0 for all [default: 10 in text and json, else all]
    #[arg(short = 'n', long, value_name = "N", env = "OUTLIVE_TOP")]
    top: Option<usize>,
    /// Order of the sites
    #[arg(short, long, value_enum, default_value_t = Sort::Live, env = "OUTLIVE_SORT")]
    sort: Sort,
    /// End with status 5 when more events than this were lost
    #[arg(long, value_name = "EVENTS", env = "OUTLIVE_MAX_LOSS")]
    pub(super) max_loss: Option<u64>,
    /// Show the allocator's own frames too
    #[arg(long)]
    raw: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Live,
    Count,
    Growth,
    Age,
    Allocated,
}

impl Sort {
    fn key(self) -> SortKey {
        match self {
            Self::Live => SortKey::Live,
            Self::Count => SortKey::Count,
            Self::Growth => SortKey::Growth,
            Self::Age => SortKey::Age,
            Self::Allocated => SortKey::Allocated,
        }
    }
}

impl Snapshot {
    /// How it is reported.
    pub(super) fn options(&self) -> snapshot::Options {
        snapshot::Options { top: self.format.top(self.top), raw: self.raw }
    }
}

impl Trace {
    /// How every allocation of a Go heap is recorded, when that is asked for.
    pub(super) fn exact_go(&self, default_overhead: Option<f64>) -> Option<ExactGo> {
        self.tracing.exact_go(default_overhead)
    }

    /// The options of a run that records as `default` says unless told otherwise, and that may cost `default_overhead` when
    /// it samples. Fails when no block could match.
    pub(super) fn options(
        &self,
        default: Selection,
        default_overhead: Option<f64>,
    ) -> Result<TraceOptions, Fault> {
        self.format.require_no_interval(self.interval.is_some())?;
        let (sort, top) = (self.sort.key(), self.format.top(self.top));
        let report = report::Options { sort, top, raw: self.raw };
        self.tracing.options(default, default_overhead, self.interval, report)
    }
}
