//! One thing that was looked at, and how findings are written.

use serde::Serialize;

use super::Examination;
use crate::report::text::printable;

/// The name and version of the JSON document.
const SCHEMA: &str = "outlive-doctor/1";

/// How good or bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Tracing works, but less well.
    Warning,
    /// Tracing does not work.
    Problem,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How good or bad it is.
    #[serde(rename = "status")]
    pub level: Level,
    /// What was found.
    pub detail: String,
    /// What to do about it; `None` when all is well.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, detail: detail.into(), remedy: None }
    }

    /// Tracing works, but less well.
    pub(super) fn warning(
        name: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (detail, remedy) = (detail.into(), Some(remedy.into()));
        Self { name, level: Level::Warning, detail, remedy }
    }

    /// Tracing does not work.
    pub(super) fn problem(
        name: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (detail, remedy) = (detail.into(), Some(remedy.into()));
        Self { name, level: Level::Problem, detail, remedy }
    }

    /// Whether it prevents tracing.
    pub fn is_problem(&self) -> bool {
        self.level == Level::Problem
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    findings: &'a [Finding],
    programs: Vec<Program>,
}

#[derive(Serialize)]
struct Program {
    name: &'static str,
    verified_instructions: u32,
}

/// One JSON document on one line.
pub(super) fn to_json(examination: &Examination) -> String {
    let programs = examination.programs.iter();
    let document = Document {
        schema: SCHEMA,
        findings: &examination.findings,
        programs: programs
            .map(|(name, count)| Program { name, verified_instructions: *count })
            .collect(),
    };
    // Serialising plain data to memory cannot fail.
    serde_json::to_string(&document).unwrap_or_default() + "\n"
}

/// A line for each finding, and one below it for what to do.
pub(super) fn to_text(examination: &Examination) -> String {
    let names = examination.findings.iter().map(|finding| finding.name.len());
    let width = names.max().unwrap_or(0);
    let lines = examination.findings.iter().map(|finding| {
        let Finding { name, level, detail, remedy } = finding;
        let line = format!("{:7}  {name:width$}  {}\n", level.word(), printable(detail));
        match remedy {
            Some(remedy) => format!("{line}{:7}  {:width$}  do: {}\n", "", "", printable(remedy)),
            None => line,
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn examination() -> Examination {
        Examination {
            findings: vec![
                Finding::ok("kernel", "Linux 6.18"),
                Finding::warning("tracefs", "not\u{1b}[2J mounted", "mount it"),
                Finding::problem("rights", "no CAP_BPF", "sudo"),
            ],
            programs: BTreeMap::from([("release_enter", 512)]),
        }
    }

    #[test]
    fn text_has_a_line_for_each_and_one_for_what_to_do() {
        let text = to_text(&examination());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "ok       kernel   Linux 6.18");
        assert_eq!(lines[1], "warning  tracefs  not\u{fffd}[2J mounted");
        assert_eq!(lines[2].trim(), "do: mount it");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn json_is_the_documented_document() {
        let value: serde_json::Value =
            serde_json::from_str(&to_json(&examination())).expect("JSON");
        assert_eq!(value["schema"], "outlive-doctor/1");
        assert_eq!(value["findings"][0]["status"], "ok");
        assert_eq!(value["findings"][0]["remedy"], serde_json::Value::Null);
        assert_eq!(value["findings"][2]["status"], "problem");
        assert_eq!(value["programs"][0]["name"], "release_enter");
        assert_eq!(value["programs"][0]["verified_instructions"], 512);
    }
}
