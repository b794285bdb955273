//! Adding up what test programs say.
//!
//! In: lines of their standard output. Out: how many tests passed, failed and were skipped.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, failed, were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(out, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Reads the output of one `cargo test`.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    sum: Tally,
    /// A program began and has not told its result.
    is_open: bool,
}

impl Reader {
    /// Takes a line.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(result) = result(line) {
            self.sum += result;
            self.is_open = false;
        } else if is_beginning(line) {
            self.abandon();
            self.is_open = true;
        }
    }

    /// The sum, now that cargo ended. What failed without saying so (a build, a crash) counts as one.
    pub(crate) fn finish(mut self, succeeded: bool) -> Tally {
        self.abandon();
        if !succeeded && self.sum.failed == 0 {
            self.sum.failed = 1;
        }
        self.sum
    }

    fn abandon(&mut self) {
        self.sum.failed += u64::from(self.is_open);
        self.is_open = false;
    }
}

/// `running 3 tests`
fn is_beginning(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("running ") else { return false };
    let Some((count, noun)) = rest.split_once(' ') else { return false };
    count.parse::<u64>().is_ok() && matches!(noun, "test" | "tests")
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split("; ") {
        let (count, what) = part.split_once(' ')?;
        match what {
            "passed" => tally.passed = count.parse().ok()?,
            "failed" => tally.failed = count.parse().ok()?,
            "ignored" => tally.skipped = count.parse().ok()?,
            _ => {}
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
    const BAD: &str = "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1s";

    fn read(lines: &[&str], succeeded: bool) -> String {
        let mut reader = Reader::default();
        for line in lines {
            reader.line(line);
        }
        reader.finish(succeeded).to_string()
    }

    #[test]
    fn results_add_up() {
        assert_eq!(
            read(&["running 3 tests", OK, "running 6 tests", BAD], false),
            "5 passed, 4 failed, 1 skipped"
        );
        assert_eq!(read(&["running 0 tests", "noise"], true), "0 passed, 1 failed");
        assert_eq!(read(&[BAD], false), "2 passed, 4 failed");
    }

    #[test]
    fn what_does_not_tell_its_result_failed() {
        assert_eq!(read(&[], false), "0 passed, 1 failed");
        assert_eq!(read(&["running 2 tests", "running 6 tests", BAD], false), "2 passed, 5 failed");
        assert_eq!(read(&[], true), "0 passed, 0 failed");
    }
}
