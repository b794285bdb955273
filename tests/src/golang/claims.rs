//! What `outlive` says of a Go program, in the form in which the program says it itself, so that the two can be compared.

use std::collections::BTreeMap;

use serde_json::Value;

use super::goroutines::GoroutineCounts;
use super::profile::{Amounts, CodeLine, HeapProfile, without_type_arguments};
use crate::outlive::{Finished, command, finished};
use crate::report::{Report, Site};

/// Runs `outlive snapshot`, with every site and all of its frames.
pub fn snapshot(pid: u32) -> Finished {
    let pid = pid.to_string();
    finished(&mut command(["snapshot", &pid, "-f", "json", "--raw", "-n", "0"]))
}

/// Insists that a report made with `--raw` is the program's own profile: each record, and the totals.
pub fn assert_claims(report: &Report, own: &HeapProfile, what: &str) {
    let differences = own.differences(&claims(report));
    let count = differences.len();
    assert!(
        differences.is_empty(),
        "{what}: {count} of {} stacks differ, the program's own here, the report's there:\n{}\n{report}",
        own.records.len(),
        differences.join("\n")
    );
    let (own, said) = (own.total(), report.totals());
    let said = Amounts {
        allocated_count: said.allocated_count,
        allocated_bytes: said.allocated_bytes,
        live_count: said.live_count,
        live_bytes: said.live_bytes,
    };
    assert_eq!(
        own, said,
        "{what}: the program's own totals (left), the report's (right); {report}"
    );
}

/// The sites of a report made with `--raw`.
pub fn claims(report: &Report) -> HeapProfile {
    claims_in(report, "raw_frames")
}

/// The sites of a report on a file.
pub fn claims_of_file(report: &Report) -> HeapProfile {
    claims_in(report, "frames")
}

fn claims_in(report: &Report, frames: &str) -> HeapProfile {
    let mut profile = HeapProfile::default();
    for site in report.sites() {
        let amounts = Amounts {
            allocated_count: site.number("allocated_count"),
            allocated_bytes: site.number("allocated_bytes"),
            live_count: site.number("live_count"),
            live_bytes: site.number("live_bytes"),
        };
        profile.add(&stack(site, frames), amounts);
    }
    profile
}

fn stack(site: Site<'_>, name: &str) -> Vec<CodeLine> {
    let frames = site.json[name].as_array();
    let frames = frames.unwrap_or_else(|| panic!("a site has no {name}: {}", site.json));
    frames.iter().map(code_line).collect()
}

fn code_line(frame: &Value) -> CodeLine {
    let text = |name: &str| frame[name].as_str().unwrap_or_default().to_owned();
    let line = frame["line"].as_u64().unwrap_or_default();
    CodeLine { function: without_type_arguments(&text("function")), file: text("file"), line }
}

/// A number of the section `go` of a site.
pub fn sampled_number(site: &Site<'_>, name: &str) -> u64 {
    let number = site.json["go"][name].as_u64();
    number.unwrap_or_else(|| panic!("no go.{name} in {}", site.json))
}

/// Live sampled objects of each stack that has any.
pub fn objects_by_stack(report: &Report) -> BTreeMap<String, u64> {
    let mut objects = BTreeMap::new();
    for site in report.sites().iter().filter(|site| site.json.get("go").is_some()) {
        let frames = site.json["raw_frames"].as_array().expect("frames");
        let frame =
            |frame: &Value| format!("{} {}:{}", frame["function"], frame["file"], frame["offset"]);
        let stack: Vec<String> = frames.iter().map(frame).collect();
        *objects.entry(stack.join("\n")).or_insert(0) += sampled_number(site, "sampled_objects");
    }
    objects.retain(|_, count| *count > 0);
    objects
}

/// What `outlive goroutines` says, without the runtime's own goroutines, which tracebacks leave out.
pub fn goroutine_counts(pid: u32) -> GoroutineCounts {
    let pid = pid.to_string();
    let told = finished(&mut command(["goroutines", &pid, "-f", "json", "-n", "0"])).with_status(0);
    let report: Value = serde_json::from_str(&told.stdout).expect("JSON");
    let mut counts = GoroutineCounts::new();
    for group in report["groups"].as_array().expect("groups") {
        if group["system"] == true {
            continue;
        }
        let creator = (!group["created_by"].is_null()).then(|| code_line(&group["created_by"]));
        for (state, count) in group["states"].as_object().expect("states") {
            let key = (creator.clone(), state.clone());
            *counts.entry(key).or_insert(0) += count.as_u64().expect("a count");
        }
    }
    counts
}
