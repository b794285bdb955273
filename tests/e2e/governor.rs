//! Tracing costs no more than is allowed: it samples less, and rather than exceed the limit it takes its probes off.
//!
//! The workload spins between its calls, so that the share of tracing in its processor time is far from the limit on either
//! side, on a slow machine too: probes and spinning slow down alike.

use std::fs;
use std::os::unix::fs::FileExt as _;

use outlive_tests::compiler::{Build, build};
use outlive_tests::counts::Counts;
use outlive_tests::outlive::{Outlive, command};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::report::Report;
use outlive_tests::workload::Workload;

const HELD: (u64, u64) = (1000, 100_000);

/// How many bytes of the C library's code in a process are not those of its file: probes, where there are any.
fn changed_bytes(pid: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process runs");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("tests run as root");
    let code = maps.lines().filter(|line| line.contains("r-xp") && line.contains("libc.so"));
    let mut changed = 0;
    let mut compared = 0;
    for line in code {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let (start, end) = fields[0].split_once('-').expect("a range");
        let (start, length) = (number(start), (number(end) - number(start)) as usize);
        let (mut there, mut here) = (vec![0; length], vec![0; length]);
        memory.read_exact_at(&mut there, start).expect("code can be read");
        let file = fs::File::open(fields[5]).expect("the library is there");
        let read = file.read_at(&mut here, number(fields[2])).expect("the library can be read");
        changed += there[..read].iter().zip(&here[..read]).filter(|(a, b)| a != b).count();
        compared += read;
    }
    assert!(compared > 100_000, "the C library is mapped: {maps}");
    changed
}

fn storm(arguments: [&str; 3]) -> Workload {
    Workload::start(&build("c/storm.c", Build::Debug), &arguments)
}

fn halt(workload: &mut Workload) -> Counts {
    workload.talk.say("halt");
    Counts::parse(&workload.talk.hear())
}

fn notice<'r>(report: &'r Report, words: &str) -> &'r str {
    let notices = report.notices();
    let found = notices.into_iter().find(|notice| notice.contains(words));
    assert!(found.is_some(), "no notice says {words:?}; {report}");
    found.unwrap_or_default()
}

/// The interval of the live bytes, made so many times as wide.
fn holds(report: &Report, own: Counts, times: f64) -> bool {
    let end = |index: u32| report.number(&format!("/totals/live_bytes_ci95/{index}")) as f64;
    let (estimate, truth) = (report.totals().live_bytes as f64, own.live_bytes as f64);
    (estimate - times * (estimate - end(0))..=estimate + times * (end(1) - estimate))
        .contains(&truth)
}

#[test]
fn the_mean_is_raised_and_estimates_stay_right() {
    // Nearly every block is sampled at first, and its stack is deep: recording costs some 20 µs, the probes alone 2.
    const MEAN_BYTES: u64 = 64;
    let mut workloads: Vec<Workload> = (0..4).map(|_| storm(["200", "150", "0"])).collect();
    let pids: Vec<u32> = workloads.iter().map(Workload::pid).collect();
    let further = ["--sample", "64", "--max-overhead", "5%", "--interval", "100ms"];
    let outlive = Outlive::attach(&pids, &further);
    for workload in &mut workloads {
        workload.go();
        workload.talk.say("storm");
    }
    for pid in &pids {
        let start = format!("outlive: {pid} ");
        outlive.await_error_line(
            |line| line.starts_with(&start) && line.contains("the sampling mean is"),
            &start,
        );
    }
    // As much again with the new mean: blocks of either mean are live at the end.
    let reports = outlive.talk.output().text().lines().count();
    let more = || (outlive.talk.output().text().lines().count() > reports + 60).then_some(());
    await_condition(PATIENCE, more).expect("reports go on");
    let own: Vec<Counts> = workloads.iter_mut().map(halt).collect();
    let finished = outlive.stop().with_status(0);
    let mut held = 0;
    for (own, pid) in own.iter().zip(&pids) {
        let report = finished.report_on(*pid);
        let mean = report.number("/sampling/mean_bytes");
        assert!(mean > MEAN_BYTES && mean.is_power_of_two(), "{report}");
        assert_eq!(report.number("/sampling/mean_bytes_at_start"), MEAN_BYTES, "{report}");
        assert!(notice(&report, "the sampling mean is").contains("5.0 % are allowed"), "{report}");
        report.assert_no_loss();
        // Four standard errors: once in ten thousand runs by chance.
        assert!(holds(&report, *own, 2.0), "{own:?} is far out of the interval; {report}");
        held += u32::from(holds(&report, *own, 1.0));
        assert!(report.value("/cost/estimated_slowdown").as_f64().is_some_and(|it| it > 0.0));
    }
    // Each is out by chance once in 20.
    assert!(held >= 2, "95 % intervals held in {held} of 4; {finished}");
    workloads.into_iter().for_each(Workload::exit);
}

#[test]
fn at_the_floor_all_probes_are_taken_off_and_the_target_goes_on() {
    for further in [&[][..], &["--exact", "--max-overhead", "5%"]] {
        let mut workload = storm(["2", "0", "0"]);
        let pid = workload.pid();
        let outlive = Outlive::attach_by(&[pid], further, |command| {
            command.env_remove("OUTLIVE_MAX_OVERHEAD");
        });
        assert!(changed_bytes(pid) > 0, "there are probes");
        let held = workload.go();
        assert_eq!((held.live_count, held.live_bytes), HELD);
        workload.talk.say("storm");
        // It ends by itself: there is nothing to trace any more.
        let finished = outlive.finish().with_status(0);
        assert_eq!(changed_bytes(pid), 0, "no probe is left; {finished}");
        assert!(workload.is_running(), "the target goes on");
        let report = finished.report();
        let notice = notice(&report, "its probes were taken off");
        assert!(notice.contains("are allowed (--max-overhead)"), "why; {report}");
        assert_eq!(notice.contains("sampling costs less"), !further.is_empty(), "remedy; {report}");
        let said = finished.stderr.lines().any(|line| line.contains("its probes were taken off"));
        assert!(said, "it is said at once, too; {finished}");
        report.assert_no_loss();
        if !further.is_empty() {
            report.site_in("hold").assert_live(HELD.0, HELD.1);
        }
        let totals = report.totals();
        let own = halt(&mut workload);
        assert!(own.allocated_count > totals.allocated_count, "it went on; {report}");
        workload.exit();
    }
}

#[test]
fn frees_that_cost_too_much_are_not_seen_any_more_and_the_report_says_since_when() {
    // Of 100 µs about 1.7 for an allocation, and 20 or more for frees.
    let mut workload = storm(["2", "100", "30"]);
    let pid = workload.pid();
    let further = ["--exact", "--max-overhead", "10%", "--interval", "200ms"];
    let outlive = Outlive::attach(&[pid], &further);
    let all_probes = changed_bytes(pid);
    workload.go();
    workload.talk.say("storm");
    outlive.await_error_line(|line| line.contains("frees are not seen any more"), "frees");
    let reports = outlive.talk.output().text().lines().count();
    let more = || (outlive.talk.output().text().lines().count() > reports + 3).then_some(());
    await_condition(PATIENCE, more).expect("reports go on");
    let probes = changed_bytes(pid);
    assert!(0 < probes && probes < all_probes, "{probes} of {all_probes} bytes are still changed");
    let own = halt(&mut workload);
    let finished = outlive.stop().with_status(0);
    let reports = finished.reports();
    let [.., before, last] = &reports[..] else { panic!("too few reports; {finished}") };

    let seen_s = last.value("/window/frees_seen_s").as_f64().expect("since when");
    let seconds = last.value("/window/seconds").as_f64().expect("the window");
    assert!(0.0 < seen_s && seen_s < seconds, "{last}");
    notice(last, "frees are not seen any more");
    assert_eq!(reports[0].value("/window/frees_seen_s"), &serde_json::Value::Null, "{last}");
    assert_eq!(last.totals().allocated_count, own.allocated_count, "allocations are; {last}");
    assert_eq!(last.totals().allocated_bytes, own.allocated_bytes, "{last}");
    last.assert_no_loss();

    // Nothing becomes live any more, since nobody could tell when it is not.
    let (then, now) = (before.totals(), last.totals());
    assert_eq!((then.live_bytes, then.freed_count), (now.live_bytes, now.freed_count), "{last}");
    assert_eq!(before.number("/cost/release_hits"), last.number("/cost/release_hits"), "{last}");
    assert!(now.live_bytes < own.live_bytes, "{last}");
    last.site_in("hold").assert_live(HELD.0, HELD.1);
    for site in last.sites() {
        assert_eq!(site.json["verdict"], "unknown", "{last}");
        let reason = site.json["verdict_reason"].as_str().unwrap_or_default();
        assert!(reason.contains("frees were not seen"), "{reason}; {last}");
    }
    workload.exit();
}

#[test]
fn what_costs_less_than_allowed_is_left_alone() {
    let mut workload = storm(["2", "500", "0"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact", "--max-overhead", "20%"]);
    workload.go();
    workload.talk.say("storm");
    let busy = || {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", workload.pid())).ok()?;
        let used_ns: u64 = text.split_whitespace().next()?.parse().ok()?;
        (used_ns > 1_500_000_000).then_some(())
    };
    await_condition(PATIENCE, busy).expect("it works for more than a second");
    let own = halt(&mut workload);
    let report = outlive.stop().with_status(0).report();
    report.assert_exact(own);
    assert!(report.notices().iter().all(|notice| !notice.contains("--max-overhead")), "{report}");
    let hits = report.number("/cost/hits");
    assert_eq!(hits, own.allocated_count + own.freed_count, "{report}");
    assert!(report.number("/cost/tracer_rss_bytes") > 1 << 20, "{report}");
    let slowdown = report.value("/cost/estimated_slowdown").as_f64();
    assert!(slowdown.is_some_and(|slowdown| slowdown > 0.0), "{report}");
    workload.exit();
}

#[test]
fn the_text_report_ends_with_what_tracing_cost() {
    let mut workload = storm(["2", "500", "0"]);
    let pid = workload.pid().to_string();
    let outlive = Outlive::start(&mut command(["attach", "--format", "text", &pid]));
    outlive.await_tracing(workload.pid());
    workload.go();
    let finished = outlive.stop().with_status(0);
    let cost = finished.stdout.lines().find(|line| line.starts_with("cost "));
    let cost = cost.unwrap_or_else(|| panic!("no line tells the cost; {finished}"));
    for words in ["1,000 probes ran", " slower", "outlive: "] {
        assert!(cost.contains(words), "{words:?}; {finished}");
    }
    workload.exit();
}
