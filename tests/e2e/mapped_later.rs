//! Code that a process maps while it is traced: libraries that are loaded and unloaded, and allocators that come with one.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use outlive_tests::compiler::{Build, build, build_with};
use outlive_tests::outlive::Outlive;
use outlive_tests::patience::PATIENCE;
use outlive_tests::report::{Report, Site};
use outlive_tests::workload::Workload;

/// The only site all of whose blocks have this size.
fn site_of(report: &Report, size_bytes: u64) -> Site<'_> {
    let sites = report.sites();
    let mut own = sites.iter().filter(|site| {
        let count = site.number("allocated_count");
        count > 0 && site.number("allocated_bytes") == count * size_bytes
    });
    let (Some(site), None) = (own.next(), own.next()) else {
        panic!("not one site of blocks of {size_bytes} bytes; {report}");
    };
    *site
}

fn functions<'r>(site: &Site<'r>) -> Vec<&'r str> {
    let frames = site.json["frames"].as_array().expect("frames");
    frames.iter().filter_map(|frame| frame["function"].as_str()).collect()
}

#[test]
fn the_first_stacks_through_a_library_loaded_a_moment_ago_are_complete_and_stay_so_when_it_has_gone()
 {
    let plugins = ["2001", "2002"].map(|bytes| {
        let definition = format!("-DPLUGIN_BYTES={bytes}");
        build_with("c/plugin.c", Build::LibraryNoFramePointers, &[&definition])
    });
    let program = build_with("c/plugins.c", Build::NoFramePointers, &["-ldl"]);
    for round in 0..10 {
        let paths = plugins.each_ref().map(|path| path.to_str().expect("a plain path"));
        let mut workload = Workload::start(&program, &paths);
        let options = ["--exact", "--top", "0", "--interval", "100ms"];
        let outlive = Outlive::attach(&[workload.pid()], &options);
        for size_bytes in [2001, 2002] {
            workload.talk.say("go");
            workload.talk.hear_word("ready");
            // Ten blocks in one site: seen, and the library is still there.
            let seen = format!("\"allocated_bytes\":{},\"allocated_count\":10,", 10 * size_bytes);
            let found = outlive.talk.output().await_match(PATIENCE, |text| text.find(&seen));
            assert!(found.is_ok(), "round {round}: no site with {seen}");
            workload.talk.say("go");
            if size_bytes == 2001 {
                workload.talk.hear_word("ready");
            }
        }
        workload.talk.hear();
        let report = outlive.stop().with_status(0).reports().pop().expect("a last report");
        workload.exit();
        for (size_bytes, plugin) in [2001, 2002].into_iter().zip(&paths) {
            let site = site_of(&report, size_bytes);
            assert_eq!(site.number("live_count"), 10, "round {round}; {report}");
            assert_eq!(site.json["stack_end"], "root", "round {round}; {report}");
            let own = [
                "plugin_leaf",
                "plugin_below",
                "plugin_below",
                "plugin_below",
                "plugin_allocate",
                "main",
            ];
            let found = functions(&site);
            assert_eq!(found[..6], own, "round {round}; {report}");
            assert_eq!(found.last(), Some(&"_start"), "round {round}; {report}");
            assert_eq!(site.json["frames"][0]["module"], **plugin, "round {round}; {report}");
        }
    }
}

#[test]
fn an_allocator_that_is_loaded_later_is_traced() {
    let library = build("c/own_allocator.c", Build::Library);
    let program = build_with("c/late.c", Build::NoFramePointers, &["-ldl"]);
    let mut workload = Workload::start(&program, &[library.to_str().expect("a plain path")]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact", "--top", "0"]);
    workload.talk.say("go");
    workload.talk.hear_word("ready");
    let loaded = format!("outlive: {} has loaded ", workload.pid());
    outlive.await_error_line(|line| line.starts_with(&loaded), &loaded);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    let site = site_of(&report, 3001);
    assert_eq!(site.number("allocated_count"), own.allocated_count, "{report}");
    assert_eq!(site.number("freed_count"), own.freed_count, "{report}");
    assert_eq!(site.number("live_bytes"), own.live_bytes, "{report}");
    assert_eq!(functions(&site)[0], "main", "{report}");
    let notices = report.value("/loss/notices").to_string();
    assert!(notices.contains("loaded after tracing had started"), "{report}");
}

#[test]
fn processes_with_the_same_stack_each_have_their_site() {
    let program = build("cpp/frames.cpp", Build::NoFramePointers);
    let mut workloads = [0, 1].map(|_| Workload::start(&program, &[]));
    let pids = workloads.each_ref().map(Workload::pid);
    let outlive = Outlive::attach(&pids, &["--exact", "--top", "0"]);
    for workload in &mut workloads {
        workload.go();
    }
    let reports = outlive.stop().with_status(0).reports();
    for workload in workloads {
        workload.exit();
    }
    assert_eq!(reports.len(), 2);
    for report in &reports {
        let site = site_of(report, 1003);
        assert_eq!(site.number("live_count"), 1, "{report}");
        assert_eq!(functions(&site)[..2], ["below_alloca(unsigned long)", "main"], "{report}");
    }
}
