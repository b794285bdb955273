//! Every kind of link gives the same numbers, and leaves no trace behind.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use outlive_tests::compiler::{Build, build, line_of};
use outlive_tests::kernel;
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::workload::Workload;

/// A kind that the kernel has is exact; any other is refused with the kind to take instead.
fn is_exact_or_refused(kind: &str) {
    if kernel::links().contains(&kind) {
        every_workload_is_exact_by(kind);
    } else {
        is_refused(kind);
    }
}

fn is_refused(kind: &str) {
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let pid = workload.pid().to_string();
    let [what, _, remedy] = finished(&mut command(["attach", "--force-link", kind, &pid])).error(3);
    assert!(what.contains(kind), "{what}");
    assert!(remedy.contains(kernel::best_link()), "{remedy}");
    assert!(workload.is_running(), "the target is left alone");
}

fn every_workload_is_exact_by(kind: &str) {
    let cases: [(&str, Build, &[&str]); 6] = [
        ("c/leak.c", Build::Debug, &["malloc", "8"]),
        ("c/leak.c", Build::Static, &["posix_memalign", "1"]),
        ("c/accounting.c", Build::Debug, &["nested"]),
        ("c/accounting.c", Build::Debug, &["failing_realloc"]),
        ("c/threads.c", Build::Debug, &["handover"]),
        ("cpp/news.cpp", Build::Debug, &["bad_alloc"]),
    ];
    for (source, variant, arguments) in cases {
        let mut workload = Workload::start(&build(source, variant), arguments);
        let outlive = Outlive::attach(&[workload.pid()], &["--exact", "--force-link", kind]);
        let own = workload.go();
        let report = outlive.stop().with_status(0).report();
        workload.exit();
        report.assert_exact(own);
        let named = report.notices().iter().any(|notice| notice.contains(kind));
        assert_eq!(
            named,
            kind != "session",
            "a notice names the link that is not the best there is; {report}"
        );
    }
}

#[test]
fn session_links_are_exact() {
    is_exact_or_refused("session");
}

#[test]
fn multi_links_are_exact() {
    is_exact_or_refused("multi");
}

#[test]
fn single_links_are_exact() {
    is_exact_or_refused("single");
}

/// Without being asked, the best kind is taken, and `doctor` tells which there are.
#[test]
fn the_best_link_is_chosen() {
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    let notices = report.notices().join("\n");
    let best = kernel::best_link();
    assert_eq!(notices.contains(" links"), best != "session", "{report}");
    assert!(best == "session" || notices.contains(&format!("{best} links")), "{report}");

    let doctor = finished(&mut command(["doctor"])).with_status(0).stdout;
    for (kinds, level) in [(kernel::links(), "ok"), (kernel::missing_links(), "warning")] {
        for kind in kinds.iter().filter(|kind| **kind != "single") {
            let line = doctor.lines().find(|line| line.contains(&format!("  {kind} links")));
            assert!(line.is_some_and(|line| line.starts_with(level)), "{kind}: {doctor}");
        }
    }
}

#[test]
fn sampling_works_by_every_kind_of_link() {
    for kind in kernel::links() {
        let mut workload =
            Workload::start(&build("c/burst.c", Build::Debug), &["300", "100000", "100"]);
        let outlive =
            Outlive::attach(&[workload.pid()], &["--sample", "1KiB", "--force-link", kind]);
        let own = workload.go();
        let report = outlive.stop().with_status(0).report();
        workload.exit();
        assert_eq!(report.text("/sampling/mode"), "poisson", "{report}");
        assert_eq!(report.totals(), own, "blocks far above the mean are exact; {report}");
    }
}

/// The target is traced twice in a row; between and after it goes on as if nothing had been.
#[test]
fn detaching_leaves_the_target_running_and_right() {
    for kind in kernel::links() {
        let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
        let first = Outlive::attach(&[workload.pid()], &["--exact", "--force-link", kind]);
        let own = workload.go();
        first.stop().with_status(0).report().assert_exact(own);
        assert!(workload.is_running(), "{kind}: the target goes on");

        let second = Outlive::attach(&[workload.pid()], &["--exact", "--force-link", kind]);
        workload.talk.say("later");
        workload.talk.hear();
        let report = second.stop().with_status(0).report();
        let site = report.site_in("hold_late");
        site.assert_live(2, 600_000);
        site.assert_frame(0, "hold_late", "sites.c", line_of("c/sites.c", "late"));
        assert_eq!(report.totals().live_count, 2, "only what was allocated since; {report}");
        assert!(workload.is_running(), "{kind}: the target goes on");
        workload.exit();
    }
}

#[test]
fn detaching_is_quick_and_a_killed_tracer_leaves_the_target_right() {
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let killed = Outlive::attach(&[workload.pid()], &["--exact"]);
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.finish().status.code(), None, "killed");
    assert!(workload.is_running(), "the target survives the tracer");

    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let start = Instant::now();
    let finished = outlive.stop().with_status(0);
    // The aim is 0.2 s for the detach alone; here the last report and a busy machine are in it too.
    let taken = start.elapsed();
    finished.report().assert_exact(own);
    assert!(taken < Duration::from_secs(2), "{taken:?} to detach and report");
    workload.talk.say("later");
    workload.talk.hear();
    workload.exit();
}
