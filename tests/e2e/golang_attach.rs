//! `outlive attach` on Go programs: what was there is inherited, what comes is followed, and the runtime never notices.

use std::fs;
use std::path::Path;

use outlive_tests::compiler::line_of;
use outlive_tests::golang::build::{Build, Profiler, build};
use outlive_tests::golang::claims::{objects_by_stack, sampled_number, snapshot};
use outlive_tests::golang::toolchains::{Toolchain, with_each};
use outlive_tests::golang::workload::{GoWorkload, RATE};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::report::{Report, Site};
use outlive_tests::stopped::Stopped;

/// The runtime samples every allocation.
const EVERY_ALLOCATION: &[(&str, &str)] = &[(RATE, "1")];
/// The slot of a block that `mapcache` allocates in passing.
const SCRATCH_BYTES: u64 = 18_432;
/// The runtime samples so many that most call sites are seen.
const MANY: &[(&str, &str)] = &[(RATE, "4096")];

fn start(name: &str, toolchain: &Toolchain, how: Build, rate: &[(&str, &str)]) -> GoWorkload {
    GoWorkload::start_with(&build(name, toolchain, how, Profiler::Served), rate)
}

/// The site of blocks of this size that are allocated in this line.
fn site_at<'r>(report: &'r Report, source: &str, mark: &str, size: u64) -> Site<'r> {
    let line = line_of(&format!("go/{source}"), mark);
    let is_it = |site: &Site<'_>| {
        // What is sampled while a program ends can be without a stack.
        let Some(frame) = site.json["frames"].get(0) else { return false };
        let is_there = frame["line"] == line
            && frame["file"].as_str().is_some_and(|file| file.ends_with(source));
        let count = site.number("live_count");
        is_there && count > 0 && site.number("live_bytes") == size * count
    };
    let mut sites: Vec<_> = report.sites().into_iter().filter(is_it).collect();
    assert_eq!(sites.len(), 1, "sites at {source}:{line}; {report}");
    sites.remove(0)
}

#[test]
fn objects_from_before_are_inherited_and_new_ones_are_followed() {
    with_each(|toolchain| {
        for how in [Build::Plain, Build::PieStripped] {
            let mut workload = start("mapcache", toolchain, how, EVERY_ALLOCATION);
            assert_eq!(workload.go(300), 300);
            workload.collect();
            let outlive = Outlive::attach(&[workload.pid()], &["--top", "0", "--raw"]);
            assert_eq!(workload.go(200), 500);
            workload.collect();
            workload.collect();
            let report = outlive.stop().with_status(0).report();
            report.assert_no_loss();
            assert_eq!(report.text("/target/kind"), "go", "{report}");
            assert_eq!(report.text("/target/go_version"), toolchain.version, "{report}");
            assert_eq!(report.text("/sampling/mode"), "go-runtime", "{report}");
            // Each sample is told once, and each of its ends.
            let told = report.totals().allocated_count;
            assert!(report.number("/cost/allocate_hits") >= told && told > 1000, "{report}");
            assert!(report.number("/cost/release_hits") >= 799, "{report}");
            assert!(report.value("/cost/estimated_slowdown").as_f64().is_some_and(|it| it > 0.0));
            let site = site_at(&report, "mapcache/main.go", "payload", 2048);
            site.assert_live(500, 500 * 2048);
            assert_eq!(site.number("allocated_count"), 200, "{report}");
            assert_eq!(sampled_number(&site, "inherited_count"), 300, "{report}");
            assert_eq!(sampled_number(&site, "inherited_bytes"), 300 * 2048, "{report}");
            assert!(sampled_number(&site, "oldest_age_cycles") >= 2, "{report}");
            assert!(report.number("/totals/inherited_bytes") >= 300 * 2048, "{report}");
            // What was only passing through was seen to come and go; the last one is kept.
            let passing = site_at(&report, "mapcache/main.go", "scratch", SCRATCH_BYTES);
            assert_eq!(passing.number("allocated_count"), 800, "{report}");
            assert_eq!(passing.number("freed_count"), 799, "{report}");
            workload.exit();
        }
    });
}

#[test]
fn every_kind_of_link_follows_the_heap() {
    with_each(|toolchain| {
        for kind in ["session", "multi", "single"] {
            let mut workload = start("mapcache", toolchain, Build::Plain, EVERY_ALLOCATION);
            workload.go(30);
            let further = ["--top", "0", "--raw", "--force-link", kind];
            let outlive = Outlive::attach(&[workload.pid()], &further);
            assert_eq!(workload.go(20), 50);
            let report = outlive.stop().with_status(0).report();
            report.assert_no_loss();
            let site = site_at(&report, "mapcache/main.go", "payload", 2048);
            site.assert_live(50, 50 * 2048);
            assert_eq!(sampled_number(&site, "inherited_count"), 30, "{report}");
            workload.exit();
        }
    });
}

#[test]
fn live_objects_are_the_runtimes_own_at_any_stop() {
    with_each(|toolchain| {
        for name in ["mapcache", "lru", "goleak", "sessions"] {
            let mut workload = start(name, toolchain, Build::Plain, MANY);
            workload.go(1000);
            let outlive = Outlive::attach(&[workload.pid()], &["--top", "0", "--raw"]);
            for _ in 0..5 {
                workload.go(700);
                workload.collect();
            }
            let stopped = Stopped::new(workload.pid());
            let followed = outlive.stop().with_status(0).report();
            let read = snapshot(workload.pid()).with_status(0).report();
            followed.assert_no_loss();
            let (followed_sites, read_sites) =
                (objects_by_stack(&followed), objects_by_stack(&read));
            assert!(read_sites.values().sum::<u64>() > 100, "{read}");
            assert_eq!(
                followed_sites, read_sites,
                "{name} of {}: followed (left), read (right)",
                toolchain.version
            );
            drop(stopped);
            workload.exit();
        }
    });
}

#[test]
fn profiler_that_is_off_is_turned_on_when_asked_for_and_off_again() {
    with_each(|toolchain| {
        let program = build("mapcache", toolchain, Build::Plain, Profiler::Off);
        let mut workload = GoWorkload::start(&program);
        workload.go(100);
        let pid = workload.pid().to_string();
        let further = ["--enable-go-profiling=1", "--top", "0", "--raw"];
        let outlive = Outlive::attach(&[workload.pid()], &further);
        assert_eq!(workload.go(1000), 1100);
        let report = outlive.stop().with_status(0).report();
        report.assert_no_loss();
        assert!(report.notices().iter().any(|n| n.contains("turned the runtime's profiler on")));
        let site = site_at(&report, "mapcache/main.go", "payload", 2048);
        // The first sample of each processor is forced by the change, and does not count.
        let live = site.number("live_count");
        let processors = std::thread::available_parallelism().expect("processors").get() as u64;
        assert!((1000 - processors..=1000).contains(&live), "{live} of 1000; {report}");
        // It is off again: nothing more is sampled.
        let sampled = |pid: &str| {
            let arguments = ["snapshot", pid, "-f", "json", "-n", "0"];
            let report = finished(&mut command(arguments)).with_status(0).report();
            assert!(report.notices().iter().any(|n| n.contains("MemProfileRate is 0")), "{report}");
            report.number("/totals/now_count")
        };
        let before = sampled(&pid);
        assert_eq!(workload.go(500), 1600);
        assert!(before > 0 && sampled(&pid) <= before, "it goes on sampling");
        workload.exit();
    });
}

/// Has `outlive run` start a program, awaits that its sampler is on, speaks with it, and gives the report on its whole life.
fn run_and_go(program: &Path, further: &[&str], rate: &[(&str, &str)], steps: u64) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let mut command = command(["run", "-f", "json", "--top", "0", "--raw", "-o"]);
    command.arg(&file).args(further).arg("--").arg(program).envs(rate.iter().copied());
    let mut outlive = Outlive::start(&mut command);
    outlive.talk.hear_word("ready");
    outlive.await_error_line(|line| line.starts_with("outlive: tracing "), "outlive: tracing");
    let told = outlive.talk.errors().text();
    let pid = told.split_whitespace().nth(2).and_then(|word| word.parse().ok());
    let pid: u32 = pid.expect("a PID");
    let is_on = || {
        let report = snapshot(pid).with_status(0).report();
        let is_off = report.notices().iter().any(|notice| notice.contains("MemProfileRate is 0"));
        (!is_off && report.text("/sampling/mode") == "go-runtime").then_some(())
    };
    assert!(await_condition(PATIENCE, is_on).is_some(), "its sampler stays off");
    outlive.talk.say(&format!("go {steps}"));
    outlive.talk.hear();
    outlive.talk.say("collect");
    outlive.talk.hear();
    outlive.talk.say("exit");
    outlive.finish().assert_status(0);
    let text = fs::read_to_string(&file).expect("a report");
    Report::new(serde_json::from_str(&text).expect("JSON"), text)
}

#[test]
fn a_program_that_outlive_starts_is_followed_from_its_first_sample() {
    with_each(|toolchain| {
        for how in [Build::Plain, Build::PieStripped, Build::ExternalPieStripped] {
            let program = build("mapcache", toolchain, how, Profiler::Served);
            let report = run_and_go(&program, &[], EVERY_ALLOCATION, 400);
            report.assert_no_loss();
            // The program has set the rate itself, in its own code.
            assert_eq!(report.text("/sampling/mode"), "go-runtime", "{report}");
            assert_eq!(report.number("/sampling/mean_bytes"), 0, "{report}");
            let site = site_at(&report, "mapcache/main.go", "payload", 2048);
            site.assert_live(400, 400 * 2048);
            assert_eq!(site.number("allocated_count"), 400, "{report}");
            assert_eq!(sampled_number(&site, "inherited_count"), 0, "{report}");
            let notices = report.notices();
            let is_doubt = |n: &&&str| n.contains("MemProfileRate") || n.contains("do not trust");
            assert_eq!(notices.iter().find(is_doubt), None, "{notices:?}");
        }
    });
}

/// Go 1.19's is off before its first instruction, later ones turn it off themselves.
#[test]
fn a_program_that_outlive_starts_has_its_profiler_turned_on_when_asked() {
    with_each(|toolchain| {
        let program = build("mapcache", toolchain, Build::Plain, Profiler::Off);
        let report = run_and_go(&program, &["--enable-go-profiling=1"], &[], 400);
        report.assert_no_loss();
        let site = site_at(&report, "mapcache/main.go", "payload", 2048);
        let live = site.number("live_count");
        let processors = std::thread::available_parallelism().expect("processors").get() as u64;
        assert!((400 - processors..=400).contains(&live), "{live} of 400; {report}");
        assert!(report.notices().iter().any(|n| n.contains("turned the runtime's profiler on")));
    });
}

#[test]
fn a_rate_that_the_program_chose_is_never_changed() {
    with_each(|toolchain| {
        let workload = start("mapcache", toolchain, Build::Plain, MANY);
        let further = ["--enable-go-profiling=1", "--top", "0"];
        let outlive = Outlive::attach(&[workload.pid()], &further);
        let report = outlive.stop().with_status(0).report();
        assert_eq!(report.number("/sampling/mean_bytes"), 4096, "{report}");
        workload.exit();
    });
}

#[test]
fn c_and_go_heaps_of_one_process_are_in_one_report() {
    with_each(|toolchain| {
        let mut workload = start("cgo", toolchain, Build::Cgo, EVERY_ALLOCATION);
        workload.go(100);
        workload.collect();
        let outlive = Outlive::attach(&[workload.pid()], &["--sample", "1", "--top", "0", "--raw"]);
        assert_eq!(workload.go(50), 300);
        workload.collect();
        let report = outlive.stop().with_status(0).report();
        report.assert_no_loss();
        // The list of them grows on the same line, into slots that may have their size.
        let line = line_of("go/cgo/main.go", "go_block");
        let is_block = |site: &Site<'_>| {
            let is_there =
                site.frame(0)["line"] == line && site.frame(0)["function"] == "main.step";
            is_there && site.number("live_count") > 1
        };
        let go: Vec<_> = report.sites().into_iter().filter(is_block).collect();
        assert_eq!(go.len(), 1, "Go's blocks; {report}");
        go[0].assert_live(150, 150 * 4096);
        assert_eq!(sampled_number(&go[0], "inherited_count"), 100, "{report}");
        let c = report.sites().into_iter().filter(|site| site.json.get("go").is_none());
        let blocks: Vec<_> = c.filter(|site| site.number("live_bytes") == 50 * 2048).collect();
        assert_eq!(blocks.len(), 1, "C's blocks since tracing started; {report}");
        blocks[0].assert_live(50, 50 * 2048);
        workload.exit();
    });
}
