//! What a person is told on standard error.

use std::io::{Write as _, stderr};

use crate::report::text::printable;

/// Says a line, without what would control the terminal: it may name what a target chose. In one piece, since a program that is traced
/// may write there too. A terminal that has gone takes nothing any more, and that ends nothing: reports may go to a file.
pub(super) fn say(line: impl std::fmt::Display) {
    let line = printable(&line.to_string()) + "\n";
    if let Err(error) = stderr().write_all(line.as_bytes()) {
        tracing::debug!("nobody hears {line:?}: {error}");
    }
}
