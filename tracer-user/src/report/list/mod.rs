//! The source of functions, with what each line holds: live, allocated, freed.
//!
//! In: a profile, which functions are meant, and where to look for their source. Out: a [`Listing`], and it as text or JSON.

mod locate;
mod sources;
mod tally;
pub mod text;

use std::path::PathBuf;

use serde::Serialize;

pub use self::tally::Sum;

use self::sources::Sources;
use self::tally::{FunctionTally, LineTally, tally};
use super::import;
use super::model::{Report, Sampling, TargetSection};
use super::profile::Profile;
use super::source::Excerpt;
use super::{Options, Sort};

/// The name and version of the contract. Additions are allowed, removals and changes of meaning are not.
pub const SCHEMA: &str = "outlive-list/1";

/// Functions and their lines.
#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The file that the numbers are from.
    pub file: String,
    /// What the functions' names match.
    pub regex: String,
    /// The process.
    pub target: TargetSection,
    /// The instant, RFC 3339; `null` when the file does not tell.
    pub at: Option<String>,
    /// How allocations were chosen.
    pub sampling: Sampling,
    /// Live bytes of all sites.
    pub live_bytes: u64,
    /// The functions, those that hold most first.
    pub functions: Vec<Function>,
    /// Functions that match but are beyond `--top`.
    pub functions_omitted: usize,
    /// What a reader must know.
    pub notices: Vec<String>,
    /// The whole file's head.
    #[serde(skip)]
    report: Report,
}

/// A function in a file. Two of one name, in two files, are two.
#[derive(Clone, Debug, Serialize)]
pub struct Function {
    /// Its name.
    pub function: String,
    /// Its source file, as debug information names it.
    pub file: Option<String>,
    /// The file of its code, as the target sees it.
    pub module: Option<String>,
    /// Where its source was found; `null` when it was not.
    pub source: Option<PathBuf>,
    /// What it allocated itself.
    pub own: Sum,
    /// What it allocated with all that it called, each stack once.
    pub cumulative: Sum,
    /// Its lines that have numbers, in their order.
    pub lines: Vec<Line>,
    /// These lines and some around them.
    #[serde(skip)]
    excerpt: Excerpt,
}

/// A line of a function.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Its number; `null` for what is at no known line.
    pub line: Option<u32>,
    /// Its text, when the source was found.
    pub text: Option<String>,
    /// What was allocated in it.
    pub own: Sum,
    /// What was allocated in it and in all that it called.
    pub cumulative: Sum,
}

/// What is asked for.
pub struct Question<'q> {
    /// The file that the profile is from.
    pub file: &'q str,
    /// What the functions' names are to match.
    pub regex: &'q str,
    /// Whether a name does.
    pub is_meant: &'q dyn Fn(&str) -> bool,
    /// Most functions.
    pub top: usize,
    /// Where source is looked for that is not at its own path.
    pub source_path: &'q [PathBuf],
}

/// Why there is nothing to list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nothing {
    /// No name matches. Those that allocated most, by their own code.
    #[error("none of its {functions} functions matches {regex:?}")]
    NoMatch {
        /// How many functions there are.
        functions: usize,
        /// What was asked for.
        regex: String,
        /// Functions that would match.
        largest: Vec<String>,
    },
    /// Some match, but their lines are not known.
    #[error("it does not tell the source files and lines of the {0} functions that match")]
    NoLines(usize),
}

/// Lists the functions that are asked for.
pub fn list(profile: &Profile, question: &Question<'_>) -> Result<Listing, Nothing> {
    let mut functions = tally(profile, question.is_meant);
    if functions.is_empty() {
        return Err(no_match(profile, question));
    }
    let matching = functions.len();
    functions.retain(|function| function.lines.iter().any(|line| line.line > 0));
    if functions.is_empty() {
        return Err(Nothing::NoLines(matching));
    }
    let mut notices = notices(profile, matching - functions.len());
    let functions_omitted = functions.len().saturating_sub(question.top);
    functions.truncate(question.top);
    let mut sources = Sources::new(profile, question.source_path);
    let functions = functions.iter().map(|function| section(function, &mut sources)).collect();
    notices.extend(sources.notices());
    let options = Options { sort: Sort::Live, top: 0, raw: false };
    let report = import::report(profile, question.file, options);
    Ok(Listing {
        schema: SCHEMA,
        file: question.file.to_owned(),
        regex: question.regex.to_owned(),
        target: report.target.clone(),
        at: profile.time(),
        sampling: report.sampling.clone(),
        live_bytes: profile.totals().live_bytes,
        functions,
        functions_omitted,
        notices,
        report,
    })
}

/// One document, with a line feed at the end.
pub fn json(listing: &Listing) -> String {
    // Plain data to memory: it cannot fail.
    serde_json::to_string(listing).unwrap_or_default() + "\n"
}

fn no_match(profile: &Profile, question: &Question<'_>) -> Nothing {
    const NAMED: usize = 3;
    let all = tally(profile, &|_| true);
    let mut largest: Vec<_> = all.iter().filter(|function| !function.own.is_nothing()).collect();
    largest.sort_by_key(|function| std::cmp::Reverse(function.own.amounts.live_bytes));
    largest.dedup_by_key(|function| function.function);
    let largest = largest.iter().take(NAMED).map(|function| function.function.to_owned()).collect();
    let regex = question.regex.to_owned();
    Nothing::NoMatch { functions: all.len(), regex, largest }
}

/// What the file says of itself, and what these numbers are and are not.
fn notices(profile: &Profile, without_lines: usize) -> Vec<String> {
    let mut notices = profile.notices.clone();
    if without_lines > 0 {
        notices.push(format!("{without_lines} functions that match have no known line: left out"));
    }
    if profile.processes.len() > 1 {
        notices.push(format!("the numbers are sums over {} processes", profile.processes.len()));
    }
    if profile.sites.iter().any(|site| site.kind == "mapping") {
        notices.push("what was mapped is counted with what was allocated".to_owned());
    }
    let mut allocating = profile.sites.iter().filter(|site| site.amounts.allocated_bytes > 0);
    if allocating.any(|site| site.freed_bytes().is_none()) {
        notices.push(
            "more is live at some sites than was allocated: what is freed there is not known, and not counted"
                .to_owned(),
        );
    }
    notices
}

fn section(tally: &FunctionTally<'_>, sources: &mut Sources<'_>) -> Function {
    let numbers: Vec<u32> = tally.lines.iter().map(|line| line.line).filter(|n| *n > 0).collect();
    let found = tally.file.and_then(|file| sources.read(file, tally.module, &numbers));
    let (source, excerpt) = found.unzip();
    let excerpt: Excerpt = excerpt.unwrap_or_default();
    Function {
        function: tally.function.to_owned(),
        file: tally.file.map(str::to_owned),
        module: tally.module.map(str::to_owned),
        source,
        own: tally.own,
        cumulative: tally.cumulative,
        lines: tally.lines.iter().map(|line| line_section(line, &excerpt)).collect(),
        excerpt,
    }
}

fn line_section(tally: &LineTally, excerpt: &Excerpt) -> Line {
    let place = excerpt.binary_search_by_key(&tally.line, |(number, _)| *number).ok();
    Line {
        line: (tally.line > 0).then_some(tally.line),
        text: place.map(|place| excerpt[place].1.clone()),
        own: tally.own,
        cumulative: tally.cumulative,
    }
}
