//! What a report of `outlive` says of a Go program, in the form of a profile, so that the two can be compared.

use serde_json::Value;

use super::profile::{Amounts, CodeLine, HeapProfile};
use crate::report::{Report, Site};

/// The sites of a report made with `--raw`.
pub fn claims(report: &Report) -> HeapProfile {
    let mut profile = HeapProfile::default();
    for site in report.sites() {
        let amounts = Amounts {
            allocated_count: site.number("allocated_count"),
            allocated_bytes: site.number("allocated_bytes"),
            live_count: site.number("live_count"),
            live_bytes: site.number("live_bytes"),
        };
        profile.add(&stack(site), amounts);
    }
    profile
}

fn stack(site: Site<'_>) -> Vec<CodeLine> {
    let frames = site.json["raw_frames"].as_array();
    let frames = frames.unwrap_or_else(|| panic!("a site has no raw_frames: {}", site.json));
    frames.iter().map(code_line).collect()
}

fn code_line(frame: &Value) -> CodeLine {
    let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
    let line = frame["line"].as_u64().unwrap_or_default();
    CodeLine { function: text("function"), file: text("file"), line }
}
