//! Ctrl-C, SIGTERM, and a terminal that goes away: at any moment the best report there can be, no probe that stays, and no harm to the
//! process (docs/exit-status.md).
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use outlive_tests::code;
use outlive_tests::compiler::{Build, build};
use outlive_tests::outlive::{Finished, Outlive, binary, command};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::report::Report;
use outlive_tests::terminal::Terminal;
use outlive_tests::workload::Workload;

const CTRL_C: &str = "\u{3}";

fn workload() -> Workload {
    Workload::start(&build("c/sites.c", Build::Debug), &[])
}

fn report_in(file: &Path) -> Report {
    let document = fs::read_to_string(file).unwrap();
    Report::new(serde_json::from_str(&document).unwrap(), document)
}

/// Waits until no probe is left in a process.
fn await_released(pid: u32) {
    let is_released = || std::panic::catch_unwind(|| code::assert_unchanged(pid)).ok();
    assert!(await_condition(PATIENCE, is_released).is_some(), "{pid} has probes still");
}

/// A program with much code that waits for input: outlive's own. Ended when dropped.
struct LargeProgram(Child);

impl LargeProgram {
    fn start() -> Self {
        let mut command = Command::new(binary());
        command.arg("symbolise-worker").stdin(Stdio::piped()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for LargeProgram {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn before_it_traces_it_ends_at_once_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let mut program = LargeProgram::start();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = command(["attach", "-vv", "-f", "json", "-o"]);
        command.arg(&file).arg(program.0.id().to_string());
        // Nothing is known of any program yet.
        command.env("XDG_CACHE_HOME", folder.path().join(signal.as_str()));
        let outlive = Outlive::start(&mut command);
        outlive.await_error_line(|line| line.contains("reads the unwind information"), "a table");
        outlive.signal(signal);
        let finished = outlive.finish().with_status(128 + signal as i32);
        assert!(finished.stderr.contains("there is nothing to report"), "{finished}");
        assert!(!file.exists(), "an empty file stays after {signal}");
        code::assert_unchanged(program.0.id());
    }
    assert_eq!(program.0.try_wait().unwrap(), None, "the program has ended");
}

/// The names of the last report come from a process that is stopped: as from one that takes long.
#[test]
fn while_names_are_looked_up_ctrl_c_gives_the_report_without_them() {
    let stacks = build("c/stacks.c", Build::Debug);
    let (mut first, mut second) = (workload(), Workload::start(&stacks, &["100", "3"]));
    let outlive = Outlive::attach(&[first.pid(), second.pid()], &["--exact", "--top", "0"]);
    // The report of a process that ends: from then on there is a process that looks names up.
    first.go();
    first.talk.say("later");
    first.talk.hear();
    first.exit();
    let reported = outlive.talk.output().await_match(PATIENCE, |text| text.find("hold_late"));
    reported.expect("the first report");
    let worker = Pid::from_raw(worker_of(outlive.pid()));
    kill(worker, Signal::SIGSTOP).unwrap();
    let own = second.go();
    outlive.signal(Signal::SIGINT);
    await_released(second.pid());
    outlive.signal(Signal::SIGINT);
    let finished = outlive.finish().with_status(0);
    let report = finished.report_on(second.pid());
    report.assert_exact(own);
    let notices = report.notices();
    let is_told = notices.iter().any(|notice| notice.contains("it was interrupted while they"));
    assert!(is_told, "{notices:?}");
    assert!(second.is_running());
}

fn worker_of(outlive: u32) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{outlive}/task")).unwrap().flatten();
    let children = tasks.flat_map(|task| fs::read_to_string(task.path().join("children")));
    let children = children.collect::<Vec<_>>().join(" ");
    let workers: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(workers.len(), 1, "{children}");
    workers[0]
}

/// After `--duration` it waits half a minute for servers, unless it is told not to.
#[test]
fn while_a_server_is_awaited_ctrl_c_gives_the_report_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut workload = Workload::start(&build("c/sites.c", Build::Stripped), &[]);
    let outlive = Outlive::attach_by(&[workload.pid()], &["--exact"], |command| {
        command.env("DEBUGINFOD_URLS", url).env("DEBUGINFOD_TIMEOUT", "600");
        command.env("XDG_CACHE_HOME", folder.path());
    });
    let own = workload.go();
    workload.talk.say("later");
    workload.talk.hear();
    drop(workload);
    // It asks: then it has begun to wait.
    let _asked = silent.accept().unwrap();
    outlive.signal(Signal::SIGINT);
    let report = outlive.finish().with_status(0).report();
    assert!(report.number("/totals/allocated_count") > own.allocated_count, "{report}");
    report.assert_no_loss();
}

#[test]
fn a_file_that_is_read_is_left_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    // One that nobody writes: it cannot even be opened.
    let input = folder.path().join("fifo");
    mkfifo(&input, Mode::S_IRWXU).unwrap();
    let mut command = command(["report", "-f", "html", "-o"]);
    let outlive = Outlive::start(command.arg(&file).arg(&input));
    outlive.await_hearing();
    outlive.signal(Signal::SIGINT);
    let finished = outlive.finish().with_status(130);
    assert!(finished.stdout.is_empty(), "{finished}");
    assert!(!file.exists());
}

#[test]
fn a_recording_ends_with_a_snapshot_of_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("svc.outlive");
    let mut workload = workload();
    // No snapshot is due before the end.
    let mut record = command(["record", "--exact", "--every", "1h", "-o"]);
    let outlive = Outlive::start(record.arg(&file).arg(workload.pid().to_string()));
    let start = format!("outlive: recording {} ", workload.pid());
    outlive.await_error_line(|line| line.starts_with(&start), &start);
    let own = workload.go();
    outlive.signal(Signal::SIGTERM);
    outlive.finish().assert_status(0);
    let report: Finished =
        outlive_tests::outlive::finished(command(["report", "-f", "json", "-n", "0"]).arg(&file));
    report.with_status(0).report().assert_exact(own);
    code::assert_unchanged(workload.pid());
    assert!(workload.is_running());
}

#[test]
fn a_report_to_a_file_survives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let mut workload = workload();
    let mut attach = command(["attach", "--exact", "-n", "0", "-f", "json", "-o"]);
    attach.arg(&file).arg(workload.pid().to_string());
    let mut terminal = Terminal::start(&attach);
    terminal.await_text("outlive: tracing");
    let own = workload.go();
    assert_eq!(terminal.hang_up().code(), Some(0));
    report_in(&file).assert_exact(own);
    code::assert_unchanged(workload.pid());
    assert!(workload.is_running());
}

#[test]
fn whom_nohup_started_goes_on_without_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let mut workload = workload();
    let attach = command(["attach", "--exact", "-n", "0", "-f", "json", "-o"]);
    let mut nohup = Command::new("nohup");
    nohup.arg(attach.get_program()).args(attach.get_args()).arg(&file);
    nohup.arg(workload.pid().to_string());
    let outlive = Outlive::start(&mut nohup);
    outlive.await_tracing(workload.pid());
    outlive.signal(Signal::SIGHUP);
    let own = workload.go();
    outlive.stop().assert_status(0);
    report_in(&file).assert_exact(own);
}

/// On a terminal the program that is run has Ctrl-C from the kernel, as without outlive.
#[test]
fn ctrl_c_is_the_programs_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let sites = build("c/sites.c", Build::Debug);
    let script = "trap 'exit 7' INT; echo begun; while :; do read -r line; done";
    for (program, arguments, begun, status) in [
        (sites.as_path(), &[][..], "ready", 130),
        // One that ends in its own way.
        (Path::new("sh"), &["-c", script][..], "begun", 7),
    ] {
        let mut run = command(["run", "-n", "0", "-f", "json", "--force", "-o"]);
        run.arg(&file).arg("--").arg(program).args(arguments);
        let mut terminal = Terminal::start(&run);
        terminal.await_text(begun);
        if status == 130 {
            terminal.press("go\n");
            terminal.await_text("allocated_count");
        }
        terminal.press(CTRL_C);
        assert_eq!(terminal.await_end().code(), Some(status), "{}", terminal.text());
        let report = report_in(&file);
        report.assert_no_loss();
        if status == 130 {
            assert_eq!(report.number("/totals/live_count"), 1001);
        }
    }
}
