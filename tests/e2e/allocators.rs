//! Every allocator is traced exactly, whoever wrote it and however it came into the process.

use std::process::Command;

use outlive_tests::allocators::{Musl, build_with_musl, library};
use outlive_tests::compiler::{Build, build};
use outlive_tests::counts::Counts;
use outlive_tests::crates::build_crate;
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::report::Report;
use outlive_tests::workload::Workload;

/// Scenarios whose outcome the C standard fixes, or nearly so: the last one expects of realloc the error that POSIX does.
const SCENARIOS: [&str; 8] = [
    "nested",
    "realloc_of_null",
    "realloc_moves_and_stays",
    "failing_calls",
    "free_of_null",
    "zero_sizes",
    "plain",
    FAILING_REALLOC,
];
const FAILING_REALLOC: &str = "failing_realloc";

/// Traces a scenario of `c/accounting.c` and asserts that every number is the program's own.
fn exact(start: impl Fn(&str) -> Command, allocator: &str) {
    // jemalloc 5.3's realloc leaves errno as it was when it fails.
    let follows_posix = allocator != "jemalloc";
    for scenario in SCENARIOS.into_iter().filter(|name| follows_posix || *name != FAILING_REALLOC) {
        let mut workload = Workload::start_command(&mut start(scenario));
        let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
        let own = workload.go();
        let report = outlive.stop().with_status(0).report();
        workload.exit();
        report.assert_exact(own);
        let names = report.value("/target/allocators").to_string();
        assert!(names.contains(allocator), "{scenario}: {names}; {report}");
    }
}

/// The same with a library in the C library's place.
fn preloaded(name: &str, allocator: &str) {
    let program = build("c/accounting.c", Build::Debug);
    let start = |scenario: &str| {
        let mut command = Command::new(&program);
        command.arg(scenario).env("LD_PRELOAD", library(name));
        command
    };
    exact(start, allocator);
}

#[test]
fn jemalloc_is_exact() {
    preloaded(JEMALLOC, "jemalloc");
}

#[test]
fn tcmalloc_is_exact() {
    preloaded(TCMALLOC, "tcmalloc");
}

#[test]
fn mimalloc_is_exact() {
    preloaded(MIMALLOC, "mimalloc");
}

#[test]
fn musl_is_exact() {
    for musl in [Musl::Dynamic, Musl::Static] {
        let folder = tempfile::tempdir().unwrap();
        let program = build_with_musl("c/accounting.c", musl, folder.path());
        let start = |scenario: &str| {
            let mut command = Command::new(&program);
            command.arg(scenario);
            command
        };
        // Linked into the program it has nothing that tells its name.
        exact(start, if musl == Musl::Dynamic { "musl" } else { "malloc of workload" });
    }
}

#[test]
fn glibc_linked_into_the_program_is_exact() {
    let program = build("c/accounting.c", Build::Static);
    let start = |scenario: &str| {
        let mut command = Command::new(&program);
        command.arg(scenario);
        command
    };
    exact(start, "glibc");
}

/// `c/pool.c` with further options for outlive.
fn pool(options: &[&str]) -> (Workload, Outlive) {
    let workload = Workload::start(&build("c/pool.c", Build::Debug), &[]);
    let outlive = Outlive::attach(&[workload.pid()], &[&["--exact"], options].concat());
    (workload, outlive)
}

#[test]
fn functions_that_the_user_names_are_traced() {
    let (mut workload, outlive) = pool(&[
        "--allocator",
        "malloc=pool_get,free=pool_put",
        "--allocator",
        "realloc=pool_change",
    ]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
}

#[test]
fn without_a_name_they_are_not() {
    let (mut workload, outlive) = pool(&[]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    assert!(own.allocated_count > 0);
    assert_eq!(report.totals().allocated_count, 0, "{report}");
}

#[test]
fn a_name_that_is_nowhere_is_refused_with_those_like_it() {
    let workload = Workload::start(&build("c/pool.c", Build::Debug), &[]);
    let pid = workload.pid().to_string();
    let refused = finished(&mut command(["attach", "--allocator", "malloc=pool_gett", &pid]));
    let refused = refused.with_status(4);
    assert!(refused.stderr.contains("cannot hook pool_gett"), "{refused}");
    assert!(refused.stderr.contains("pool_get"), "{refused}");
    let wrong = finished(&mut command(["attach", "--allocator", "alloc=pool_get", &pid]));
    wrong.assert_status(2);
}

/// Traces a scenario of `cpp/news.cpp`, with this library in libstdc++'s place; its own counts, and the report.
fn news(scenario: &str, library_name: Option<&str>, options: &[&str]) -> (Counts, Report) {
    let mut command = Command::new(build("cpp/news.cpp", Build::Debug));
    command.arg(scenario);
    if let Some(name) = library_name {
        command.env("LD_PRELOAD", library(name));
    }
    let mut workload = Workload::start_command(&mut command);
    let outlive = Outlive::attach(&[workload.pid()], options);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    (own, report)
}

const JEMALLOC: &str = "libjemalloc.so.2";
const TCMALLOC: &str = "libtcmalloc_minimal.so.4";
const MIMALLOC: &str = "libmimalloc.so.2.0";

#[test]
fn every_operator_new_and_delete_is_exact() {
    for library in [None, Some(JEMALLOC), Some(TCMALLOC), Some(MIMALLOC)] {
        let (own, report) = news("every_operator", library, &["--exact"]);
        report.assert_exact(own);
        assert!(own.freed_count > 100);
        let cost = |name: &str| report.number(&format!("/cost/{name}"));
        assert!(cost("allocate_hits") >= own.allocated_count, "{report}");
        assert!(cost("release_hits") >= own.freed_count, "{report}");
        // Those of the first two may throw, and are seen to leave.
        let exits = cost("hits") - cost("allocate_hits") - cost("release_hits");
        assert!(exits > 100 || !matches!(library, Some(JEMALLOC | TCMALLOC)), "{report}");
        let notices = report.notices();
        assert!(!notices.iter().any(|notice| notice.contains("not seen")), "{notices:?}");
    }
}

#[test]
fn operators_are_exact_by_every_kind_of_link() {
    for kind in ["multi", "single"] {
        for library in [JEMALLOC, TCMALLOC, MIMALLOC] {
            let options = ["--exact", "--force-link", kind];
            let (own, report) = news("every_operator", Some(library), &options);
            report.assert_exact(own);
        }
    }
}

/// With so small a mean every block is a sample that stands for itself: the estimate is the number.
#[test]
fn operators_are_sampled_once_each() {
    for library in [JEMALLOC, TCMALLOC, MIMALLOC] {
        let (own, report) = news("every_operator", Some(library), &["--sample", "1B"]);
        assert_eq!(report.totals(), own, "{report}");
        assert_eq!(report.text("/sampling/mode"), "poisson", "{report}");
        report.assert_no_loss();
    }
}

/// The program catches its exceptions, and what was not given is not counted. Debian's mimalloc is built as C: it ends the
/// program instead of throwing, and knows no new-handler.
#[test]
fn an_operator_new_that_throws_still_throws_and_gives_nothing() {
    for library in [None, Some(JEMALLOC), Some(TCMALLOC)] {
        for options in [&["--exact"][..], &["--sample", "1B"]] {
            let (own, report) = news("throwing", library, options);
            assert_eq!(report.totals(), own, "{library:?} {options:?} {report}");
            report.assert_no_loss();
        }
    }
}

#[test]
fn what_a_new_handler_allocates_counts_and_the_call_that_waits_for_it_too() {
    for library in [None, Some(JEMALLOC), Some(TCMALLOC)] {
        let (own, report) = news("new_handler", library, &["--exact"]);
        report.assert_exact(own);
    }
}

/// Traces a program until it has done its work; its own counts, and the report.
fn exact_report(command: &mut Command) -> Report {
    let mut workload = Workload::start_command(command);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    report
}

#[test]
fn jemallocs_own_interface_is_exact() {
    let mut command = Command::new(build("c/mallocx.c", Build::Debug));
    exact_report(command.env("LD_PRELOAD", library(JEMALLOC)));
}

/// `c/heaps.c` with mimalloc.
fn heaps(scenario: &str) -> Command {
    let mut command = Command::new(build("c/heaps.c", Build::Debug));
    command.arg(scenario).env("LD_PRELOAD", library(MIMALLOC));
    command
}

#[test]
fn mimallocs_own_interface_is_exact() {
    for scenario in ["heaps", "others"] {
        let report = exact_report(&mut heaps(scenario));
        report.assert_no_loss();
    }
}

#[test]
fn a_heap_that_is_destroyed_whole_is_told() {
    let mut workload = Workload::start_command(&mut heaps("destroyed"));
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    assert_eq!(report.totals(), own, "{report}");
    // The heap itself, which was there before.
    assert_eq!(report.number("/loss/unknown_frees"), 1, "{report}");
    let notices = report.notices();
    assert!(notices.iter().any(|notice| notice.starts_with("1 heaps were destroyed")), "{report}");
}

#[test]
fn rusts_system_allocator_is_exact() {
    let report = exact_report(&mut Command::new(build_crate("allocators", None)));
    assert!(report.text("/target/allocators/0").contains("glibc"), "{report}");
}

/// jemalloc is linked into the program under names of its own; the C library's allocator is called beside it.
#[test]
fn two_allocators_in_one_process_are_exact() {
    let report = exact_report(&mut Command::new(build_crate("allocators", Some("jemalloc"))));
    let names = report.value("/target/allocators").to_string();
    assert!(names.contains("glibc") && names.contains("jemalloc"), "{names}; {report}");
}
