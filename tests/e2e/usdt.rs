//! A process that samples its allocations itself is heard: what its static probe points tell is what the report says.

use std::path::PathBuf;

use outlive_tests::compiler::{Build, build_with, line_of, target_folder};
use outlive_tests::counts::number;
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::report::Report;
use outlive_tests::workload::Workload;

const SOURCE: &str = "c/usdt.c";

/// Builds the workload with points of this provider.
fn program(provider: &str, how: Build) -> PathBuf {
    let headers = target_folder().join("tools/usdt/root/usr/include");
    assert!(headers.exists(), "sys/sdt.h is not fetched: run `cargo xtask test usdt`");
    let include = |folder: &str| format!("-I{}", headers.join(folder).display());
    let provider = format!("-DPROVIDER={provider}");
    let further = [include(""), include("x86_64-linux-gnu"), provider];
    let further: Vec<&str> = further.iter().map(String::as_str).collect();
    build_with(SOURCE, how, &further)
}

fn start(provider: &str, how: Build) -> Workload {
    Workload::start(&program(provider, how), &[])
}

/// The semaphores of alloc and free, as the program sees them.
fn semaphores(workload: &mut Workload) -> [u64; 2] {
    workload.talk.say("look");
    let line = workload.talk.hear();
    ["alloc", "free"].map(|point| number(&line, point))
}

/// Traces the workload, and insists that the report has what it told, and the semaphores what they have to.
fn heard(provider: &str, how: Build, options: &[&str]) -> Report {
    let mut workload = start(provider, how);
    assert_eq!(semaphores(&mut workload), [0, 0], "nobody listens yet");
    let outlive = Outlive::attach(&[workload.pid()], options);
    let raised = semaphores(&mut workload);
    assert!(raised.iter().all(|count| *count > 0), "{raised:?}");
    let own = workload.go();
    let finished = outlive.stop().with_status(0);
    assert_eq!(semaphores(&mut workload), [0, 0], "nobody listens any more");
    workload.exit();
    let words = format!("by its own sampler, {provider} (USDT)");
    assert!(finished.stderr.contains(&words), "{finished}");
    let report = finished.report();
    assert!(own.allocated_count > 0 && own.freed_count > 0 && own.live_count > 0, "{own:?}");
    assert_eq!(report.totals(), own, "report's totals (left), what was told (right); {report}");
    assert_eq!(report.text("/sampling/mode"), "usdt", "{report}");
    assert_eq!(report.text("/target/allocators/0"), format!("{provider} (USDT)"), "{report}");
    report.assert_no_loss();
    report
}

#[test]
fn what_a_sampler_tells_is_what_the_report_says() {
    for how in [Build::Debug, Build::NoFramePointers] {
        let report = heard("otel_memory", how, &[]);
        let notices = report.notices();
        assert!(notices.iter().any(|notice| notice.contains("otel_memory")), "{notices:?}");
        let site = report.sites().into_iter().find(|site| site.frame(1)["function"] == "churn");
        let site = site.unwrap_or_else(|| panic!("no site in churn; {report}"));
        site.assert_frame(0, "sampled_malloc", SOURCE, line_of(SOURCE, "told"));
        site.assert_frame(1, "churn", SOURCE, line_of(SOURCE, "churn"));
        assert_eq!(site.json["stack_end"], "root", "{report}");
        let [low, high] = [0, 1].map(|end| site.json["live_bytes_ci95"][end].as_u64().unwrap());
        let live = site.number("live_bytes");
        assert!(low < live && live < high, "an estimate has an interval; {report}");
    }
}

#[test]
fn datadogs_points_are_heard_too() {
    heard("ddheap", Build::Debug, &[]);
}

#[test]
fn every_kind_of_link_hears_and_raises_the_semaphores() {
    for kind in ["session", "multi", "single"] {
        heard("otel_memory", Build::NoFramePointers, &["--force-link", kind]);
    }
}

#[test]
fn whoever_asks_for_every_allocation_gets_them_from_the_allocator() {
    let mut workload = start("otel_memory", Build::Debug);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    assert_eq!(semaphores(&mut workload), [0, 0], "its sampler stays off");
    let told = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    assert_eq!(told.allocated_count, 0);
    // As many as the workload's rounds, and one more.
    assert_eq!(report.totals().allocated_count, 4000 + 1, "{report}");
    assert_eq!(report.text("/sampling/mode"), "exact", "{report}");
}

#[test]
fn a_program_that_is_started_is_heard_from_its_first_word() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let mut command = command(["run", "--format", "json", "--output"]);
    command.arg(&file).arg("--").arg(program("otel_memory", Build::Debug));
    let mut outlive = Outlive::start(&mut command);
    outlive.talk.hear_word("ready");
    let own = outlive.talk.go();
    outlive.talk.say("exit");
    let finished = outlive.finish().with_status(0);
    let report = finished.reports_in(&std::fs::read_to_string(file).unwrap()).remove(0);
    assert!(own.allocated_count > 0);
    assert_eq!(report.totals(), own, "{report}");
    assert_eq!(report.text("/sampling/mode"), "usdt", "{report}");
}

/// How much it tells is the sampler's own choice: nothing can be made less of it.
#[test]
fn a_sampler_that_costs_more_than_allowed_is_not_heard_any_more() {
    let mut workload = start("otel_memory", Build::Debug);
    let outlive = Outlive::attach(&[workload.pid()], &["--max-overhead", "1%"]);
    let taken_off = "its probes were taken off";
    let told = await_condition(PATIENCE, || {
        let told = workload.go();
        let is_over = outlive.talk.errors().text().contains(taken_off);
        is_over.then_some(told)
    });
    let told = told.expect("it tells more than 1 % of its time");
    let finished = outlive.finish().with_status(0);
    assert_eq!(semaphores(&mut workload), [0, 0], "nobody listens any more");
    workload.exit();
    let report = finished.report();
    let (totals, hits) = (report.totals(), report.number("/cost/hits"));
    assert!(0 < totals.allocated_count && totals.allocated_count <= told.allocated_count);
    assert!(0 < hits && hits < totals.allocated_count, "a sample is told once; {report}");
    assert!(report.value("/cost/estimated_slowdown").as_f64().is_some_and(|it| it > 0.01));
    let notices = report.notices();
    let is_said = |notice: &&str| notice.contains(taken_off) && notice.contains("tells of itself");
    assert!(notices.iter().any(is_said), "{report}");
    report.assert_no_loss();
}

#[test]
fn doctor_names_the_sampler() {
    let workload = start("ddheap", Build::Debug);
    let found = finished(&mut command(["doctor", &workload.pid().to_string()])).with_status(0);
    assert!(found.stdout.contains("USDT points ddheap"), "{found}");
}
