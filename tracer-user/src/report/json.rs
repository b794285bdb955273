//! A report as JSON: the contract `outlive/1`.

use super::model::Report;

/// One document over several lines, with a line feed at the end.
pub fn document(report: &Report) -> String {
    // Serialising plain data to memory cannot fail: no map has keys other than strings, and numbers are finite.
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

/// The document on one line, with a line feed at the end: for a file of many (JSON lines).
pub fn line(report: &Report) -> String {
    serde_json::to_string(report).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;

    #[test]
    fn golden_document() {
        insta::assert_snapshot!(document(&fixture::report(Some(512 << 10), 2)));
    }

    #[test]
    fn a_line_is_the_document_on_one_line() {
        let report = fixture::report(None, 10);
        let line = line(&report);
        assert_eq!(line.matches('\n').count(), 1);
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(parse(&line), parse(&document(&report)));
    }
}
