//! A process that samples its allocations itself is heard: what its static probe points tell is what the report says.

use std::path::PathBuf;

use outlive_tests::compiler::{Build, build_with, line_of, target_folder};
use outlive_tests::counts::number;
use outlive_tests::outlive::{Outlive, command, finished};
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

#[test]
fn doctor_names_the_sampler() {
    let workload = start("ddheap", Build::Debug);
    let found = finished(&mut command(["doctor", &workload.pid().to_string()])).with_status(0);
    assert!(found.stdout.contains("USDT points ddheap"), "{found}");
}
