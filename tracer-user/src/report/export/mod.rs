//! Reports in the formats of other tools.
//!
//! In: a [`Profile`]. Out: one document, as bytes. A format is a module here and a line in [`Format`].

mod pprof;

pub(super) use pprof::NO_STACK;

use super::profile::Profile;

/// A format of another tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// pprof's, compressed.
    Pprof,
}

impl Format {
    /// Whether it is nothing to be shown in a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Pprof)
    }
}

/// The document of a profile.
pub fn document(profile: &Profile, format: Format) -> Vec<u8> {
    match format {
        Format::Pprof => pprof::document(profile),
    }
}
