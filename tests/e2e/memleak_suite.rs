//! The cases of bcc's memleak suite, written anew: exactly 30000 bytes leaked by each allocation function of the C
//! library, in every kind of build, with one thread and with eight.

use std::path::Path;

use outlive_tests::compiler::{Build, build, build_id, line_of};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::report::{Report, Site};
use outlive_tests::workload::Workload;

const LEAKED_BYTES: u64 = 30_000;
const SOURCE: &str = "c/leak.c";

/// Traces one run of the workload; gives the report after comparing it with the workload's own counts.
fn traced(program: &Path, kind: &str, threads: u64) -> Report {
    let mut workload = Workload::start(program, &[kind, &threads.to_string()]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    let leaked = if kind == "nothing" { 0 } else { LEAKED_BYTES };
    assert_eq!(own.live_bytes, leaked, "the workload leaks what its name says");
    report
}

/// The one site with live blocks, after checking what it holds.
fn leaking_site(report: &Report, threads: u64) -> Site<'_> {
    let site = report.first_site();
    site.assert_live(threads, LEAKED_BYTES);
    for other in &report.sites()[1..] {
        assert_eq!(other.number("live_count"), 0, "only the first site leaks; {report}");
    }
    site
}

fn a_leak_by(kind: &str) {
    for threads in [1, 8] {
        for variant in [Build::Debug, Build::Static] {
            let report = traced(&build(SOURCE, variant), kind, threads);
            let site = leaking_site(&report, threads);
            site.assert_frame(0, &format!("leak_{kind}"), "leak.c", line_of(SOURCE, kind));
        }
        let program = build(SOURCE, Build::Stripped);
        let report = traced(&program, kind, threads);
        let site = leaking_site(&report, threads);
        let function = site.function();
        assert!(function.starts_with("leak+0x"), "module and offset, not {function}; {report}");
        assert_eq!(site.frame(0)["build_id"], build_id(&program), "{report}");
        assert_eq!(report.text("/target/build_id"), build_id(&program), "{report}");
    }
}

#[test]
fn a_leak_by_malloc_is_found_exactly() {
    a_leak_by("malloc");
}

#[test]
fn a_leak_by_calloc_is_found_exactly() {
    a_leak_by("calloc");
}

#[test]
fn a_leak_by_realloc_is_found_exactly() {
    a_leak_by("realloc");
}

#[test]
fn a_leak_by_reallocarray_is_found_exactly() {
    a_leak_by("reallocarray");
}

#[test]
fn a_leak_by_posix_memalign_is_found_exactly() {
    a_leak_by("posix_memalign");
}

#[test]
fn a_leak_by_aligned_alloc_is_found_exactly() {
    a_leak_by("aligned_alloc");
}

#[test]
fn a_leak_by_memalign_is_found_exactly() {
    a_leak_by("memalign");
}

#[test]
fn a_leak_by_valloc_is_found_exactly() {
    a_leak_by("valloc");
}

#[test]
fn a_leak_by_pvalloc_is_found_exactly() {
    a_leak_by("pvalloc");
}

#[test]
fn no_leak_is_reported_where_everything_is_freed() {
    for variant in [Build::Debug, Build::Static, Build::Stripped] {
        for threads in [1, 8] {
            let report = traced(&build(SOURCE, variant), "nothing", threads);
            let live = report.sites().iter().map(|site| site.number("live_bytes")).sum::<u64>();
            assert_eq!(live, 0, "{report}");
        }
    }
}

#[test]
fn a_static_program_without_symbols_is_refused_with_the_reason() {
    let mut workload = Workload::start(&build(SOURCE, Build::StaticStripped), &["malloc", "1"]);
    let pid = workload.pid().to_string();
    let message = finished(&mut command(["attach", &pid])).error(4).join(" ");
    assert!(message.contains("strip"), "the reason is the missing symbols: {message}");
    assert!(workload.is_running(), "the target is left alone");
}
