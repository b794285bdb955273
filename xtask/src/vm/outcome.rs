//! What a machine's console tells: the findings of `outlive doctor`, and how each test went.
//!
//! In: lines. Out: an [`Outcome`].

use std::time::Duration;

use serde::Deserialize;

use super::SUITES;
use crate::tally::{Reader, Tally};

/// Starts a line that the first process of the machine writes.
pub(crate) const MARK: &str = "@outlive";

/// What came of a kernel.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Its release.
    pub(crate) release: String,
    /// What `outlive doctor` finds.
    pub(crate) findings: Vec<Finding>,
    /// Instructions its verifier walked through, by program; none before 5.16, which does not tell.
    pub(crate) programs: Vec<Program>,
    /// The suites that were begun, in their order.
    pub(crate) suites: Vec<Suite>,
    /// How long it took, starting and ending included.
    pub(crate) taken: Duration,
    is_complete: bool,
}

/// A finding of `outlive doctor`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) detail: String,
}

/// A kernel program.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) verified_instructions: u64,
}

#[derive(Deserialize)]
struct Doctor {
    findings: Vec<Finding>,
    programs: Vec<Program>,
}

/// How a suite went.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) name: String,
    pub(crate) tally: Tally,
    /// Tests and whether they passed.
    pub(crate) tests: Vec<(String, bool)>,
}

/// The suite that begins with this line.
pub(crate) fn suite(line: &str) -> Option<&str> {
    marked(line, "suite")
}

fn marked<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    // The firmware leaves its last line open, and the kernel may speak in the middle of another.
    let (_, rest) = line.split_once(MARK)?;
    Some(rest.trim_start().strip_prefix(word)?.trim())
}

impl Outcome {
    /// Reads a console.
    pub(crate) fn read(console: &str, taken: Duration) -> Self {
        let mut outcome = Self { taken, ..Self::default() };
        let mut open: Option<(Suite, Reader)> = None;
        for line in console.lines() {
            if let Some(release) = marked(line, "release") {
                release.clone_into(&mut outcome.release);
            } else if let Some(findings) = marked(line, "doctor") {
                if let Ok(doctor) = serde_json::from_str::<Doctor>(findings) {
                    outcome.findings = doctor.findings;
                    outcome.programs = doctor.programs;
                }
            } else if let Some(name) = suite(line) {
                let suite =
                    Suite { name: name.to_owned(), tally: Tally::default(), tests: Vec::new() };
                open = Some((suite, Reader::default()));
            } else if let Some(status) = marked(line, "ended") {
                if let Some((suite, reader)) = open.take() {
                    outcome.suites.push(suite.finished(reader, status == "0"));
                }
            } else if marked(line, "done").is_some() {
                outcome.is_complete = true;
            } else if let Some((suite, reader)) = &mut open {
                reader.line(line);
                suite.tests.extend(test(line));
            }
        }
        if let Some((suite, reader)) = open {
            outcome.suites.push(suite.finished(reader, false));
        }
        outcome
    }

    /// Whether the machine came to its end, and `doctor` could be understood.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete && !self.findings.is_empty() && self.suites.len() == SUITES.len()
    }

    /// All suites together; what was not reached failed.
    pub(crate) fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        for suite in &self.suites {
            sum += suite.tally;
        }
        if !self.is_complete() && sum.failed == 0 {
            sum.failed = 1;
        }
        sum
    }

    /// The suite of this name.
    pub(crate) fn suite(&self, name: &str) -> Option<&Suite> {
        self.suites.iter().find(|suite| suite.name == name)
    }

    /// The finding of this name.
    pub(crate) fn finding(&self, name: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.name == name)
    }

    /// Tests that failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = self.suites.iter().flat_map(|suite| {
            let tests = suite.tests.iter().filter(|(_, passed)| !passed);
            tests.map(|(test, _)| format!("{}: {test}", suite.name))
        });
        failed.collect()
    }
}

impl Suite {
    fn finished(self, reader: Reader, succeeded: bool) -> Self {
        Self { tally: reader.finish(succeeded), ..self }
    }

    /// Whether tests ran, and all passed.
    pub(crate) fn passed(&self) -> bool {
        self.tally.failed == 0 && self.tally.passed > 0
    }
}

/// `test name ... ok`
fn test(line: &str) -> Option<(String, bool)> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    match result {
        "ok" => Some((name.to_owned(), true)),
        "FAILED" => Some((name.to_owned(), false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "SeaBIOS\n\u{1b}c@outlive release 6.1.0\n\
        @outlive doctor {\"findings\":[{\"name\":\"kernel\",\"status\":\"ok\",\"detail\":\"x\",\"remedy\":null}],\"programs\":[]}\n\
        @outlive suite run\nrunning 2 tests\ntest a ... ok\ntest b ... FAILED\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n@outlive ended 101\n\
        @outlive suite links\nrunning 1 test\n";

    #[test]
    fn a_console_is_read() {
        let outcome = Outcome::read(CONSOLE, Duration::ZERO);
        assert_eq!(outcome.release, "6.1.0");
        assert_eq!(outcome.finding("kernel").map(|finding| finding.status.as_str()), Some("ok"));
        assert_eq!(outcome.failures(), ["run: b"]);
    }

    #[test]
    fn what_was_not_reached_failed() {
        let outcome = Outcome::read(CONSOLE, Duration::ZERO);
        assert!(!outcome.is_complete());
        assert_eq!(outcome.sum().to_string(), "1 passed, 2 failed");
        assert_eq!(Outcome::read("", Duration::ZERO).sum().to_string(), "0 passed, 1 failed");
    }
}
