//! Stacks of code that was built without frame pointers reach the thread's root, with every function in its place.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use std::collections::BTreeMap;

use outlive_tests::compiler::{Build, build, build_with};
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

/// A stack as libgcc sees it: the size of the block that was allocated there, and its frames from the second on.
fn parse_backtrace(line: &str) -> (u64, Vec<(String, u64)>) {
    let mut words = line.split(' ');
    let size_bytes = words.next().and_then(|word| word.parse().ok()).expect("a size");
    let frame = |word: &str| {
        let (module, offset) = word.rsplit_once('+').expect("module+offset");
        (module.to_owned(), u64::from_str_radix(offset, 16).expect("hexadecimal"))
    };
    (size_bytes, words.map(frame).collect())
}

/// The frames of the site of these blocks, from the second on, inlined ones left out.
fn frames_of(report: &Report, sizes_bytes: &[u64]) -> Vec<(String, u64)> {
    let (count, total_bytes) = (sizes_bytes.len() as u64, sizes_bytes.iter().sum::<u64>());
    let sites = report.sites();
    let site = sites.iter().find(|site| {
        site.number("allocated_count") == count && site.number("allocated_bytes") == total_bytes
    });
    let Some(site) = site else { panic!("no site of blocks of {sizes_bytes:?} bytes; {report}") };
    assert_eq!(site.json["stack_end"], "root", "{}; {report}", site.json);
    let frames = site.json["frames"].as_array().expect("frames");
    let physical = frames.iter().filter(|frame| frame["inlined"] == false).skip(1);
    let frame = |frame: &serde_json::Value| {
        let module = frame["module"].as_str()?.rsplit('/').next()?.to_owned();
        Some((module, frame["offset"].as_u64()?))
    };
    physical.map(|value| frame(value).unwrap_or_else(|| panic!("{value}"))).collect()
}

#[test]
fn every_stack_is_what_libgcc_sees() {
    for kind in [Build::NoFramePointers, Build::Optimised, Build::Debug] {
        let program = build_with("cpp/backtraces.cpp", kind, &["-ldl"]);
        let mut workload = Workload::start(&program, &[]);
        let outlive = Outlive::attach(&[workload.pid()], &["--exact", "--top", "0"]);
        workload.talk.say("go");
        let mut sizes_by_stack = BTreeMap::<_, Vec<u64>>::new();
        loop {
            let line = workload.talk.hear();
            if line == "end" {
                break;
            }
            let (size_bytes, frames) = parse_backtrace(&line);
            sizes_by_stack.entry(frames).or_default().push(size_bytes);
        }
        let report = outlive.stop().with_status(0).report();
        workload.exit();
        assert_eq!(sizes_by_stack.values().map(Vec::len).sum::<usize>(), 50, "{report}");
        assert!(sizes_by_stack.len() > 40, "{sizes_by_stack:?}");
        let mut interrupted = 0;
        for (libgcc, sizes_bytes) in &sizes_by_stack {
            let own = frames_of(&report, sizes_bytes);
            // A return address stands for the call before it; an interrupted instruction stands for itself.
            for ((own, libgcc), depth) in own.iter().zip(libgcc).zip(1..) {
                interrupted += usize::from(own == libgcc);
                let call = (libgcc.0.clone(), libgcc.1 - 1);
                assert!(*own == call || own == libgcc, "{sizes_bytes:?}, frame {depth}; {report}");
            }
            assert_eq!(own.len(), libgcc.len(), "{sizes_bytes:?}; {report}");
        }
        assert_eq!(interrupted, 2, "one frame for each signal; {report}");
    }
}
