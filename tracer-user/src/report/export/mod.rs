//! Reports in the formats of other tools.
//!
//! In: a [`Profile`]. Out: one document, as bytes. A format is a module here and a line in [`Format`].

mod csv;
mod dhat;
pub(super) mod flamegraph;
pub(super) mod folded;
mod html;
mod pprof;
mod speedscope;

pub(super) use pprof::NO_STACK;

use super::build::Sort;
use super::profile::{Amounts, Profile, ProfileSite};
use crate::symbolise::Frame;

/// A format of another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// pprof's, compressed.
    Pprof,
    /// A stack a line, with one number.
    Folded,
    /// A site a line, for spreadsheets.
    Csv,
    /// That of speedscope.app.
    Speedscope,
    /// That of valgrind's DHAT.
    Dhat,
    /// A picture.
    Flamegraph,
    /// A page of its own.
    Html,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pprof,
        Self::Folded,
        Self::Csv,
        Self::Speedscope,
        Self::Dhat,
        Self::Flamegraph,
        Self::Html,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pprof => "pprof",
            Self::Folded => "folded",
            Self::Csv => "csv",
            Self::Speedscope => "speedscope",
            Self::Dhat => "dhat",
            Self::Flamegraph => "flamegraph",
            Self::Html => "html",
        }
    }

    /// What it is for.
    pub fn description(self) -> &'static str {
        match self {
            Self::Pprof => "For `go tool pprof`, Pyroscope, Parca: a gzipped protocol buffer",
            Self::Folded => "A stack a line with one number, for flame graphs",
            Self::Csv => "A site a line, for spreadsheets",
            Self::Speedscope => "For speedscope.app",
            Self::Dhat => "For the viewer of valgrind's DHAT",
            Self::Flamegraph => "A picture (SVG) to search and zoom in a browser",
            Self::Html => "A page to search and zoom in a browser, without a network",
        }
    }

    /// What a file in this format is usually called.
    pub fn usual_file(self) -> &'static str {
        match self {
            Self::Pprof => "heap.pb.gz",
            Self::Folded => "heap.folded",
            Self::Csv => "heap.csv",
            Self::Speedscope => "heap.speedscope.json",
            Self::Dhat => "dhat-heap.json",
            Self::Flamegraph => "heap.svg",
            Self::Html => "heap.html",
        }
    }

    /// Whether it is nothing to be shown in a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Pprof)
    }
}

/// What the formats show that have one number for each stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// Live bytes.
    #[default]
    LiveBytes,
    /// Live blocks.
    LiveCount,
    /// Bytes allocated.
    AllocatedBytes,
}

impl Metric {
    /// What belongs to an order of sites.
    pub fn of(sort: Sort) -> Self {
        match sort {
            Sort::Live | Sort::Growth | Sort::Age => Self::LiveBytes,
            Sort::Count => Self::LiveCount,
            Sort::Allocated => Self::AllocatedBytes,
        }
    }

    /// The number of an amount.
    pub fn value(self, amounts: Amounts) -> u64 {
        match self {
            Self::LiveBytes => amounts.live_bytes,
            Self::LiveCount => amounts.live_count,
            Self::AllocatedBytes => amounts.allocated_bytes,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::LiveBytes => "live bytes",
            Self::LiveCount => "live blocks",
            Self::AllocatedBytes => "bytes allocated",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::LiveBytes | Self::AllocatedBytes => "bytes",
            Self::LiveCount => "blocks",
        }
    }
}

/// The document of a profile; `metric` for the formats that have one number for each stack.
pub fn document(profile: &Profile, format: Format, metric: Metric) -> Vec<u8> {
    match format {
        Format::Pprof => pprof::document(profile),
        Format::Folded => folded::document(profile, metric).into_bytes(),
        Format::Csv => csv::document(profile),
        Format::Speedscope => speedscope::document(profile),
        Format::Dhat => dhat::document(profile),
        Format::Flamegraph => flamegraph::document(profile, metric),
        Format::Html => html::document(profile),
    }
}

/// A frame of a stack where there are no numbers to tell frames by: a function, or what stands for one.
#[derive(Clone, Copy)]
enum Step<'p> {
    /// The process, where there are several, or what is not the heap.
    Root(&'p str),
    Frame(&'p Frame),
}

impl Step<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Root(name) => name,
            Self::Frame(frame) => &frame.function,
        }
    }
}

/// What stands at the root of a site's stack: its process, where there are several, and what is not a block of an allocator.
fn roots(profile: &Profile, site: &ProfileSite) -> Vec<String> {
    let mut roots: Vec<String> = profile.process_name(site).into_iter().collect();
    if site.kind == "mapping" {
        roots.push("[mappings]".to_owned());
    }
    if site.stack.is_empty() {
        roots.push(NO_STACK.to_owned());
    }
    roots
}

/// The steps of a site's stack, root first.
fn steps<'p>(
    roots: &'p [String],
    profile: &'p Profile,
    site: &'p ProfileSite,
) -> impl DoubleEndedIterator<Item = Step<'p>> {
    let frames = profile.stack(site).rev().map(Step::Frame);
    roots.iter().map(|root| Step::Root(root)).chain(frames)
}
