//! `outlive doctor`: whether this host and a process can be traced, how well, and what to do about it.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use outlive_tests::compiler::{Build, build};
use outlive_tests::outlive::{Finished, command, finished};
use outlive_tests::workload::Workload;
use serde_json::Value;

/// What `doctor --json` finds.
fn findings(further: &[&str]) -> (Finished, Vec<Value>) {
    let finished = finished(command(["doctor", "--json"]).args(further));
    let document: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("doctor's JSON: {error}; {finished}"));
    let findings = document["findings"].as_array().cloned();
    let findings = findings.unwrap_or_else(|| panic!("no findings; {finished}"));
    assert!(!findings.is_empty(), "no findings; {finished}");
    (finished, findings)
}

/// The findings in one text, to look for words.
fn words(findings: &[Value]) -> String {
    Value::Array(findings.to_vec()).to_string().to_lowercase()
}

#[test]
fn this_host_can_be_traced_and_each_feature_is_a_finding() {
    let (finished, findings) = findings(&[]);
    assert!(findings.len() >= 5, "{finished}");
    let text = words(&findings);
    for subject in ["session", "multi", "btf", "tracefs", "lockdown", "ring"] {
        assert!(text.contains(subject), "nothing about {subject}; {finished}");
    }
    finished.assert_status(0);
}

#[test]
fn every_finding_has_a_name_a_state_and_a_remedy_where_it_is_not_good() {
    let (finished, findings) = findings(&[]);
    for finding in &findings {
        for key in ["name", "status", "detail"] {
            assert!(
                finding[key].as_str().is_some_and(|text| !text.is_empty()),
                "{key} of {finding}; {finished}"
            );
        }
        let good = finding["status"] == "ok";
        let remedy = finding["remedy"].as_str().is_some_and(|text| !text.is_empty());
        assert!(good || remedy, "no remedy in {finding}; {finished}");
    }
}

#[test]
fn a_process_is_described_by_its_allocator_and_its_symbols() {
    for (variant, word) in
        [(Build::Debug, "glibc"), (Build::Static, "glibc"), (Build::Stripped, "stripped")]
    {
        let mut workload = Workload::start(&build("c/leak.c", variant), &["malloc", "1"]);
        let (finished, found) = findings(&[&workload.pid().to_string()]);
        assert!(words(&found).contains(word), "no {word} for {variant:?}; {finished}");
        finished.assert_status(0);
        workload.go();
        workload.exit();
    }
}

#[test]
fn a_process_that_can_not_be_traced_is_status_4() {
    let workload = Workload::start(&build("c/bare.c", Build::Bare), &[]);
    let finished = finished(&mut command(["doctor", &workload.pid().to_string()])).with_status(4);
    assert!(!finished.stderr.contains("panicked"), "{finished}");
    let gone = outlive_tests::outlive::finished(&mut command(["doctor", "4194305"]));
    gone.error(4);
}

#[test]
fn the_text_has_a_line_for_each_finding() {
    let (_, findings) = findings(&[]);
    let finished = finished(&mut command(["doctor"])).with_status(0);
    for finding in findings {
        let name = finding["name"].as_str().unwrap_or_default();
        assert!(finished.stdout.contains(name), "nothing about {name}; {finished}");
    }
}
