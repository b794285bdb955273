//! `outlive goroutines` of programs whose goroutines are counted: what has changed between two looks.

use std::collections::BTreeMap;

use outlive_tests::compiler::line_of;
use outlive_tests::golang::build::{Build, Profiler, build};
use outlive_tests::golang::toolchains::{Toolchain, with_each};
use outlive_tests::golang::workload::GoWorkload;
use outlive_tests::outlive::{Finished, Outlive, command};
use outlive_tests::patience::{PATIENCE, await_condition};
use serde_json::Value;

fn start(name: &str, toolchain: &Toolchain) -> GoWorkload {
    GoWorkload::start(&build(name, toolchain, Build::Plain, Profiler::Served))
}

/// Waits until the program's own traceback has so many goroutines by the line of the workload that started them, all of them waiting.
fn settle(workload: &GoWorkload, source: &str, expected: &BTreeMap<u64, u64>) {
    let own = || {
        let mut counts = BTreeMap::new();
        for goroutine in workload.goroutines() {
            let Some(creator) = goroutine.creator else { continue };
            if creator.file.ends_with(source) {
                let waits = !["running", "runnable"].contains(&goroutine.state.as_str());
                *counts.entry(creator.line).or_insert(0) += if waits { 1 } else { 1_000_000 };
            }
        }
        counts
    };
    let settled = await_condition(PATIENCE, || (own() == *expected).then_some(()));
    assert!(settled.is_some(), "{:?}, and {expected:?} are expected", own());
}

fn document(finished: Finished) -> Value {
    let finished = finished.with_status(0);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

/// A number of each group that a line of this source started.
fn by_line(report: &Value, source: &str, number: impl Fn(&Value) -> u64) -> BTreeMap<u64, u64> {
    let mut numbers = BTreeMap::new();
    for group in report["groups"].as_array().expect("groups") {
        let creator = &group["created_by"];
        if creator["file"].as_str().is_some_and(|file| file.ends_with(source)) {
            let line = creator["line"].as_u64().expect("a line");
            *numbers.entry(line).or_insert(0) += number(group);
        }
    }
    numbers
}

fn field(group: &Value, pointer: &str) -> u64 {
    group.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {group}"))
}

#[test]
fn what_started_and_ended_between_two_looks_is_told_by_creation_site() {
    const SOURCE: &str = "goleak/main.go";
    with_each(|toolchain| {
        let line = |site: &str| line_of(&format!("go/{SOURCE}"), site);
        let (watcher, sender) = (line("watcher"), line("sender"));
        let counts = |watchers, senders| BTreeMap::from([(watcher, watchers), (sender, senders)]);
        let mut workload = start("goleak", toolchain);
        assert_eq!(workload.go(100), 90 + 20);
        settle(&workload, SOURCE, &counts(90, 20));
        let arguments = ["goroutines", &workload.pid().to_string(), "-d", "10m", "-n", "0"];
        let outlive = Outlive::start(command(arguments).args(["-f", "json"]));
        outlive.await_error_line(|line| line.contains(" again in 10m"), "it has looked");
        assert_eq!(workload.go(50), 135 + 30);
        settle(&workload, SOURCE, &counts(135, 30));
        let report = document(outlive.stop());
        assert_eq!(by_line(&report, SOURCE, |g| field(g, "/count")), counts(135, 30), "{report}");
        let started = by_line(&report, SOURCE, |group| field(group, "/change/started"));
        assert_eq!(started, counts(45, 10), "{report}");
        let ended = by_line(&report, SOURCE, |group| field(group, "/change/ended"));
        assert_eq!(ended, counts(0, 0), "{report}");
        assert!(report["since"]["seconds"].as_f64().is_some_and(|s| s > 0.0), "{report}");
        assert!(field(&report, "/totals/change/started") >= 55, "{report}");
        workload.exit();
    });
}
