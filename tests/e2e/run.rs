//! `outlive run`: nothing of the command escapes, and nothing of it is disturbed.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use outlive_tests::compiler::{Build, build, build_with, line_of};
use outlive_tests::counts::Counts;
use outlive_tests::outlive::{Finished, Outlive, command};
use outlive_tests::report::Report;
use tempfile::TempDir;

/// A traced command whose report goes to a file, so that its own output is all that is on stdout.
struct Run {
    outlive: Outlive,
    folder: TempDir,
}

impl Run {
    fn start<S: AsRef<std::ffi::OsStr>>(program: impl AsRef<Path>, arguments: &[S]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = command(["run", "--top", "0", "--format", "json", "--output"]);
        command.arg(folder.path().join("report.json")).arg("--").arg(program.as_ref());
        let outlive = Outlive::start(command.args(arguments));
        Self { outlive, folder }
    }

    fn finish(self) -> (Finished, Report) {
        let file = self.folder.path().join("report.json");
        let finished = self.outlive.finish();
        let text = std::fs::read_to_string(&file);
        let text =
            text.unwrap_or_else(|error| panic!("no report was written: {error}; {finished}"));
        let report = finished.reports_in(&text).pop();
        let report = report.unwrap_or_else(|| panic!("the report is empty; {finished}"));
        (finished, report)
    }
}

/// Runs the workload that allocates at its start, and nothing else.
fn startup(program: &Path) -> (Counts, Report) {
    let mut run = Run::start(program, &[""; 0]);
    let own = Counts::parse(&run.outlive.talk.hear());
    run.outlive.talk.say("exit");
    let (finished, report) = run.finish();
    finished.assert_status(0);
    (own, report)
}

/// The startup workload, linked with the library that allocates in its own constructor.
fn with_library() -> PathBuf {
    let library = build("c/startup_library.c", Build::Library);
    let folder = library.parent().expect("a library is in a folder").display().to_string();
    let (search, rpath) = (format!("-L{folder}"), format!("-Wl,-rpath,{folder}"));
    build_with(
        "c/startup.c",
        Build::Debug,
        &["-DWITH_LIBRARY", "-Wl,--no-as-needed", &search, &rpath, "-lstartup_library"],
    )
}

fn assert_first_allocations(report: &Report) {
    for (function, site, bytes) in
        [("main", "main", 111), ("program_constructor", "constructor", 222)]
    {
        let found = report.site_in(function);
        found.assert_live(1, bytes);
        found.assert_frame(0, function, "startup.c", line_of("c/startup.c", site));
    }
}

#[test]
fn the_first_allocations_of_main_and_of_a_constructor_are_seen() {
    let (own, report) = startup(&build("c/startup.c", Build::Debug));
    report.assert_exact(own);
    assert_first_allocations(&report);
}

/// A static C library allocates itself before any constructor runs, and that is seen too.
#[test]
fn the_first_allocations_of_a_static_program_are_seen() {
    let (own, report) = startup(&build("c/startup.c", Build::Static));
    let totals = report.totals();
    assert!(totals.allocated_count >= own.allocated_count, "{report}");
    assert_eq!(totals.live_count, totals.allocated_count - totals.freed_count, "{report}");
    report.assert_no_loss();
    assert_first_allocations(&report);
}

#[test]
fn the_allocation_of_a_shared_librarys_constructor_is_seen() {
    let (own, report) = startup(&with_library());
    report.assert_exact(own);
    let site = report.site_in("library_constructor");
    site.assert_live(1, 333);
    site.assert_frame(
        0,
        "library_constructor",
        "startup_library.c",
        line_of("c/startup_library.c", "library"),
    );
    report.site_in("program_constructor").assert_live(1, 222);
    report.site_in("main").assert_live(1, 111);
}

#[test]
fn signals_reach_the_command() {
    let mut run = Run::start(build("c/signals.c", Build::Debug), &[""; 0]);
    run.outlive.talk.hear_word("ready");
    run.outlive.signal(Signal::SIGHUP);
    run.outlive.talk.hear_word("caught 1");
    run.outlive.signal(Signal::SIGUSR1);
    run.outlive.talk.hear_word("caught 10");
    run.outlive.signal(Signal::SIGTERM);
    run.outlive.talk.hear_word("caught 15");
    let (finished, report) = run.finish();
    finished.assert_status(40 + 15);
    assert_eq!(report.totals().live_bytes, 64, "{report}");
}

#[test]
fn a_command_killed_by_a_signal_is_status_128_and_the_signal() {
    for (name, number) in [("SEGV", 11), ("KILL", 9), ("TERM", 15)] {
        let run = Run::start("sh", &["-c", &format!("kill -{name} $$")]);
        let (finished, report) = run.finish();
        assert!(report.totals().allocated_count > 0, "sh allocates; {report}");
        assert_eq!(finished.status.signal(), None, "outlive itself ends in order; {finished}");
        finished.assert_status(128 + number);
    }
}

#[test]
fn the_exit_status_passes_through() {
    for status in [0, 1, 7, 255] {
        let (finished, report) = Run::start("sh", &["-c", &format!("exit {status}")]).finish();
        assert!(report.totals().allocated_count > 0, "sh allocates; {report}");
        finished.assert_status(status);
    }
}

#[test]
fn input_output_and_arguments_pass_through() {
    let mut run =
        Run::start("sh", &["-c", "read line; echo \"$1:$line\"; echo err >&2", "sh", "a b"]);
    run.outlive.talk.say("c  d");
    run.outlive.talk.hear_word("a b:c  d");
    let (finished, report) = run.finish();
    assert!(report.totals().allocated_count > 0, "sh allocates; {report}");
    finished.assert_status(0);
    assert_eq!(finished.stdout, "a b:c  d\n", "{finished}");
    assert!(finished.stderr.lines().any(|line| line == "err"), "{finished}");
}

#[test]
fn interrupting_the_tracer_ends_the_command_and_reports() {
    // Ctrl-C reaches both; the command decides. It does not read, so that the end of its input cannot end it first.
    let script = "trap 'kill $!; exit 3' INT; tail -f /dev/null & echo ready; wait; exit 4";
    let mut run = Run::start("sh", &["-c", script]);
    run.outlive.talk.hear_word("ready");
    run.outlive.signal(Signal::SIGINT);
    let (finished, report) = run.finish();
    assert!(report.totals().allocated_count > 0, "{report}");
    finished.assert_status(3);
}

#[test]
fn a_command_that_is_not_found_is_an_error_with_a_remedy() {
    for name in ["/no/such/command", "no-such-command-anywhere"] {
        let [what, _, _] =
            outlive_tests::outlive::finished(&mut command(["run", "--", name])).error(4);
        assert!(what.contains(name), "{what}");
    }
}

#[test]
fn a_file_that_cannot_be_executed_is_an_error_with_a_remedy() {
    let [what, _, _] =
        outlive_tests::outlive::finished(&mut command(["run", "--", "/etc/passwd"])).error(4);
    assert!(what.contains("/etc/passwd"), "{what}");
}
