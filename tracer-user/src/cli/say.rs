//! What a person is told on standard error.
//!
//! It may name what a target chose: nothing in it controls the terminal. Each piece is written at once, since a program that is traced may
//! write there too. A terminal that has gone takes nothing any more, and that ends nothing: reports may go to a file.

use std::fmt::Display;
use std::io::{Write as _, stderr};

use crate::fault::Fault;
use crate::report::text::printable;

/// Says a line.
pub(super) fn say(line: impl Display) {
    write(&printable(&line.to_string()));
}

/// Says what is wrong, why, and what to do.
pub(super) fn say_fault(fault: &Fault) {
    let lines: Vec<String> = fault.to_string().lines().map(printable).collect();
    write(&lines.join("\n"));
}

fn write(text: &str) {
    if let Err(error) = stderr().write_all(format!("{text}\n").as_bytes()) {
        tracing::debug!("nobody hears {text:?}: {error}");
    }
}
