//! `outlive attach --exact` on Go programs: every allocation is counted at its call site, and collections tell what of it lives.

use std::collections::{BTreeMap, BTreeSet};

use outlive_tests::code;
use outlive_tests::compiler::line_of;
use outlive_tests::golang::build::{Build, Profiler, build};
use outlive_tests::golang::claims::snapshot;
use outlive_tests::golang::toolchains::{Toolchain, with_each};
use outlive_tests::golang::workload::{GoWorkload, RATE};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::report::{Report, Site};

/// The test ends tracing before that.
const EXACT: &[&str] = &["--exact", "--duration", "10m", "--top", "0", "--raw"];
/// The slot of a block that `mapcache` allocates in passing.
const SCRATCH_BYTES: u64 = 18_432;
/// Slots for objects without addresses below this size are shared: the runtime's profile has the slots, not the objects.
const LEAST_OWN_SLOT_BYTES: u64 = 32;

fn start(name: &str, toolchain: &Toolchain, how: Build) -> GoWorkload {
    GoWorkload::start(&build(name, toolchain, how, Profiler::Off))
}

/// The site of slots of this size that are allocated in this line.
fn site_at<'r>(report: &'r Report, source: &str, mark: &str, size: u64) -> Site<'r> {
    let line = line_of(&format!("go/{source}"), mark);
    let is_it = |site: &Site<'_>| {
        let frame = site.frame(0);
        let is_there = frame["line"] == line
            && frame["file"].as_str().is_some_and(|file| file.ends_with(source));
        let count = site.number("allocated_count");
        is_there && count > 0 && site.number("allocated_bytes") == size * count
    };
    let sites: Vec<_> = report.sites().into_iter().filter(is_it).collect();
    assert_eq!(sites.len(), 1, "sites at {source}:{line}; {report}");
    sites.into_iter().next().expect("one")
}

fn assert_exact(report: &Report, toolchain: &Toolchain) {
    report.assert_no_loss();
    assert_eq!(report.text("/sampling/mode"), "exact", "{report}");
    assert_eq!(report.text("/target/go_version"), toolchain.version, "{report}");
    assert_eq!(report.number("/loss/unknown_frees"), 0, "{report}");
    assert_eq!(report.number("/loss/implied_frees"), 0, "{report}");
    let told = |notice: &&str| notice.contains("every allocation of its Go heap is recorded");
    assert!(report.notices().iter().any(told), "{report}");
}

#[test]
fn every_allocation_is_counted_and_lives_as_long_as_it_is_held() {
    with_each(|toolchain| {
        for how in [Build::Plain, Build::PieStripped] {
            let mut workload = start("mapcache", toolchain, how);
            assert_eq!(workload.go(100), 100);
            let outlive = Outlive::attach(&[workload.pid()], EXACT);
            assert_eq!(workload.go(500), 600);
            workload.collect();
            let report = outlive.stop().with_status(0).report();
            assert_exact(&report, toolchain);
            let payloads = site_at(&report, "mapcache/main.go", "payload", 2048);
            payloads.assert_live(500, 500 * 2048);
            assert_eq!(payloads.number("allocated_count"), 500, "{report}");
            assert_eq!(payloads.json["type"], "uint8", "{report}");
            let passing = site_at(&report, "mapcache/main.go", "scratch", SCRATCH_BYTES);
            assert_eq!(passing.number("allocated_count"), 4 * 500, "{report}");
            assert_eq!(passing.number("freed_count"), 4 * 500 - 1, "{report}");
            workload.exit();
        }
    });
}

#[test]
fn what_lives_after_a_collection_is_what_programs_hold() {
    with_each(|toolchain| {
        for (name, mark, size) in
            [("sessions", "session", 64), ("lru", "value", 4096), ("mapcache", "payload", 2048)]
        {
            let mut workload = start(name, toolchain, Build::Plain);
            let outlive = Outlive::attach(&[workload.pid()], EXACT);
            let held = workload.go(2500);
            workload.collect();
            let report = outlive.stop().with_status(0).report();
            assert_exact(&report, toolchain);
            let site = site_at(&report, &format!("{name}/main.go"), mark, size);
            site.assert_live(held, held * size);
            workload.exit();
        }
    });
}

/// How many were allocated, and their bytes, by stack: of what a step of the workload makes.
///
/// What the runtime allocates on a stack of its own, such as for a new thread, is left out: its profile does not tell for which goroutine
/// it did so, and outlive does only where frame pointers lead back there.
fn allocated(report: &Report) -> BTreeMap<String, (u64, u64)> {
    let mut counts = BTreeMap::new();
    for site in report.sites() {
        let frames = site.json["frames"].as_array().expect("frames");
        let frame = |frame: &serde_json::Value| format!("{} {}", frame["function"], frame["line"]);
        let stack: Vec<String> = frames.iter().map(frame).collect();
        let raw = site.json["raw_frames"].as_array().expect("raw frames");
        if raw.iter().any(|frame| frame["function"] == "runtime.systemstack") {
            continue;
        }
        if stack.iter().any(|frame| frame.starts_with("\"main.handle\"")) {
            let (count, bytes) = counts.entry(stack.join("\n")).or_insert((0, 0));
            *count += site.number("allocated_count");
            *bytes += site.number("allocated_bytes");
        }
    }
    counts
}

/// The runtime's own profile is the witness, when it records everything too.
#[test]
fn counts_by_stack_are_those_of_the_runtimes_own_profile() {
    with_each(|toolchain| {
        let program = build("mapcache", toolchain, Build::Plain, Profiler::Served);
        let mut workload = GoWorkload::start_with(&program, &[(RATE, "1")]);
        workload.go(10);
        let read = |workload: &mut GoWorkload| {
            workload.collect();
            workload.collect();
            allocated(&snapshot(workload.pid()).with_status(0).report())
        };
        let before = read(&mut workload);
        let outlive = Outlive::attach(&[workload.pid()], EXACT);
        workload.go(300);
        let report = outlive.stop().with_status(0).report();
        let mut own = read(&mut workload);
        for (stack, (count, bytes)) in &before {
            let now = own.get_mut(stack).expect("what was allocated stays told");
            *now = (now.0 - count, now.1 - bytes);
        }
        assert_exact(&report, toolchain);
        let mut told = allocated(&report);
        let shared: BTreeSet<String> = told
            .iter()
            .filter(|(_, (count, bytes))| *bytes < LEAST_OWN_SLOT_BYTES * count)
            .map(|(stack, _)| stack.clone())
            .collect();
        for counts in [&mut told, &mut own] {
            counts.retain(|stack, (count, _)| *count > 0 && !shared.contains(stack));
        }
        assert!(own.values().map(|(count, _)| count).sum::<u64>() > 1500, "{own:?}");
        assert_eq!(told, own, "{}: told (left), own (right)", toolchain.version);
        workload.exit();
    });
}

#[test]
fn every_kind_of_link_counts_the_same() {
    with_each(|toolchain| {
        for kind in ["session", "multi", "single"] {
            let mut workload = start("mapcache", toolchain, Build::Plain);
            let further = [EXACT, &["--force-link", kind]].concat();
            let outlive = Outlive::attach(&[workload.pid()], &further);
            assert_eq!(workload.go(50), 50);
            workload.collect();
            let report = outlive.stop().with_status(0).report();
            report.assert_no_loss();
            site_at(&report, "mapcache/main.go", "payload", 2048).assert_live(50, 50 * 2048);
            workload.exit();
        }
    });
}

#[test]
fn go_programs_are_not_slowed_without_an_end_in_sight() {
    with_each(|toolchain| {
        let workload = start("mapcache", toolchain, Build::Plain);
        let pid = workload.pid().to_string();
        let [_, why, remedy] = finished(&mut command(["attach", "--exact", &pid])).error(2);
        assert!(why.contains("Go program") && remedy.contains("--exact -d"), "{why}; {remedy}");
        workload.exit();
    });
}

#[test]
fn the_governor_guards_unless_told_otherwise() {
    with_each(|toolchain| {
        let mut workload = start("mapcache", toolchain, Build::Plain);
        let outlive = Outlive::attach_by(&[workload.pid()], EXACT, |command| {
            command.env_remove("OUTLIVE_MAX_OVERHEAD");
        });
        // It works until tracing has been given up.
        let mut held = 0;
        let report = {
            let ended = std::thread::spawn(|| outlive.finish());
            while !ended.is_finished() {
                held = workload.go(2000);
            }
            ended.join().expect("it ends").with_status(0).report()
        };
        let told = |notice: &&str| notice.contains("its probes were taken off");
        assert!(report.notices().iter().any(told), "{report}");
        assert_eq!(workload.go(10), held + 10);
        code::assert_unchanged(workload.pid());
        workload.exit();
    });
}
