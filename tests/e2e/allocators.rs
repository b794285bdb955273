//! Every allocator is traced exactly, whoever wrote it and however it came into the process.

use std::process::Command;

use outlive_tests::allocators::{Musl, build_with_musl, library};
use outlive_tests::compiler::{Build, build};
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
    preloaded("libjemalloc.so.2", "jemalloc");
}

#[test]
fn tcmalloc_is_exact() {
    preloaded("libtcmalloc_minimal.so.4", "tcmalloc");
}

#[test]
fn mimalloc_is_exact() {
    preloaded("libmimalloc.so.2.0", "mimalloc");
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

/// What `cpp/news.cpp` is told of operator new, with this library in libstdc++'s place.
fn new_report(library: Option<&std::path::Path>) -> Report {
    let mut command = Command::new(build("cpp/news.cpp", Build::Debug));
    command.arg("every_form");
    if let Some(library) = library {
        command.env("LD_PRELOAD", library);
    }
    let mut workload = Workload::start_command(&mut command);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    if library.is_none() {
        report.assert_exact(own);
    }
    report
}

#[test]
fn operator_new_is_exact_where_it_ends_in_malloc_and_is_told_of_where_it_does_not() {
    const UNSEEN: &str = "operator new are not seen";
    let report = new_report(None);
    assert!(!report.value("/loss/notices").to_string().contains(UNSEEN), "{report}");
    for name in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"] {
        let report = new_report(Some(&library(name)));
        assert!(report.value("/loss/notices").to_string().contains(UNSEEN), "{name}; {report}");
    }
}
