//! Bad input: each kind ends with its exit status and an error of three lines (what, why, what to do), or works.
//!
//! A kernel that supports too little is stood in for by a filter that takes bpf(2) away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use outlive_tests::compiler::{Build, build, line_of};
use outlive_tests::outlive::{Finished, Outlive, binary, command, finished};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::workload::Workload;
use tempfile::TempDir;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_ALLOWED: i32 = 3;
const NO_TARGET: i32 = 4;

fn attach(pid: u32) -> Finished {
    finished(&mut command(["attach", "--duration", "1s", &pid.to_string()]))
}

/// A process number that no process has.
fn unused_pid() -> u32 {
    let mut child = Command::new("true").spawn().expect("`true` starts");
    let pid = child.id();
    child.wait().expect("`true` ends");
    pid
}

/// A child of this process in this state, as the letter in `/proc/PID/stat`.
fn await_state(child: &Child, state: char) {
    let stat = PathBuf::from(format!("/proc/{}/stat", child.id()));
    let is_in_it =
        || fs::read_to_string(&stat).ok()?.rsplit_once(") ")?.1.starts_with(state).then_some(());
    await_condition(PATIENCE, is_in_it).expect("the child comes into the state");
}

#[test]
fn a_process_that_does_not_exist_is_named() {
    let pid = unused_pid();
    let [what, _, _] = attach(pid).error(NO_TARGET);
    assert!(what.contains(&pid.to_string()), "{what}");
    attach(4_194_305).error(NO_TARGET); // beyond the largest that the kernel gives out
}

#[test]
fn numbers_that_are_no_process_are_a_usage_error() {
    for pid in ["0", "-1", "abc", "99999999999999", ""] {
        finished(&mut command(["attach", "--", pid])).error(USAGE);
    }
}

#[test]
fn a_kernel_thread_has_nothing_to_trace() {
    assert_eq!(fs::read("/proc/2/maps").expect("process 2 is kthreadd"), b"");
    let [what, why, _] = attach(2).error(NO_TARGET);
    assert!(format!("{what} {why}").contains("kernel"), "{what}: {why}");
}

#[test]
fn a_zombie_has_nothing_to_trace() {
    let mut child = Command::new("true").spawn().expect("`true` starts");
    await_state(&child, 'Z');
    let [what, why, _] = attach(child.id()).error(NO_TARGET);
    child.wait().expect("the zombie is reaped");
    let message = format!("{what} {why}").to_lowercase();
    assert!(message.contains("zombie") || message.contains("ended"), "{message}");
}

/// Whether the target is found alive, dead or dying is a matter of luck; each has to end in order.
#[test]
fn a_target_that_exits_at_once_ends_in_order() {
    for _ in 0..20 {
        let mut child = Command::new("true").spawn().expect("`true` starts");
        let outlive = attach(child.id());
        child.wait().expect("`true` ends");
        match outlive.status.code() {
            Some(0) => assert!(!outlive.stderr.contains("panicked"), "{outlive}"),
            _ => drop(outlive.error(NO_TARGET)),
        }
    }
}

#[test]
fn a_command_that_exits_at_once_ends_in_order() {
    let finished =
        finished(&mut command(["run", "--format", "json", "--", "sh", "-c", ":"])).with_status(0);
    assert!(finished.report().totals().allocated_count > 0, "sh allocates; {finished}");
}

/// The binary under test where every user may run it.
fn public_binary() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its owner may");
    let copy = folder.path().join("outlive");
    fs::copy(binary(), &copy).expect("the binary can be copied");
    (folder, copy)
}

/// A command that the user `nobody` runs.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"])
        .arg(program);
    command
}

#[test]
fn another_users_process_without_rights_is_refused() {
    let (_folder, outlive) = public_binary();
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let [_, _, remedy] =
        finished(as_nobody(&outlive).args(["attach", &workload.pid().to_string()]))
            .error(NOT_ALLOWED);
    assert!(remedy.contains("sudo") || remedy.contains("CAP_"), "{remedy}");
    assert!(workload.is_running(), "the target is left alone");
}

#[test]
fn ones_own_process_without_rights_is_refused() {
    let (folder, outlive) = public_binary();
    let copy = folder.path().join("leak");
    fs::copy(build("c/leak.c", Build::Debug), &copy).expect("the workload can be copied");
    let mut workload = Workload::start_command(as_nobody(&copy).args(["malloc", "1"]));
    let [_, _, remedy] =
        finished(as_nobody(&outlive).args(["attach", &workload.pid().to_string()]))
            .error(NOT_ALLOWED);
    assert!(remedy.contains("sudo") || remedy.contains("CAP_"), "{remedy}");
    finished(as_nobody(&outlive).args(["run", "--", "true"])).error(NOT_ALLOWED);
    assert!(workload.is_running(), "the target is left alone");
}

#[test]
fn a_pid_namespace_that_is_not_the_hosts_is_refused() {
    let script = "sleep 60 & \"$0\" attach $!; status=$?; kill $!; exit $status";
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]).arg(binary());
    let [what, why, _] = finished(&mut unshare).error(NOT_ALLOWED);
    assert!(why.contains("namespace"), "{what}: {why}");
}

#[test]
fn a_kernel_without_bpf_is_refused() {
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let pid = workload.pid().to_string();
    for words in [&["attach", &pid][..], &["run", "--", "true"]] {
        let mut without_bpf = Command::new(build("c/without_bpf.c", Build::Debug));
        let [what, why, _] = finished(without_bpf.arg(binary()).args(words)).error(NOT_ALLOWED);
        assert!(why.contains("not implemented"), "{what}: {why}");
    }
    assert!(workload.is_running(), "the target is left alone");
}

#[test]
fn a_32_bit_target_is_refused() {
    let workload = Workload::start(&build("c/bare.c", Build::Bare32), &[]);
    let [what, why, _] = attach(workload.pid()).error(NO_TARGET);
    assert!(format!("{what} {why}").contains("32"), "{what}: {why}");
}

#[test]
fn a_process_without_an_allocator_has_nothing_to_trace() {
    let program = build("c/bare.c", Build::Bare);
    let mut workload = Workload::start(&program, &[]);
    let [what, why, _] = attach(workload.pid()).error(NO_TARGET);
    assert!(format!("{what} {why}").contains("malloc"), "{what}: {why}");
    assert!(workload.is_running(), "the target is left alone");
}

#[test]
fn a_snapshot_of_what_is_no_go_process_is_refused() {
    let snapshot = |pid: u32| finished(&mut command(["snapshot", &pid.to_string()]));
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let [what, why, remedy] = snapshot(workload.pid()).error(NO_TARGET);
    assert!(what.contains(&workload.pid().to_string()) && why.contains("Go"), "{what}: {why}");
    assert!(remedy.contains("outlive attach"), "{remedy}");
    assert!(workload.is_running(), "the target is left alone");
    snapshot(unused_pid()).error(NO_TARGET);
}

#[test]
fn a_deleted_executable_is_traced_all_the_same() {
    for variant in [Build::Debug, Build::Static] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let copy = folder.path().join("leak");
        fs::copy(build("c/leak.c", variant), &copy).expect("the workload can be copied");
        let mut workload = Workload::start(&copy, &["malloc", "1"]);
        fs::remove_file(&copy).expect("it can be deleted");
        let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
        let own = workload.go();
        let report = outlive.stop().with_status(0).report();
        workload.exit();
        report.assert_exact(own);
        report.first_site().assert_frame(0, "leak_malloc", "leak.c", line_of("c/leak.c", "malloc"));
    }
}

#[test]
fn an_executable_in_another_mount_namespace_is_traced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = build("c/leak.c", Build::Static);
    let script = "mount -t tmpfs outlive-test \"$1\" && cp \"$2\" \"$1/hidden\" && exec \"$1/hidden\" malloc 1";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    let mut workload = Workload::start_command(unshare.arg(folder.path()).arg(&program));
    assert!(!folder.path().join("hidden").exists(), "the program is in the other namespace only");
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    report.first_site().assert_frame(0, "leak_malloc", "leak.c", line_of("c/leak.c", "malloc"));
    assert!(
        report.text("/target/exe").ends_with("/hidden"),
        "the path as the target sees it; {report}"
    );
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_tracing() {
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    for path in ["/no/such/folder/report.json", "/etc"] {
        let pid = workload.pid().to_string();
        let [what, _, _] = finished(&mut command([
            "attach", "--format", "json", "--force", "--output", path, &pid,
        ]))
        .error(FAILED);
        assert!(what.contains(path), "{what}");
    }
    assert!(workload.is_running(), "the target is left alone");
}

#[test]
fn an_output_without_room_is_a_failure_with_a_remedy() {
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let pid = workload.pid().to_string();
    let arguments =
        ["attach", "--quiet", "--duration", "1s", "--force", "--output", "/dev/full", &pid];
    finished(&mut command(arguments)).error(FAILED);
    assert!(workload.is_running(), "the target is left alone");
}

#[test]
fn an_existing_output_is_not_overwritten_unless_forced() {
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("report.json");
    fs::write(&file, "precious").expect("the folder is writable");
    let (name, pid) = (file.display().to_string(), workload.pid().to_string());
    let arguments = ["attach", "--exact", "--format", "json", "--output", &name, &pid];
    let [what, _, remedy] = finished(&mut command(arguments)).error(USAGE);
    assert!(what.contains(&name), "{what}");
    assert!(remedy.contains("--force"), "{remedy}");
    assert_eq!(fs::read_to_string(&file).expect("it is still there"), "precious");

    let outlive = Outlive::start(command(arguments).arg("--force"));
    outlive.await_tracing(workload.pid());
    let own = workload.go();
    let finished = outlive.stop().with_status(0);
    workload.exit();
    let text = fs::read_to_string(&file).expect("it is still there");
    finished.reports_in(&text).pop().expect("a report").assert_exact(own);
}

#[test]
fn bad_sizes_and_durations_are_usage_errors_that_name_the_flag() {
    let cases = [
        ["--sample", "12parsecs"],
        ["--sample", "0"],
        ["--sample", "-5KiB"],
        ["--sample", ""],
        ["--sample", "99999999999999999999GiB"],
        ["--min-size", "many"],
        ["--max-size", "1.5.2MiB"],
        ["--duration", "soon"],
        ["--duration", "0s"],
        ["--interval", "5"],
        ["--interval", "0s"],
        ["--interval", "-3s"],
        ["--older", "60 parsecs"],
        ["--top", "few"],
        ["--top", "-1"],
        ["--sort", "beauty"],
        ["--format", "papyrus"],
        ["--max-loss", "lots"],
    ];
    for [flag, value] in cases {
        let argument = format!("{flag}={value}");
        let [what, why, _] = finished(&mut command(["attach", &argument, "1"])).error(USAGE);
        assert!(format!("{what} {why}").contains(flag), "{argument}: {what}: {why}");
    }
}

#[test]
fn contradictions_on_the_command_line_are_usage_errors() {
    for arguments in [
        &["attach"][..],
        &["attach", "--exact", "--sample", "1MiB", "1"],
        &["attach", "--min-size", "2KiB", "--max-size", "1KiB", "1"],
        &["attach", "--no-such-flag", "1"],
        &["run"],
        &["run", "--"],
        &["no-such-command"],
        &[],
    ] {
        let finished = finished(&mut command(arguments)).with_status(USAGE);
        assert!(!finished.stderr.contains("panicked"), "{finished}");
        assert!(!finished.stderr.is_empty(), "{finished}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut workload = Workload::start(&build("c/leak.c", Build::Debug), &["malloc", "1"]);
    let mut child =
        command(["attach", "--exact", "--interval", "100ms", &workload.pid().to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("outlive starts");
    drop(child.stdout.take());
    workload.go();
    let status = await_condition(PATIENCE, || child.try_wait().expect("it is a child"));
    let status = status.expect("it ends when nobody reads the reports");
    assert_eq!(status.code(), Some(0), "as other filters do");
    workload.exit();
}
