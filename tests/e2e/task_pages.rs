//! The pages of `docs/tasks`: each command in them is run on a service like the one that the page speaks of, and prints what the page shows.
//! Then the commands of the README.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use outlive_tests::compiler::{Build, build};
use outlive_tests::golang;
use outlive_tests::golang::build::Profiler;
use outlive_tests::golang::toolchains::chosen;
use outlive_tests::golang::workload::GoWorkload;
use outlive_tests::outlive::command;
use outlive_tests::root_directory::RootDirectory;
use outlive_tests::task_page::{Block, Session, blocks, commands_below};
use outlive_tests::terminal::Terminal;
use outlive_tests::workload::Workload;
use serde_json::Value;

/// What a test changes in the commands of a page: they take minutes to days there. A service here leaks so much in seconds that
/// samples are as many as there. The first that fit come first: some are parts of others.
const SHORTER: [(&str, &str); 7] = [
    ("--exact -d 60s --older 30s", "--exact -d 4s --older 2s"),
    ("--exact -d 60s", "--exact -d 3s"),
    ("attach $PID -d 60s", "attach $PID -d 4s --sample 1KiB --max-overhead none"),
    ("goroutines $PID -d 60s", "goroutines $PID -d 2s"),
    ("-i 10s -d 10m", "-i 1s -d 6s --sample 1KiB --max-overhead none"),
    ("shopd.outlive@-5m", "shopd.outlive@-4s"),
    ("sleep 600", "sleep 2"),
];

/// Runs all blocks of a page, of which those with these beginnings end with another status than 0.
fn run_page(session: &mut Session, page: &[Block], failing: &[(&str, i32)]) {
    for block in page {
        let mut commands = block.commands.clone();
        for (told, done) in SHORTER {
            commands = commands.replace(told, done);
        }
        let fails = failing.iter().find(|(start, _)| block.commands.starts_with(start));
        let status = fails.map_or(0, |(_, status)| *status);
        session.run(&commands).assert_as_shown(status, block);
    }
}

fn shopd() -> std::path::PathBuf {
    build("cpp/shopd.cpp", Build::Debug)
}

/// A Go service that is asked for something all the time.
struct BusyService {
    stop: Sender<()>,
    thread: JoinHandle<GoWorkload>,
}

impl BusyService {
    fn start(program: &Path, steps: u64) -> Self {
        let mut workload = GoWorkload::start(program);
        // Something is there already when the page begins.
        workload.go(50 * steps);
        let (stop, stopped) = channel();
        let work = move || {
            while stopped.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout)
            {
                workload.go(steps);
                workload.collect();
            }
            workload
        };
        Self { stop, thread: spawn(work) }
    }

    fn stop(self) -> GoWorkload {
        self.stop.send(()).expect("the service works");
        self.thread.join().expect("the service worked")
    }
}

/// A Go program under the name that the page gives it.
fn go_program(session: &Session, workload: &str, name: &str) -> std::path::PathBuf {
    let toolchain = chosen().pop().expect("a release of Go");
    let program =
        golang::build::build(workload, &toolchain, golang::build::Build::Plain, Profiler::Served);
    session.take(&program, name)
}

#[test]
fn my_go_service_leaks() {
    let mut session = Session::start();
    let page = blocks("docs/tasks/go-service.md");
    let at_goroutines = page.iter().position(|block| block.commands.contains("pidof watchd"));
    let (heap, goroutines) = page.split_at(at_goroutines.expect("a part about goroutines"));
    let service = BusyService::start(&go_program(&session, "mapcache", "shopd"), 100);
    run_page(&mut session, heap, &[]);
    service.stop().exit();
    let service = BusyService::start(&go_program(&session, "goleak", "watchd"), 2);
    run_page(&mut session, &goroutines[..1], &[]);
    let mut workload = service.stop();
    // Those that wait have waited since before the last collection but one.
    workload.collect();
    workload.collect();
    run_page(&mut session, &goroutines[1..], &[]);
    workload.exit();
}

#[test]
fn my_cpp_service_leaks() {
    let mut session = Session::start();
    let service = Workload::start(&session.take(&shopd(), "shopd"), &[]);
    run_page(&mut session, &blocks("docs/tasks/cpp-service.md"), &[]);
    drop(service);
    let page = std::fs::read_to_string(session.folder().join("heap.html")).expect("a page");
    assert!(page.contains("Journal::remember"), "the page does not name the leak");
}

#[test]
fn in_a_container() {
    let mut session = Session::start();
    let root = RootDirectory::with_packages("dist/system");
    root.take(&shopd(), "/srv/shopd");
    let entered = root.command("/srv/shopd", [""; 0]);
    let mut container = Command::new("unshare");
    container.args(["--pid", "--fork", "--kill-child"]);
    container.arg(entered.get_program()).args(entered.get_args());
    let service = Workload::start_command(&mut container);
    run_page(&mut session, &blocks("docs/tasks/container.md"), &[]);
    drop(service);
}

#[test]
fn in_ci() {
    let mut session = Session::start();
    session.take(&shopd(), "shop-test");
    let failing = [("outlive diff --fail-above 100KiB short.pb.gz long.pb.gz", 10)];
    run_page(&mut session, &blocks("docs/tasks/ci.md"), &failing);
    let diff = session.run("outlive diff -f json short.pb.gz long.pb.gz");
    let diff: Value = serde_json::from_str(&diff.stdout).expect("JSON");
    // An order is 520 bytes, and 2000 more were taken.
    assert_eq!(diff["growth_bytes"], 2000 * 520, "{diff}");
    assert_eq!(diff["growth_count"], 2000, "{diff}");
}

#[test]
fn read_the_report() {
    let mut session = Session::start();
    let service = Workload::start(&session.take(&shopd(), "shopd"), &[]);
    run_page(&mut session, &blocks("docs/tasks/read-the-report.md"), &[]);
    drop(service);
}

/// What is changed in the README's commands; those that go on until Ctrl-C end by a variable.
const README_SHORTER: [(&str, &str); 6] = [
    ("-d 60s -f pprof", "-d 2s --exact -f pprof"),
    ("-d 60s", "-d 2s"),
    ("-d 10m", "-d 2s"),
    ("--older 30s -i 10s", "--older 1s -i 1s"),
    ("-o svc.outlive", "-o svc.outlive -i 1s -d 4s"),
    ("@-1d", "@-2s"),
];

#[test]
fn the_commands_of_the_readme() {
    let mut session = Session::start();
    let service = Workload::start(&session.take(&shopd(), "shopd"), &[]);
    let mut go_service = GoWorkload::start(&go_program(&session, "mapcache", "cached"));
    go_service.go(20_000);
    go_service.collect();
    session.take(&shopd(), "program");
    session.run("export OUTLIVE_DURATION=2s");
    // Two profiles that are there already.
    let profile =
        |name: &str| format!("outlive attach {} --exact -d 1s -f pprof -o {name}", service.pid());
    for name in ["before.pb.gz", "after.pb.gz"] {
        assert_eq!(session.run(&profile(name)).status, 0, "{name}");
    }
    for line in commands_below("README.md", "Use it") {
        let commands =
            README_SHORTER.iter().fold(line.clone(), |line, (told, done)| line.replace(told, done));
        let is_of_go = line.contains("snapshot") || line.contains("goroutines");
        let pid = if is_of_go { go_service.pid() } else { service.pid() };
        if line.contains("outlive top") {
            let mut terminal = Terminal::start(&command(["top", &pid.to_string()]));
            terminal.await_text("remember shopd.cpp");
            terminal.press("q");
            assert!(terminal.await_clean_end().success(), "{line}");
            continue;
        }
        let ran = session.run(&commands.replace("PID", &pid.to_string()));
        assert_eq!(ran.status, 0, "{line}: {ran:?}");
        assert!(!ran.stderr.contains("error: "), "{line}: {ran:?}");
        assert!(ran.stdout.trim() != "" || line.contains(" -o "), "{line} prints nothing: {ran:?}");
    }
    go_service.exit();
}
