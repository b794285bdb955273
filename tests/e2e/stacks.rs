//! Stacks of code that was built without frame pointers reach the thread's root, with every function in its place.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use outlive_tests::compiler::{Build, build};
use outlive_tests::outlive::Outlive;
use outlive_tests::report::{Report, Site};
use outlive_tests::workload::Workload;

fn traced(build_kind: Build) -> Report {
    let mut workload = Workload::start(&build("cpp/frames.cpp", build_kind), &[]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact", "--top", "0"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    assert!(report.totals().allocated_count >= own.allocated_count, "{report}");
    report
}

/// The only site whose blocks have this size, and its functions, the C library's left out.
fn functions_of(report: &Report, size_bytes: u64) -> Vec<String> {
    let sites = report.sites();
    let mut own = sites.iter().filter(|site| {
        let count = site.number("allocated_count");
        count > 0 && site.number("allocated_bytes") == count * size_bytes
    });
    let (Some(site), None) = (own.next(), own.next()) else {
        panic!("not one site of blocks of {size_bytes} bytes; {report}");
    };
    assert_eq!(site.json["stack_end"], "root", "{}; {report}", site.json);
    named(site)
}

fn named(site: &Site<'_>) -> Vec<String> {
    let frames = site.json["frames"].as_array().expect("frames");
    frames
        .iter()
        .filter(|frame| frame["module"].as_str().is_some_and(|module| module.ends_with("/frames")))
        .filter_map(|frame| frame["function"].as_str())
        .filter(|function| !function.starts_with("std::") && !function.contains("__invoke"))
        .map(|function| function.split('(').next().unwrap_or(function).to_owned())
        .collect()
}

#[test]
fn the_caller_of_operator_new_and_all_above_it_are_seen() {
    for kind in [Build::NoFramePointers, Build::NoFramePointersStatic] {
        let report = traced(kind);
        let functions = functions_of(&report, 1001);
        let expected = ["by_new", "below", "below", "below", "below", "main"];
        assert_eq!(functions[..6], expected, "{report}");
        assert_eq!(report.number("/loss/truncated_stacks"), 0, "{report}");
    }
}

#[test]
fn callbacks_alloca_threads_and_signal_handlers_are_walked_through() {
    let report = traced(Build::NoFramePointers);
    for (size_bytes, expected) in [
        (1002, &["compare", "sort_two", "main", "_start"][..]),
        (1003, &["below_alloca", "main", "_start"]),
        (1004, &["in_thread"]),
        (1005, &["in_handler", "raise_it", "main", "_start"]),
    ] {
        assert_eq!(functions_of(&report, size_bytes), expected, "{report}");
    }
    assert_eq!(report.number("/loss/incomplete_stacks"), 0, "{report}");
}
