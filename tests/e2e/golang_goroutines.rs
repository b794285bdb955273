//! `outlive goroutines` of programs whose goroutines are counted: what has changed between two looks, and which can never run again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outlive_tests::compiler::line_of;
use outlive_tests::golang::build::{Build, Profiler, build};
use outlive_tests::golang::toolchains::{Toolchain, chosen, with_each};
use outlive_tests::golang::workload::GoWorkload;
use outlive_tests::outlive::{Finished, Outlive, command, finished};
use outlive_tests::patience::{PATIENCE, await_condition};
use serde_json::Value;

fn start(name: &str, toolchain: &Toolchain) -> GoWorkload {
    GoWorkload::start(&build(name, toolchain, Build::Plain, Profiler::Served))
}

/// Waits until the program's own traceback has so many goroutines that these lines of the workload started, all of them waiting.
fn settle(workload: &GoWorkload, source: &str, expected: &BTreeMap<u64, u64>) {
    let own = || {
        let mut counts = BTreeMap::new();
        for goroutine in workload.goroutines() {
            let Some(creator) = goroutine.creator else { continue };
            if creator.file.ends_with(source) && expected.contains_key(&creator.line) {
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
    serde_json::from_str(&finished.with_status(0).stdout).expect("JSON")
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
    let number = group.pointer(pointer).and_then(Value::as_u64);
    assert!(number.is_some(), "no {pointer} in {group}");
    number.unwrap_or_default()
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

const STUCK: &str = "stuck/main.go";
/// Sites of `stuck` whose goroutines can never run again.
const NEVER: [&str; 8] =
    ["sender", "receiver", "selecting", "nil_channel", "no_cases", "outer", "inner", "buffered"];
/// Sites whose goroutines are woken when something happens that still can.
const SOME_DAY: [&str; 9] = [
    "of_global",
    "of_timer",
    "with_timeout",
    "sleeper",
    "of_sleeper",
    "locker",
    "of_locker",
    "of_finalizer",
    "of_context",
];

/// By line, so many for each site that is there, and for the sites of those that never wake.
fn stuck_lines(steps: u64) -> (BTreeMap<u64, u64>, BTreeMap<u64, u64>) {
    let line = |site: &&str| line_of(&format!("go/{STUCK}"), site);
    let never: BTreeMap<_, _> = NEVER.iter().map(|site| (line(site), steps)).collect();
    let mut all = never.clone();
    all.extend(SOME_DAY.iter().map(|site| (line(site), steps)));
    all.insert(line(&"chained"), 3 * steps);
    (all, never)
}

fn never_wake(pid: u32, further: &[&str]) -> Value {
    let pid = pid.to_string();
    let arguments = ["goroutines", &pid, "--never-wake", "-f", "json", "-n", "0"];
    document(finished(command(arguments).args(further)))
}

/// The same of a program that comes to rest.
fn never_wake_at_rest(pid: u32) -> Value {
    let look = || {
        let report = never_wake(pid, &[]);
        (report["never_wake"]["evidence"] == "at-rest").then_some(report)
    };
    await_condition(PATIENCE, look).expect("the program comes to rest")
}

/// Insists that of `stuck` those are told that never wake, and no other. An address that is left over on a stack may keep some of them from
/// being told, more of them where a thread that is held runs the runtime's own code, but none that wakes is ever told.
fn assert_never(report: &Value, steps: u64) {
    let (all, never) = stuck_lines(steps);
    let told = by_line(report, STUCK, |group| field(group, "/never_wake"));
    for line in all.keys() {
        let (told, most) = (told.get(line), never.get(line).copied().unwrap_or(0));
        assert!(told.is_some_and(|told| *told <= most), "line {line}: {told:?}; {report}");
    }
    for site in ["nil_channel", "no_cases"] {
        assert_eq!(told.get(&line_of(&format!("go/{STUCK}"), site)), Some(&steps), "{report}");
    }
    let (told, most) = (field(report, "/totals/never_wake"), NEVER.len() as u64 * steps);
    assert!((most / 2..=most).contains(&told), "{told} of {most}; {report}");
}

/// Starts `stuck`, has it make so many steps, and waits until all have come to where they wait. Its own traceback is not asked for: serving it
/// leaves addresses on stacks that other goroutines are given, and what they lead to seems to live.
fn start_stuck(
    toolchain: &Toolchain,
    (how, profiler): (Build, Profiler),
    busy: &[(&str, &str)],
    steps: u64,
) -> GoWorkload {
    let variables = [busy, &[("GOGC", "off")]].concat();
    let program = build("stuck", toolchain, how, profiler);
    let mut workload = GoWorkload::start_with(&program, &variables);
    assert_eq!(workload.go(steps), NEVER.len() as u64 * steps);
    let (all, _) = stuck_lines(steps);
    let pid = workload.pid().to_string();
    let waiting = || {
        let arguments = ["goroutines", &pid, "-f", "json", "-n", "0"];
        let mut told = by_line(&document(finished(&mut command(arguments))), STUCK, waiting);
        told.retain(|line, _| all.contains_key(line));
        told
    };
    let settled = await_condition(PATIENCE, || (waiting() == all).then_some(()));
    assert!(settled.is_some(), "{:?}, and {all:?} are expected", waiting());
    workload
}

/// How many of a group wait for something.
fn waiting(group: &Value) -> u64 {
    let states = group["states"].as_object().expect("states").iter();
    let waiting = states.filter(|(state, _)| !["running", "runnable"].contains(&state.as_str()));
    waiting.map(|(_, count)| count.as_u64().expect("a count")).sum()
}

#[test]
fn goroutines_that_can_never_run_again_are_told_from_those_that_can() {
    with_each(|toolchain| {
        for how in [
            (Build::Plain, Profiler::Off),
            (Build::PieStripped, Profiler::Off),
            (Build::Plain, Profiler::Served),
        ] {
            let workload = start_stuck(toolchain, how, &[], 40);
            let report = never_wake_at_rest(workload.pid());
            assert_never(&report, 40);
            assert!(field(&report, "/totals/never_wake") >= 40 * NEVER.len() as u64 * 9 / 10);
            if how.1 == Profiler::Served && toolchain.minor() >= 27 {
                let by_itself = workload.leaked_in(STUCK);
                assert_eq!(by_itself, NEVER.len() as u64 * 40, "what its own collector finds");
            }
            workload.exit();
        }
    });
}

#[test]
fn a_program_that_runs_is_held_for_a_proof_and_goes_on() {
    with_each(|toolchain| {
        let how = (Build::Plain, Profiler::Off);
        let mut workload = start_stuck(toolchain, how, &[("WORKLOAD_BUSY", "1")], 20);
        let report = never_wake(workload.pid(), &["--hold", "10s"]);
        assert_eq!(report["never_wake"]["evidence"], "held", "{report}");
        assert!(report["never_wake"]["held_s"].as_f64().is_some_and(|s| s > 0.0), "{report}");
        assert_never(&report, 20);
        // It goes on as before; when it is not held, it is told that nothing is proven. Who waits is noted by the second collection.
        assert_eq!(workload.go(1), NEVER.len() as u64 * 21);
        workload.collect();
        workload.collect();
        let report = never_wake(workload.pid(), &[]);
        assert_eq!(report["never_wake"]["evidence"], "readings", "{report}");
        let told = by_line(&report, STUCK, |group| field(group, "/never_wake"));
        let (all, never) = stuck_lines(21);
        for line in all.keys() {
            let most = never.get(line).copied().unwrap_or(0);
            assert!(told.get(line).is_none_or(|count| *count <= most), "line {line}: {report}");
        }
        assert!(field(&report, "/totals/never_wake") > 0, "{report}");
        workload.exit();
    });
}

/// Who holds a process by ptrace; 0 for nobody.
fn holder(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    line.expect("the kernel tells").trim().parse().expect("a number")
}

#[test]
fn whatever_ends_outlive_while_it_holds_a_program_lets_it_go_on() {
    let toolchain = chosen().pop().expect("a release of Go");
    let how = (Build::Plain, Profiler::Off);
    let mut workload = start_stuck(&toolchain, how, &[("WORKLOAD_BUSY", "1")], 400);
    let pid = workload.pid();
    let arguments = ["goroutines", &pid.to_string(), "--never-wake", "--hold", "10s"];
    for (number, signal) in (1..).zip([Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL]) {
        // It is held for milliseconds, which may be over before it is seen.
        let ended_by = || {
            let mut outlive = command(arguments);
            let outlive = outlive.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut outlive = outlive.expect("outlive starts");
            while holder(pid) == 0 {
                if let Some(status) = outlive.try_wait().expect("it is awaited") {
                    assert!(status.success(), "{status}");
                    return None;
                }
            }
            kill(Pid::from_raw(outlive.id().cast_signed()), signal).expect("it is there");
            let status = outlive.wait().expect("it ends");
            (!status.success()).then_some(status)
        };
        let status = await_condition(PATIENCE, ended_by).expect("it was held when it was ended");
        let told = status.code().or_else(|| status.signal().map(|number| 128 + number));
        assert_eq!(told, Some(128 + signal as i32), "{status}");
        assert!(await_condition(PATIENCE, || (holder(pid) == 0).then_some(())).is_some());
        assert_eq!(workload.go(1), NEVER.len() as u64 * (400 + number), "it goes on");
    }
    workload.exit();
}

#[test]
fn goroutines_that_are_all_woken_are_never_accused() {
    with_each(|toolchain| {
        let mut workload = start("relay", toolchain);
        for further in [&["--hold", "10s"][..], &[]] {
            let looks = Cell::new(0);
            workload.go_meanwhile(1, |pid| {
                let report = never_wake(pid, further);
                assert_eq!(field(&report, "/totals/never_wake"), 0, "{report}");
                looks.set(looks.get() + 1);
            });
            assert!(looks.get() > 2, "{} looks are too few", looks.get());
        }
        workload.exit();
    });
}
