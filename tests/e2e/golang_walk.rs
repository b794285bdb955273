//! Go programs whose runtime keeps no profile: their heap is walked, without a probe, and what it says is what they hold.

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use outlive_tests::golang::build::{Build, Profiler, build};
use outlive_tests::golang::claims::snapshot;
use outlive_tests::golang::toolchains::{Toolchain, with_each};
use outlive_tests::golang::workload::GoWorkload;
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::report::{Report, Site};

/// The slot of a block that `mapcache` allocates in passing.
const SCRATCH_BYTES: u64 = 18_432;
const ALL: &[&str] = &["--top", "0"];

fn start(name: &str, toolchain: &Toolchain, how: Build) -> GoWorkload {
    GoWorkload::start(&build(name, toolchain, how, Profiler::Off))
}

/// Most of the objects without addresses in slots of this size: held by what has this name, or by whatever it is.
fn held<'r>(report: &'r Report, slot_bytes: u64, holder: Option<&str>) -> Site<'r> {
    let is_it = |site: &Site<'_>| {
        let held = &site.json["held"];
        let is_held = holder.is_none_or(|name| site.json["retained_by"] == name);
        is_held && held["slot_bytes"] == slot_bytes && held["has_pointers"] == false
    };
    let sites = report.sites().into_iter().filter(is_it);
    let most = sites.max_by_key(|site| site.number("live_count"));
    assert!(most.is_some(), "no {slot_bytes} bytes held by {holder:?}; {report}");
    most.expect("it is there")
}

/// What is true of every walk.
fn assert_walk(report: &Report) {
    assert_eq!(report.text("/sampling/mode"), "heap-walk", "{report}");
    assert_eq!(report.text("/target/kind"), "go", "{report}");
    assert_eq!(report.number("/cost/hits"), 0, "{report}");
    let notices = report.notices();
    for part in ["MemProfileRate is 0", "--enable-go-profiling", "no call sites", "at most that"] {
        assert!(notices.iter().any(|notice| notice.contains(part)), "{part}; {report}");
    }
    let sites = report.sites();
    for (total, name) in
        [("/totals/live_bytes", "live_bytes"), ("/totals/live_count", "live_count")]
    {
        let sum: u64 = sites.iter().map(|site| site.number(name)).sum();
        assert_eq!(sum, report.number(total), "{report}");
    }
    for site in sites {
        assert_eq!(site.json["kind"], "holding", "{report}");
        assert_eq!(site.json["frames"], serde_json::json!([]), "{report}");
        let is_typed = site.json["type"].is_string();
        assert_eq!(is_typed, site.json["held"]["has_pointers"].is_null(), "{report}");
    }
}

#[test]
fn what_a_cache_holds_and_how_it_grows_is_told_exactly() {
    with_each(|toolchain| {
        for (how, holder) in [(Build::Plain, Some("main.cache")), (Build::PieStripped, None)] {
            let mut workload = start("mapcache", toolchain, how);
            assert_eq!(workload.go(300), 300);
            workload.collect();
            let outlive = Outlive::attach(&[workload.pid()], ALL);
            assert_eq!(workload.go(200), 500);
            workload.collect();
            let report = outlive.stop().with_status(0).report();
            report.assert_no_loss();
            assert_walk(&report);
            assert!(
                report.value("/window/seconds").as_f64().is_some_and(|it| it > 0.0),
                "{report}"
            );
            let payloads = held(&report, 2048, holder);
            payloads.assert_live(500, 500 * 2048);
            assert_eq!(payloads.json["held"]["holder"], "variable", "{report}");
            assert_eq!(payloads.json["held"]["growth_count"], 200, "{report}");
            assert_eq!(payloads.json["held"]["growth_bytes"], 200 * 2048, "{report}");
            assert!(payloads.json["growth_bytes_per_s"].as_f64().is_some_and(|it| it > 0.0));
            let is_named = report.notices().iter().all(|notice| !notice.contains("no symbols"));
            assert_eq!(is_named, holder.is_some(), "{report}");
            // Nothing was written into it.
            let again = snapshot(workload.pid()).with_status(0).report();
            assert_walk(&again);
            held(&again, 2048, holder).assert_live(500, 500 * 2048);
            workload.exit();
        }
    });
}

#[test]
fn garbage_is_told_apart_from_what_is_held() {
    with_each(|toolchain| {
        let mut workload = start("mapcache", toolchain, Build::Plain);
        workload.go(300);
        workload.collect();
        // Four more blocks in passing; the last one is kept.
        workload.go(1);
        let report = snapshot(workload.pid()).with_status(0).report();
        assert_walk(&report);
        held(&report, 2048, Some("main.cache")).assert_live(301, 301 * 2048);
        held(&report, SCRATCH_BYTES, Some("main.last")).assert_live(1, SCRATCH_BYTES);
        let garbage = report.number("/totals/now_bytes") - report.number("/totals/live_bytes");
        assert!(garbage >= 3 * SCRATCH_BYTES, "{garbage} bytes of garbage; {report}");
        workload.exit();
    });
}

#[test]
fn types_are_named_where_the_runtime_keeps_them() {
    with_each(|toolchain| {
        let mut workload = start("mapcache", toolchain, Build::Stripped);
        workload.go(300);
        workload.collect();
        let report = snapshot(workload.pid()).with_status(0).report();
        let of_cache = |site: &Site<'_>| {
            let name = site.json["type"].as_str().unwrap_or_default();
            name.contains("[string]*main.result") && site.json["held"]["holder"] == "variable"
        };
        let is_typed = report.sites().iter().any(of_cache);
        assert_eq!(is_typed, toolchain.minor() >= 22, "{report}");
        let told = |notice: &&str| notice.contains("objects is not known");
        assert!(report.notices().iter().any(told), "{report}");
        workload.exit();
    });
}

#[test]
fn a_literal_belongs_to_the_variable_that_leads_to_it() {
    with_each(|toolchain| {
        let mut workload = start("sessions", toolchain, Build::Plain);
        let sessions = workload.go(400);
        workload.collect();
        let report = snapshot(workload.pid()).with_status(0).report();
        assert_walk(&report);
        let history = held(&report, 512, Some("main.memory"));
        assert!(history.number("live_count") >= sessions && sessions > 0, "{report}");
        workload.exit();
    });
}

#[test]
fn goroutines_hold_what_only_their_stacks_lead_to() {
    with_each(|toolchain| {
        let mut workload = start("goleak", toolchain, Build::Plain);
        workload.go(100);
        workload.collect();
        let outlive = Outlive::attach(&[workload.pid()], ALL);
        workload.go(100);
        workload.collect();
        let report = outlive.stop().with_status(0).report();
        assert_walk(&report);
        let count = |is_holder: &dyn Fn(&str, &str) -> bool| {
            let is_it = |site: &&Site<'_>| {
                let held = &site.json["held"];
                let word = held["holder"].as_str().unwrap_or_default();
                let name = site.json["retained_by"].as_str().unwrap_or_default();
                held["slot_bytes"] == 4096 && is_holder(word, name)
            };
            report.sites().iter().filter(is_it).map(|site| site.number("live_count")).sum::<u64>()
        };
        // Nine of ten are never cancelled. A stale word on another stack makes one or two of them belong to several, or keeps one more.
        let of_watchers = count(&|word, name| {
            word == "goroutines" && name.contains("started in main.serve (main.go:")
        });
        let of_all = count(&|word, _| word.contains("goroutines"));
        assert!((176..=182).contains(&of_watchers), "{of_watchers} buffers; {report}");
        assert!((180..=184).contains(&of_all), "{of_all} buffers; {report}");
        workload.exit();
    });
}

#[test]
fn what_is_bounded_does_not_grow() {
    with_each(|toolchain| {
        let mut workload = start("lru", toolchain, Build::Plain);
        assert_eq!(workload.go(3000), 2000);
        workload.collect();
        let outlive = Outlive::attach(&[workload.pid()], ALL);
        assert_eq!(workload.go(3000), 2000);
        workload.collect();
        let report = outlive.stop().with_status(0).report();
        let values: Vec<_> = report
            .sites()
            .into_iter()
            .filter(|site| site.json["held"]["slot_bytes"] == 4096 && site.number("live_count") > 2)
            .collect();
        assert_eq!(values.len(), 1, "{report}");
        let growth = values[0].json["held"]["growth_count"].as_i64().expect("a number");
        assert!(growth.abs() <= 2, "{growth}; {report}");
        workload.exit();
    });
}

#[test]
fn a_program_that_ends_is_told_of_by_what_it_held_before() {
    with_each(|toolchain| {
        let mut workload = start("mapcache", toolchain, Build::Plain);
        workload.go(300);
        workload.collect();
        let outlive = Outlive::attach(&[workload.pid()], ALL);
        workload.exit();
        let report = outlive.finish().with_status(0).report();
        assert_walk(&report);
        let told = |notice: &&str| notice.contains("ended before its heap could be walked again");
        assert!(report.notices().iter().any(told), "{report}");
        let payloads = held(&report, 2048, Some("main.cache"));
        payloads.assert_live(300, 300 * 2048);
        assert!(payloads.json["held"]["growth_bytes"].is_null(), "{report}");
    });
}

#[test]
fn people_and_other_formats_get_holders_in_the_place_of_calls() {
    with_each(|toolchain| {
        let mut workload = start("mapcache", toolchain, Build::Plain);
        workload.go(300);
        workload.collect();
        let pid = workload.pid().to_string();
        let text = finished(&mut command(["snapshot", &pid])).with_status(0).stdout;
        for part in ["HELD BY", "(2.0 KiB, no pointers)", "main.cache", "no probes"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let folded = finished(&mut command(["snapshot", &pid, "-f", "folded", "-n", "0"]));
        let folded = folded.with_status(0).stdout;
        let line = format!("held by main.cache;(2.0 KiB, no pointers) {}", 300 * 2048);
        assert!(folded.lines().any(|it| it.ends_with(&line)), "{line}: {folded}");
        workload.exit();
    });
}

/// It has much to read, and nobody takes what it would write: the signal finds it at work.
#[test]
fn a_snapshot_is_left_at_once() {
    with_each(|toolchain| {
        let mut workload = start("mapcache", toolchain, Build::Plain);
        assert_eq!(workload.go(1000), 1000);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fifo");
        mkfifo(&file, Mode::S_IRWXU).expect("a fifo");
        let mut command = command(["snapshot", "--force", "-o"]);
        let outlive = Outlive::start(command.arg(&file).arg(workload.pid().to_string()));
        outlive.await_hearing();
        outlive.signal(Signal::SIGINT);
        let finished = outlive.finish().with_status(130);
        assert!(finished.stderr.contains("there is nothing to report"), "{finished}");
        assert_eq!(workload.go(10), 1010, "it goes on");
        workload.exit();
    });
}
