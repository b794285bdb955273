//! The formats of reports, as words of the command line: text and JSON, and those of other tools.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::fault::{Fault, Status};
use crate::report::export;

/// Sites in a report for people, unless told otherwise. Formats for tools have all.
const DEFAULT_TOP: usize = 10;

/// A format of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Tables for people.
    Text,
    /// One document a line.
    Json,
    /// One document of all reports, for another tool.
    Document(export::Format),
}

/// In the order in which they are listed.
const ALL: [Format; 2 + export::Format::ALL.len()] = {
    let mut all = [Format::Text; 2 + export::Format::ALL.len()];
    all[1] = Format::Json;
    let mut index = 0;
    while index < export::Format::ALL.len() {
        all[2 + index] = Format::Document(export::Format::ALL[index]);
        index += 1;
    }
    all
};

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let description = match self {
            Self::Text => "Tables for people",
            Self::Json => "One document a line",
            Self::Document(format) => format.description(),
        };
        Some(PossibleValue::new(self.name()).help(description))
    }
}

impl Format {
    /// The format of other tools that this is.
    pub(super) fn document(self) -> Option<export::Format> {
        match self {
            Self::Text | Self::Json => None,
            Self::Document(format) => Some(format),
        }
    }

    /// The word on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Document(format) => format.name(),
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
        let has_room = matches!(self.document(), None | Some(export::Format::Html));
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

    const PPROF: Format = Format::Document(export::Format::Pprof);

    #[test]
    fn every_format_is_a_word_of_its_own() {
        for format in ALL {
            assert_eq!(Format::from_str(format.name(), false), Ok(format));
        }
    }

    #[test]
    fn tools_get_all_sites_and_people_the_largest() {
        assert_eq!(Format::Text.top(None), 10);
        assert_eq!(PPROF.top(None), usize::MAX);
        assert_eq!(Format::Text.top(Some(0)), usize::MAX);
        assert_eq!(PPROF.top(Some(3)), 3);
    }

    #[test]
    fn one_document_is_one_report() {
        assert!(PPROF.require_no_interval(true).is_err());
        assert!(PPROF.require_no_interval(false).is_ok());
        assert!(Format::Json.require_no_interval(true).is_ok());
        assert!(Format::Document(export::Format::Html).require_no_interval(true).is_ok());
        assert!(PPROF.require_plain("goroutines").is_err());
    }
}
