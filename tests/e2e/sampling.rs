//! Sampling is unbiased, and its intervals hold what they promise.
//!
//! Each run of the workload allocates about 16 MB and keeps 8.2 MB in 4000 blocks. At a mean of 16 KiB the estimate
//! of the live bytes has a standard error of `sqrt(8.2e6 * 16384)` = 370 KB, 4.5 %. Over 1000 runs that is 0.14 % for
//! the mean error, so that a bound of 1 % is never passed by chance; and the interval that promises 95 % holds in
//! less than 93 % of them by chance once in 600 attempts. (Over 200 runs that would be once in 13.)

use outlive_tests::compiler::{Build, build};
use outlive_tests::counts::Counts;
use outlive_tests::outlive::{Outlive, command};
use outlive_tests::report::Report;
use outlive_tests::workload::{Conversation, Workload};

const MEAN_BYTES: u64 = 16 * 1024;
const BATCHES: u64 = 50;
const BATCH: u64 = 20;

/// One run: the truth, and what the report made of it.
struct Run {
    own: Counts,
    totals: Counts,
    interval: [u64; 2],
}

impl Run {
    fn new(own: Counts, report: &Report) -> Self {
        assert_eq!(report.text("/sampling/mode"), "poisson", "{report}");
        assert_eq!(report.number("/sampling/mean_bytes"), MEAN_BYTES, "{report}");
        report.assert_no_loss();
        let interval = [0, 1].map(|end| report.number(&format!("/totals/live_bytes_ci95/{end}")));
        let totals = report.totals();
        assert!(interval[0] < totals.live_bytes && totals.live_bytes < interval[1], "{report}");
        Self { own, totals, interval }
    }

    fn holds(&self) -> bool {
        (self.interval[0]..=self.interval[1]).contains(&self.own.live_bytes)
    }
}

/// Relative error of the mean over all runs, of one number.
fn mean_error(runs: &[Run], number: impl Fn(&Counts) -> u64) -> f64 {
    let sum = |of: &dyn Fn(&Run) -> u64| runs.iter().map(of).sum::<u64>() as f64;
    sum(&|run| number(&run.totals)) / sum(&|run| number(&run.own)) - 1.0
}

/// Traces a batch of seeded workloads by one tracer; each has a report of its own.
fn batch(first_seed: u64) -> Vec<Run> {
    let program = build("c/sampled.c", Build::Debug);
    let mut workloads: Vec<Workload> = (first_seed..first_seed + BATCH)
        .map(|seed| Workload::start(&program, &[&seed.to_string()]))
        .collect();
    let pids: Vec<u32> = workloads.iter().map(Workload::pid).collect();
    let outlive = Outlive::attach(&pids, &["--sample", "16KiB"]);
    let counts: Vec<Counts> = workloads.iter_mut().map(Workload::go).collect();
    let finished = outlive.stop().with_status(0);
    workloads.into_iter().for_each(Workload::exit);
    counts.iter().zip(pids).map(|(own, pid)| Run::new(*own, &finished.report_on(pid))).collect()
}

#[test]
fn estimates_are_unbiased_and_intervals_hold() {
    let runs: Vec<Run> = (0..BATCHES).flat_map(|number| batch(1 + number * BATCH)).collect();
    let held = runs.iter().filter(|run| run.holds()).count();
    let errors = [
        ("live bytes", mean_error(&runs, |counts| counts.live_bytes)),
        ("live blocks", mean_error(&runs, |counts| counts.live_count)),
        ("allocated bytes", mean_error(&runs, |counts| counts.allocated_bytes)),
        ("allocated blocks", mean_error(&runs, |counts| counts.allocated_count)),
        ("freed bytes", mean_error(&runs, |counts| counts.freed_bytes)),
        ("freed blocks", mean_error(&runs, |counts| counts.freed_count)),
    ];
    println!("the interval held in {held} of {} runs; mean errors: {errors:?}", runs.len());
    for (what, error) in errors {
        assert!(error.abs() < 0.01, "mean error of {what}: {error:+.4}");
    }
    assert!(
        held * 100 >= runs.len() * 93,
        "the interval held in {held} of {} runs only",
        runs.len()
    );
    let width: u64 = runs.iter().map(|run| run.interval[1] - run.interval[0]).sum();
    let relative = width as f64 / runs.iter().map(|run| run.own.live_bytes).sum::<u64>() as f64;
    assert!(
        (0.14..0.22).contains(&relative),
        "intervals of {relative:.3} of the value are not honest"
    );
}

#[test]
fn a_command_is_sampled_when_asked_and_exact_when_not() {
    let program = build("c/sampled.c", Build::Debug);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for sample in [Some("16KiB"), None] {
        let file = folder.path().join(sample.unwrap_or("exact"));
        let mut command = command(["run", "--format", "json", "--output"]);
        command.arg(&file);
        if let Some(size) = sample {
            command.args(["--sample", size]);
        }
        command.arg("--").arg(&program).arg("7");
        let mut outlive = Outlive::start(&mut command);
        let talk: &mut Conversation = &mut outlive.talk;
        talk.hear_word("ready");
        let own = talk.go();
        talk.say("exit");
        let finished = outlive.finish().with_status(0);
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}; {finished}"));
        let report = finished.reports_in(&text).pop().expect("a report");
        if sample.is_some() {
            let run = Run::new(own, &report);
            // Seven standard errors.
            let error = run.totals.live_bytes as f64 / own.live_bytes as f64 - 1.0;
            assert!(error.abs() < 0.32, "{error}; {report}");
        } else {
            report.assert_exact(own);
        }
    }
}

#[test]
fn blocks_far_larger_than_the_mean_are_all_sampled() {
    let mut workload =
        Workload::start(&build("c/burst.c", Build::Debug), &["300", "100000", "100"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--sample", "1KiB"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    assert_eq!(report.totals(), own, "{report}");
    report.assert_no_loss();
}
