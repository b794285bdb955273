//! Tracers that come, go, and are killed at any moment, beside a Go program under full load that checks its own results.
//!
//! `OUTLIVE_TESTS_TORTURE` says how often for each release; a few times are enough to see that nothing is badly wrong.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use outlive_tests::code;
use outlive_tests::golang::build::{Build, Profiler, build};
use outlive_tests::golang::toolchains::{Toolchain, with_each};
use outlive_tests::golang::workload::{GoWorkload, RATE};
use outlive_tests::outlive::{Outlive, command};

const CYCLES: &str = "OUTLIVE_TESTS_TORTURE";
const FEW_CYCLES: u32 = 12;
/// What the program does before it is asked for its count again.
const STEPS: u64 = 4000;
/// The same where it is slowed many times.
const STEPS_SLOWED: u64 = 400;
/// More tracers than this while it does that: it hangs.
const MAX_CYCLES_A_GO: u32 = 400;
/// Within this time a tracer starts, reads the heap, sets its probes, and follows.
const LIFE: Duration = Duration::from_millis(400);

#[test]
fn program_survives_tracers_that_come_go_and_are_killed() {
    let cycles = std::env::var(CYCLES).ok().map(|text| text.parse().expect("a number"));
    with_each(|toolchain| torture(toolchain, cycles.unwrap_or(FEW_CYCLES), STEPS, &[]));
}

#[test]
fn program_survives_tracers_that_record_all_of_its_heap() {
    let cycles = std::env::var(CYCLES).ok().map(|text| text.parse().expect("a number"));
    let cycles = cycles.unwrap_or(FEW_CYCLES);
    let all = ["--exact", "--duration", "10m"];
    with_each(|toolchain| torture(toolchain, cycles, STEPS_SLOWED, &all));
}

fn torture(toolchain: &Toolchain, cycles: u32, steps_a_go: u64, further: &[&str]) {
    let program = build("torture", toolchain, Build::Plain, Profiler::Served);
    // The runtime samples so many that its hooks are hit all the time.
    let mut workload = GoWorkload::start_with(&program, &[(RATE, "4096")]);
    let (orderly, killed) = (Cell::new(0), Cell::new(0));
    let done = || orderly.get() + killed.get();
    let mut steps = 0;
    while done() < cycles {
        let begun = done();
        let right = workload.go_meanwhile(steps_a_go, |pid| {
            assert!(done() - begun < MAX_CYCLES_A_GO, "{} hangs", toolchain.version);
            if done().is_multiple_of(2) {
                come_and_go(pid, further);
                orderly.set(orderly.get() + 1);
            } else {
                come_and_be_killed(pid, further);
                killed.set(killed.get() + 1);
            }
        });
        steps += steps_a_go;
        assert_eq!(right, steps, "steps that came out right, of {}", toolchain.version);
    }
    code::assert_unchanged(workload.pid());
    let (orderly, killed) = (orderly.get(), killed.get());
    println!(
        "{}: {orderly} tracers came and went, {killed} were killed; {steps} steps, all right",
        toolchain.version
    );
    workload.exit();
}

fn come_and_go(pid: u32, further: &[&str]) {
    let further = [&["--top", "0"], further].concat();
    let report = Outlive::attach(&[pid], &further).stop().with_status(0).report();
    assert_eq!(report.number("/loss/unknown_frees"), 0, "{report}");
    assert_eq!(report.number("/loss/implied_frees"), 0, "{report}");
}

fn come_and_be_killed(pid: u32, further: &[&str]) {
    let mut tracer = command(["attach", &pid.to_string(), "--max-overhead", "none"]);
    tracer.args(further);
    tracer.stdout(Stdio::null()).stderr(Stdio::null());
    let mut tracer = tracer.spawn().expect("outlive starts");
    // Any moment of its life will do, so that there is nothing to wait for.
    let moment = RandomState::new().hash_one(pid) as u32;
    thread::sleep(LIFE.mul_f64(f64::from(moment) / f64::from(u32::MAX)));
    tracer.kill().expect("it runs until it is killed");
    tracer.wait().expect("it ends");
}
