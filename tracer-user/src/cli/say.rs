//! What a person is told on standard error.

use std::fmt::Display;
use std::io::{Write as _, stderr};

/// Says a line. A terminal that has gone takes nothing any more, and that ends nothing: reports may go to a file.
pub(super) fn say(line: impl Display) {
    if let Err(error) = writeln!(stderr(), "{line}") {
        tracing::debug!("nobody hears {line}: {error}");
    }
}
