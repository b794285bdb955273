//! Failures that help: what failed, why, and what to do about it, in three lines.
//!
//! In: any error of a step. Out: an [`anyhow::Error`] that prints as three lines, never with a backtrace.

use std::fmt;

/// A failed step, in words for the person who has to mend it.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: String,
    remedy: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "error: {}", self.what)?;
        writeln!(out, "  why: {}", self.why)?;
        write!(out, "   do: {}", self.remedy)
    }
}

impl std::error::Error for Failure {}

/// A failure from its three parts, each of which is made one line.
pub(crate) fn failure(what: &str, why: &str, remedy: &str) -> anyhow::Error {
    Failure { what: one_line(what), why: one_line(why), remedy: one_line(remedy) }.into()
}

/// Prints an error for a person: three lines when it is a [`Failure`], one otherwise.
pub(crate) fn print(error: &anyhow::Error) {
    match error.downcast_ref::<Failure>() {
        Some(failure) => eprintln!("{failure}"),
        None => eprintln!("error: {}", one_line(&format!("{error:#}"))),
    }
}

/// Turns any error into a [`Failure`]; one that is a failure already stays as it is.
pub(crate) trait OrFail<T> {
    /// `what` failed; its error says why; `remedy` is what to do.
    fn or_fail(self, what: &str, remedy: &str) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: &str, remedy: &str) -> anyhow::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            if error.is::<Failure>() {
                return error;
            }
            failure(what, &format!("{error:#}"), remedy)
        })
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_failure_is_three_lines_whatever_its_cause_says() {
        let cause = anyhow!("first\n\n  second\n").context("outer");
        let error = Err::<(), _>(cause).or_fail("it failed", "mend it").expect_err("a failure");
        let text = format!("{error:#}");
        assert_eq!(text, "error: it failed\n  why: outer: first; second\n   do: mend it");
    }

    #[test]
    fn the_innermost_advice_is_kept() {
        let inner = failure("inner", "because", "this");
        let error = Err::<(), _>(inner).or_fail("outer", "that").expect_err("a failure");
        assert!(error.to_string().starts_with("error: inner\n"));
    }
}
