//! Recordings: what is in them is right, and stays so whatever ends the recorder, the target, or the room on the disk.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test ends by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::Signal;
use outlive_tests::compiler::{Build, build};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::patience::PATIENCE;
use outlive_tests::report::Report;
use outlive_tests::workload::Workload;
use tempfile::TempDir;

/// A folder with a recording in it.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn recording(&self) -> PathBuf {
        self.folder.path().join("svc.outlive")
    }
}

fn workload() -> Workload {
    Workload::start(&build("c/sites.c", Build::Debug), &[])
}

/// `record` of a process, once it is traced.
fn record(pid: u32, file: &Path, every: &str) -> Outlive {
    let mut command = command(["record", "--exact", "--every", every, "--output"]);
    let outlive = Outlive::start(command.arg(file).arg(pid.to_string()));
    await_recording(&outlive, pid);
    outlive
}

fn await_recording(outlive: &Outlive, pid: u32) {
    let start = format!("outlive: recording {pid} ");
    outlive.await_error_line(|line| line.starts_with(&start), &start);
}

/// What another reader of SQLite files answers: Python's. Rows by lines, columns by `|`.
fn query(file: &Path, sql: &str) -> String {
    python("print('\\n'.join('|'.join(map(str, row)) for row in ask()))", file, sql)
}

/// A program that has a transaction open: nobody else can write until it ends.
struct OpenTransaction(Child);

impl OpenTransaction {
    fn begin(file: &Path) -> Self {
        const SCRIPT: &str = "import sqlite3, sys\n\
            connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n\
            connection.execute('BEGIN IMMEDIATE')\n\
            print('begun', flush=True)\n\
            sys.stdin.read()";
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        Self(program)
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a script that can `ask` the question.
fn python(script: &str, file: &Path, sql: &str) -> String {
    const START: &str = "import sqlite3, sys, time\n\
        ask = lambda: sqlite3.connect(sys.argv[1], timeout=60).execute(sys.argv[2]).fetchall()\n";
    let mut command = Command::new("python3");
    let output = command.args(["-c", &format!("{START}{script}")]).arg(file).arg(sql).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn number(file: &Path, sql: &str) -> u64 {
    let answer = query(file, sql);
    answer.parse().unwrap_or_else(|_| panic!("{sql}: {answer}"))
}

fn snapshots(file: &Path) -> u64 {
    number(file, "SELECT count(*) FROM snapshots")
}

fn await_more_snapshots(file: &Path, than: u64) {
    let seconds = PATIENCE.as_secs();
    let script = format!(
        "end = time.monotonic() + {seconds}\n\
         while ask()[0][0] <= {than}:\n    \
             assert time.monotonic() < end, 'no further snapshot'\n    \
             time.sleep(0.002)"
    );
    python(&script, file, "SELECT count(*) FROM snapshots");
}

/// The last report of a recording.
fn report(file: &Path, further: &[&str]) -> Report {
    let mut command = command(["report", "--format", "json", "--top", "0"]);
    finished(command.args(further).arg(file)).with_status(0).report()
}

#[test]
fn a_recording_holds_what_the_program_did() {
    let folder = Folder::new();
    let file = folder.recording();
    let mut workload = workload();
    let outlive = record(workload.pid(), &file, "50ms");
    let first = workload.go();
    await_more_snapshots(&file, snapshots(&file) + 1);
    let between = snapshots(&file);
    workload.talk.say("later");
    let own = outlive_tests::counts::Counts::parse(&workload.talk.hear());
    outlive.stop().assert_status(0);
    workload.exit();
    assert!(snapshots(&file) > between);
    let last = report(&file, &[]);
    last.assert_exact(own);
    last.site_in("hold_late").assert_live(2, 600_000);
    // The totals of a moment in the past are those of then.
    let time = "strftime('%Y-%m-%dT%H:%M:%fZ', at_ms / 1000.0, 'unixepoch')";
    let at = query(&file, &format!("SELECT {time} FROM snapshots WHERE id = {between}"));
    let mut past = file.clone().into_os_string();
    past.push(format!("@{at}"));
    report(Path::new(&past), &[]).assert_exact(first);
    // The view that the documentation names.
    let many =
        query(&file, "SELECT live_count, live_bytes FROM latest WHERE stack LIKE 'hold_many%'");
    assert_eq!(many, "1000|100000");
}

#[test]
fn a_killed_recorder_loses_the_snapshot_in_flight_at_most() {
    const KILLS: u64 = 100;
    let folder = Folder::new();
    let file = folder.recording();
    let mut workload = workload();
    workload.go();
    let mut written = 0;
    for kill in 0..KILLS {
        let outlive = record(workload.pid(), &file, "10ms");
        await_more_snapshots(&file, written);
        outlive.signal(Signal::SIGKILL);
        outlive.finish();
        let after = snapshots(&file);
        assert!(after > written, "after {kill} kills");
        written = after;
    }
    assert_eq!(query(&file, "PRAGMA integrity_check"), "ok");
    assert_eq!(number(&file, "SELECT count(*) FROM runs"), KILLS);
    assert_eq!(number(&file, "SELECT count(*) FROM series"), 1);
    // The process never ended: none of its runs is a restart.
    assert_eq!(number(&file, "SELECT sum(is_restart) + sum(ended) FROM runs"), 0);
    report(&file, &[]);
    workload.talk.say("later");
    workload.talk.hear();
    workload.exit();
}

#[test]
fn a_restart_of_the_target_goes_on_in_the_same_series() {
    let folder = Folder::new();
    let file = folder.recording();
    let mut before = workload();
    let outlive = record(before.pid(), &file, "50ms");
    before.go();
    await_more_snapshots(&file, 0);
    before.talk.say("later");
    before.talk.hear();
    before.exit();
    let mut after = workload();
    await_recording(&outlive, after.pid());
    let own = after.go();
    let pid = after.pid();
    outlive.stop().assert_status(0);
    assert_eq!(query(&file, "SELECT is_restart, ended FROM runs ORDER BY id"), "0|1\n1|0");
    assert_eq!(number(&file, "SELECT count(*) FROM series"), 1);
    let report = report(&file, &[]);
    assert_eq!(report.number("/target/pid"), u64::from(pid));
    report.assert_exact(own);
}

#[test]
fn two_recorders_do_not_write_to_one_file() {
    let folder = Folder::new();
    let file = folder.recording();
    let workload = workload();
    let pid = workload.pid().to_string();
    let outlive = record(workload.pid(), &file, "50ms");
    let mut second = command(["record", "--output"]);
    let refused = finished(second.arg(&file).arg(&pid)).error(1);
    assert!(refused[1].contains("another process is writing to it"), "{refused:?}");
    outlive.stop().assert_status(0);
    fs::write(folder.folder.path().join("text"), "not a recording at all, but some other text")
        .unwrap();
    let mut other = command(["record", "--output"]);
    let other = other.arg(folder.folder.path().join("text")).arg(&pid);
    let refused = finished(other).error(1);
    assert!(refused[1].contains("not a recording"), "{refused:?}");
}

/// A file system of a few megabytes; unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Some("size=4m");
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), options).unwrap();
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may be in use still when a test fails.
        let _or_left = umount(self.0.path()).is_ok();
    }
}

#[test]
fn a_full_disk_is_told_and_recording_goes_on_when_there_is_room() {
    let disk = SmallDisk::mount();
    let file = disk.0.path().join("svc.outlive");
    let mut workload = workload();
    let outlive = record(workload.pid(), &file, "50ms");
    await_more_snapshots(&file, 0);
    let ballast = disk.0.path().join("ballast");
    // As much as there is room for, and then what else can be had.
    let mut grown = fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut grown, &[1; 4096]).is_ok() {}
    drop(grown);
    let own = workload.go();
    outlive.await_error_line(|line| line.contains("could not be written to"), "no room");
    fs::remove_file(&ballast).unwrap();
    outlive.await_error_line(|line| line.starts_with("outlive: recording goes on; "), "room");
    let finished = outlive.stop();
    finished.assert_status(0);
    assert!(finished.stderr.contains("no room left"), "{finished}");
    assert_eq!(query(&file, "PRAGMA integrity_check"), "ok");
    assert!(number(&file, "SELECT sum(missed_before) FROM snapshots") > 0);
    report(&file, &[]).assert_exact(own);
}

#[test]
fn a_last_snapshot_that_cannot_be_written_is_a_failure_that_is_told() {
    let folder = Folder::new();
    let file = folder.recording();
    let mut workload = workload();
    // No snapshot is due before the end.
    let outlive = record(workload.pid(), &file, "1h");
    workload.go();
    let transaction = OpenTransaction::begin(&file);
    let [what, why, remedy] = outlive.stop().error(1);
    assert!(what.contains("cannot write the last snapshots") && what.contains(": 1 "), "{what}");
    assert!(why.contains("locked") && remedy.contains("record to it again"), "{why}; {remedy}");
    drop(transaction);
    assert_eq!(query(&file, "PRAGMA integrity_check"), "ok");
    outlive_tests::code::assert_unchanged(workload.pid());
    assert!(workload.is_running());
}

#[test]
fn a_recorder_that_waits_to_write_ends_when_it_is_asked_to_again() {
    let folder = Folder::new();
    let file = folder.recording();
    let mut workload = workload();
    let outlive = record(workload.pid(), &file, "50ms");
    let own = workload.go();
    await_more_snapshots(&file, snapshots(&file) + 1);
    let transaction = OpenTransaction::begin(&file);
    let written = snapshots(&file);
    outlive.signal(Signal::SIGINT);
    outlive.signal(Signal::SIGTERM);
    let finished = outlive.finish().with_status(128 + Signal::SIGTERM as i32);
    assert!(finished.stderr.contains("asked to a second time"), "{finished}");
    outlive_tests::code::assert_unchanged(workload.pid());
    drop(transaction);
    assert_eq!(query(&file, "PRAGMA integrity_check"), "ok");
    assert_eq!(snapshots(&file), written);
    report(&file, &[]).assert_exact(own);
    assert!(workload.is_running());
}
