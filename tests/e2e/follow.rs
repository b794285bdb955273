//! Several processes: named on the command line, or forked by the target.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use outlive_tests::compiler::{Build, build, line_of};
use outlive_tests::counts::Counts;
use outlive_tests::outlive::{Outlive, command_with_tracefs};
use outlive_tests::workload::Workload;

/// The child's process, from its line.
fn child_pid(line: &str) -> u32 {
    let number = line.strip_prefix("child ").and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{line:?} is not the child's line"))
}

#[test]
fn a_forked_child_is_a_target_of_its_own() {
    let mut workload = Workload::start(&build("c/family.c", Build::Debug), &[]);
    let pid = workload.pid().to_string();
    let outlive = Outlive::start(&mut command_with_tracefs([
        "attach",
        "--exact",
        "--format",
        "json",
        "--follow-fork",
        &pid,
    ]));
    outlive.await_tracing(workload.pid());
    workload.talk.say("go");
    let child = child_pid(&workload.talk.hear());
    outlive.await_tracing(child);
    let child_own = {
        workload.talk.say("child go");
        Counts::parse(&workload.talk.hear())
    };
    workload.talk.say("child exit");
    let parent_own = Counts::parse(&workload.talk.hear());
    let parent = workload.pid();
    let finished = outlive.stop().with_status(0);
    workload.exit();

    let report = finished.report_on(parent);
    report.assert_exact(parent_own);
    let sites = report.sites();
    let live: u64 = sites.iter().map(|site| site.number("live_count")).sum();
    assert_eq!((live, parent_own.live_count), (60, 60), "{report}");
    sites[0].assert_frame(0, "parent_keeps", "family.c", line_of("c/family.c", "parent"));

    let report = finished.report_on(child);
    report.assert_exact(child_own);
    let site = report.site_in("child_keeps");
    site.assert_live(20, 14_000);
    site.assert_frame(0, "child_keeps", "family.c", line_of("c/family.c", "child"));
}

#[test]
fn a_forked_child_is_left_alone_unless_asked_for() {
    let mut workload = Workload::start(&build("c/family.c", Build::Debug), &[]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    workload.talk.say("go");
    child_pid(&workload.talk.hear());
    workload.talk.say("child go");
    workload.talk.hear();
    workload.talk.say("child exit");
    let own = Counts::parse(&workload.talk.hear());
    let finished = outlive.stop().with_status(0);
    let pid = u64::from(workload.pid());
    workload.exit();
    assert!(
        finished.reports().iter().all(|report| report.number("/target/pid") == pid),
        "{finished}"
    );
    finished.report().assert_exact(own);
}

#[test]
fn several_processes_have_a_report_each() {
    let mut leaking = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "8"]);
    let mut bursting = Workload::start(&build("c/burst.c", Build::Static), &["1000", "50", "300"]);
    let mut sorting = Workload::start(&build("c/leak.c", Build::Debug), &["calloc", "1"]);
    let pids = [leaking.pid(), bursting.pid(), sorting.pid()];
    let outlive = Outlive::attach(&pids, &["--exact"]);
    let own = [leaking.go(), bursting.go(), sorting.go()];
    let finished = outlive.stop().with_status(0);
    for workload in [leaking, bursting, sorting] {
        workload.exit();
    }
    for (pid, own) in pids.into_iter().zip(own) {
        finished.report_on(pid).assert_exact(own);
    }
    for line in finished.stdout.lines().filter(|line| !line.is_empty()) {
        let document = serde_json::from_str::<serde_json::Value>(line);
        assert!(document.is_ok(), "several documents are a line each; {finished}");
    }
}

#[test]
fn one_process_that_ends_does_not_end_the_others() {
    let mut short = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let mut long = Workload::start(&build("c/leak.c", Build::Debug), &["calloc", "1"]);
    let (short_pid, long_pid) = (short.pid(), long.pid());
    let outlive = Outlive::attach(&[short_pid, long_pid], &["--exact"]);
    let short_own = short.go();
    short.exit();
    let long_own = long.go();
    let finished = outlive.stop().with_status(0);
    long.exit();
    finished.report_on(short_pid).assert_exact(short_own);
    finished.report_on(long_pid).assert_exact(long_own);
}

#[test]
fn tracing_ends_with_a_report_when_the_target_ends() {
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    workload.exit();
    outlive.finish().with_status(0).report().assert_exact(own);
}
