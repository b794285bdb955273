//! The words of the commands that read files.

use std::path::PathBuf;

use clap::Args;

use super::Sort;
use crate::cli::format::Format;
use crate::fault::{Fault, Status};
use crate::report::model::Report;
use crate::report::{Options, Sort as SortKey};
use crate::units::Size;

const REPORT_EXAMPLES: &str = "\
Examples:
  outlive report heap.pb.gz                     what it holds, by call site
  outlive report heap.pb.gz -s allocated -n 20  what allocated most
  outlive report heap.pb.gz -f json             the same as data
  outlive report svc.outlive@-1h                a recording, an hour before its last snapshot
  curl -s http://svc:6060/debug/pprof/heap | outlive report -";

const LIST_EXAMPLES: &str = "\
Examples:
  outlive list heap.pb.gz render                the source of functions that are called so, with what each line holds
  outlive list heap.pb.gz '^main\\.'             all functions of a Go program's package main
  outlive list svc.outlive@-1h put --source-path ~/src/svc
  outlive list heap.pb.gz . -n 0 -f json        all functions, as data";

const DIFF_EXAMPLES: &str = "\
Examples:
  outlive diff monday.pb.gz friday.pb.gz
  outlive diff -f json before.pb.gz after.pb.gz
  outlive diff svc.outlive@-1h svc.outlive      what grew in the last hour of a recording
  outlive diff --fail-above 10MiB before.pb.gz after.pb.gz || echo 'it grew'";

/// Flags of `outlive report`.
#[derive(Debug, Args)]
#[command(after_help = REPORT_EXAMPLES)]
pub(in crate::cli) struct ReportFile {
    /// A recording (FILE@2026-11-20T10:00 or FILE@-1h for a moment of it), a heap profile in pprof's format, folded stacks, or a report in
    /// JSON; - is standard input
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) written: Written,
    /// Order of the sites
    #[arg(short, long, value_enum, default_value_t = Sort::Live, env = "OUTLIVE_SORT")]
    sort: Sort,
}

/// Flags of `outlive list`.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(in crate::cli) struct List {
    /// What `outlive report` reads: a recording, a heap profile in pprof's format, a report in JSON; - is standard input
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// The functions: those with a name that this regular expression matches anywhere
    #[arg(value_name = "REGEX")]
    pub(in crate::cli) regex: String,
    /// Where to look for source that is not at its own path: below DIR, by the end of its name
    #[arg(
        long,
        value_name = "DIR",
        value_delimiter = ':',
        default_value = ".",
        env = "OUTLIVE_SOURCE_PATH"
    )]
    pub(in crate::cli) source_path: Vec<PathBuf>,
    /// Where the listing goes; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", env = "OUTLIVE_OUTPUT")]
    pub(in crate::cli) output: PathBuf,
    /// Overwrite the output file
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Format of the listing: text or json
    #[arg(short, long, value_enum, default_value_t = Format::Text, hide_possible_values = true, env = "OUTLIVE_FORMAT")]
    pub(in crate::cli) format: Format,
    /// Functions shown, 0 for all [default: 10]
    #[arg(short = 'n', long, value_name = "N", env = "OUTLIVE_TOP")]
    top: Option<usize>,
}

impl List {
    /// Most functions.
    pub(in crate::cli) fn top(&self) -> usize {
        self.format.top(self.top)
    }
}

/// Flags of `outlive diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub(in crate::cli) struct Diff {
    /// The earlier profile
    #[arg(value_name = "BEFORE")]
    pub(in crate::cli) before: PathBuf,
    /// The later profile
    #[arg(value_name = "AFTER")]
    pub(in crate::cli) after: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) written: Written,
    /// End with status 10 when live bytes grew by more than this, at one site or in all
    #[arg(long, value_name = "SIZE", env = "OUTLIVE_FAIL_ABOVE")]
    pub(in crate::cli) fail_above: Option<Size>,
}

/// Where a report goes, and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct Written {
    /// Where the report goes; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", env = "OUTLIVE_OUTPUT")]
    pub(in crate::cli) output: PathBuf,
    /// Overwrite the output file
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Format of the report
    #[arg(short, long, value_enum, default_value_t = Format::Text, env = "OUTLIVE_FORMAT")]
    pub(in crate::cli) format: Format,
    /// Sites shown, 0 for all [default: 10 in text and json, else all]
    #[arg(short = 'n', long, value_name = "N", env = "OUTLIVE_TOP")]
    top: Option<usize>,
}

impl ReportFile {
    /// The order of the sites.
    pub(in crate::cli) fn order(&self) -> SortKey {
        self.sort.key()
    }

    /// A report that was made before, as it is asked for.
    pub(in crate::cli) fn of_reports(&self, report: Report) -> Report {
        report.arranged(self.order(), self.written.top())
    }

    /// How it is reported. Fails for an order that a file has nothing for.
    pub(in crate::cli) fn options(&self) -> Result<Options, Fault> {
        if self.sort == Sort::Growth {
            return Err(Fault::new(
                Status::Usage,
                "cannot sort by growth",
                "a profile is of an instant",
                "compare two profiles: outlive diff BEFORE AFTER",
            ));
        }
        Ok(Options { sort: self.sort.key(), top: self.written.top(), raw: false })
    }
}

impl Written {
    /// Most sites.
    pub(in crate::cli) fn top(&self) -> usize {
        self.format.top(self.top)
    }
}
