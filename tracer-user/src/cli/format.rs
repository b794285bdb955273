//! The formats of reports, as words of the command line.

use clap::ValueEnum;

use crate::fault::{Fault, Status};
use crate::report::export;

/// Sites in a report for people, unless told otherwise. Formats for tools have all.
const DEFAULT_TOP: usize = 10;

/// A format of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables for people
    Text,
    /// One document a line
    Json,
    /// For `go tool pprof`, Pyroscope, Parca: a gzipped protocol buffer
    Pprof,
    /// A stack a line with one number, for flame graphs
    Folded,
    /// A site a line, for spreadsheets
    Csv,
    /// For speedscope.app
    Speedscope,
    /// For the viewer of valgrind's DHAT
    Dhat,
    /// A picture (SVG) to search and zoom in a browser
    Flamegraph,
    /// A page to search and zoom in a browser, without a network
    Html,
}

impl Format {
    /// The format of other tools that this is.
    pub(super) fn document(self) -> Option<export::Format> {
        match self {
            Self::Text | Self::Json => None,
            Self::Pprof => Some(export::Format::Pprof),
            Self::Folded => Some(export::Format::Folded),
            Self::Csv => Some(export::Format::Csv),
            Self::Speedscope => Some(export::Format::Speedscope),
            Self::Dhat => Some(export::Format::Dhat),
            Self::Flamegraph => Some(export::Format::Flamegraph),
            Self::Html => Some(export::Format::Html),
        }
    }

    /// The word on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What a file in this format is usually called.
    pub(super) fn usual_file(self) -> &'static str {
        match self {
            Self::Text => "report.txt",
            Self::Json => "report.json",
            Self::Pprof => "heap.pb.gz",
            Self::Folded => "heap.folded",
            Self::Csv => "heap.csv",
            Self::Speedscope => "heap.speedscope.json",
            Self::Dhat => "dhat-heap.json",
            Self::Flamegraph => "heap.svg",
            Self::Html => "heap.html",
        }
    }

    /// How many sites there are at most: what `--top` says, where 0 is all of them, else what is usual in this format.
    pub(super) fn top(self, asked: Option<usize>) -> usize {
        match asked {
            Some(0) => usize::MAX,
            Some(top) => top,
            None if self.document().is_some() => usize::MAX,
            None => DEFAULT_TOP,
        }
    }

    /// Fails for what a command has no document of.
    pub(super) fn require_plain(self, command: &str) -> Result<(), Fault> {
        if self.document().is_none() {
            return Ok(());
        }
        Err(Fault::new(
            Status::Usage,
            format!("cannot write the report of `outlive {command}`"),
            format!("it has no form in the format {}", self.name()),
            "use --format text or --format json",
        ))
    }

    /// Fails when a report is wanted every so often in a format that has one document.
    pub(super) fn require_no_interval(self, has_interval: bool) -> Result<(), Fault> {
        // A page has a timeline of them.
        let has_room = self.document().is_none() || self == Self::Html;
        if has_room || !has_interval {
            return Ok(());
        }
        Err(Fault::new(
            Status::Usage,
            "cannot report every interval",
            format!("a file in the format {} holds one report", self.name()),
            "leave out --interval, or use --format text, json or html",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_get_all_sites_and_people_the_largest() {
        assert_eq!(Format::Text.top(None), 10);
        assert_eq!(Format::Pprof.top(None), usize::MAX);
        assert_eq!(Format::Text.top(Some(0)), usize::MAX);
        assert_eq!(Format::Pprof.top(Some(3)), 3);
    }

    #[test]
    fn one_document_is_one_report() {
        assert!(Format::Pprof.require_no_interval(true).is_err());
        assert!(Format::Pprof.require_no_interval(false).is_ok());
        assert!(Format::Json.require_no_interval(true).is_ok());
        assert!(Format::Html.require_no_interval(true).is_ok());
        assert!(Format::Pprof.require_plain("goroutines").is_err());
    }
}
