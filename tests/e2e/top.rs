//! The live view, driven by keys on a real terminal.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use nix::sys::signal::Signal;
use outlive_tests::code;
use outlive_tests::compiler::{Build, build, line_of};
use outlive_tests::counts::Counts;
use outlive_tests::outlive::{command, finished};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::report::Report;
use outlive_tests::terminal::Terminal;
use outlive_tests::workload::Workload;

const ESCAPE: &str = "\u{1b}";
const CTRL_C: &str = "\u{3}";
const SIGHUP: i32 = Signal::SIGHUP as i32;
/// Of the workload's two sites that hold something after `go`.
const LIVE: &str = "in 1,001 blocks";

fn workload() -> Workload {
    Workload::start(&build("c/sites.c", Build::Debug), &[])
}

/// The view of a process, each allocation recorded.
fn top(pid: u32, folder: &Path) -> Terminal {
    let mut command = command(["top", "--exact", "--interval", "50ms"]);
    command.arg(pid.to_string()).current_dir(folder);
    let terminal = Terminal::start(&command);
    terminal.await_text("every allocation recorded");
    terminal
}

/// The view of a process that has done its first part.
fn top_after_go(folder: &Path) -> (Workload, Terminal, Counts) {
    let mut workload = workload();
    let terminal = top(workload.pid(), folder);
    let counts = workload.go();
    assert_eq!((counts.live_count, counts.live_bytes), (1001, 1_100_000));
    // What it shows now, and next, may be of a moment before the last free.
    for _ in 0..2 {
        let before = traced(&terminal.text());
        terminal.await_screen("a later report", |text| traced(text) != before);
    }
    terminal.await_text(LIVE);
    (workload, terminal, counts)
}

/// The line that says for how long the process has been traced.
fn traced(text: &str) -> Option<String> {
    text.lines().find(|line| line.starts_with("traced for")).map(str::to_owned)
}

/// The first line with this text.
fn place(text: &str, function: &str) -> Option<usize> {
    text.lines().position(|line| line.contains(function))
}

fn is_before(text: &str, first: &str, second: &str) -> bool {
    place(text, first).zip(place(text, second)).is_some_and(|(first, second)| first < second)
}

#[test]
fn sites_stand_in_the_order_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (workload, mut terminal, _) = top_after_go(folder.path());
    let text = terminal.await_screen("big first", |text| is_before(text, "hold_big", "hold_many"));
    let row = |function| text.lines().find(|line| line.contains(function)).unwrap();
    let cells = |function| row(function).split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    assert_eq!(cells("hold_big"), "976.6 KiB 1");
    assert_eq!(cells("hold_many"), "97.7 KiB 1,000");
    let place = format!("hold_big sites.c:{}", line_of("c/sites.c", "big"));
    assert!(row("hold_big").contains(&place), "{text}");
    assert!(text.contains("live 1.0 MiB in 1,001 blocks"), "{text}");
    assert!(text.contains("lost       nothing"), "{text}");
    assert!(text.contains("cost "), "{text}");
    terminal.press("c");
    terminal.await_screen("many first", |text| is_before(text, "hold_many", "hold_big"));
    terminal.press("l");
    terminal.await_screen("big first", |text| is_before(text, "hold_big", "hold_many"));
    // The later site is the youngest: by age it is last.
    let mut workload = workload;
    workload.talk.say("later");
    workload.talk.hear();
    terminal.await_screen("late second", |text| {
        is_before(text, "hold_big", "hold_late") && is_before(text, "hold_late", "hold_many")
    });
    terminal.press("a");
    terminal.await_screen("late last", |text| {
        is_before(text, "hold_big", "hold_late") && is_before(text, "hold_many", "hold_late")
    });
    terminal.press("q");
    assert_eq!(terminal.await_clean_end().code(), Some(0));
    workload.exit();
}

#[test]
fn enter_shows_functions_files_and_source_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (_workload, terminal, _) = top_after_go(folder.path());
    terminal.await_screen("big first", |text| is_before(text, "hold_big", "hold_many"));
    terminal.press("j\r");
    let line = line_of("c/sites.c", "many");
    let text = terminal.await_text("/* SITE many */");
    assert!(text.contains(&format!("workloads/c/sites.c:{line}")), "{text}");
    let source = format!(">{line:>6}          sink = malloc(100); /* SITE many */");
    assert!(text.contains(&source), "{text}");
    assert!(text.contains("#2  97.7 KiB, growth ") && text.contains("      main  "), "{text}");
    terminal.press(ESCAPE);
    terminal.await_text("hold_big");
}

#[test]
fn a_filter_leaves_what_matches() {
    let folder = tempfile::tempdir().unwrap();
    let (_workload, terminal, _) = top_after_go(folder.path());
    terminal.await_text("hold_many");
    terminal.press("/MANY");
    terminal.await_screen("many only", |text| {
        text.contains("/MANY_") && text.contains("hold_many") && !text.contains("hold_big")
    });
    terminal.press("\r");
    terminal.await_screen("the keys", |text| text.contains("/MANY  ?:help"));
    terminal.press(ESCAPE);
    terminal.await_text("hold_big");
    terminal.press("f");
    let text = terminal.await_text("|all 1.0 MiB");
    assert!(text.contains("|hold_big 976.6 KiB"), "{text}");
    terminal.press("?");
    terminal.await_text("outlive-PID-TIME.json");
}

#[test]
fn the_moment_is_exported_also_while_it_is_paused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut workload, mut terminal, before) = top_after_go(folder.path());
    terminal.press(" ");
    terminal.await_text("[paused]");
    workload.talk.say("later");
    let after = Counts::parse(&workload.talk.hear());
    exported(&terminal, folder.path()).assert_exact(before);
    terminal.press(" ");
    terminal.await_text("in 1,003 blocks");
    let report = exported(&terminal, folder.path());
    report.assert_exact(after);
    report.site_in("hold_late").assert_live(2, 600_000);
    terminal.press("q");
    assert_eq!(terminal.await_clean_end().code(), Some(0));
}

/// The report that the view writes to a file, which is taken away.
fn exported(terminal: &Terminal, folder: &Path) -> Report {
    terminal.press("e");
    let text = terminal.await_text("exported to outlive-");
    let line = text.lines().find_map(|line| line.strip_prefix("exported to ")).unwrap();
    let path = folder.join(line.trim());
    let document = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    // The message goes with the next key.
    terminal.press("k");
    terminal.await_screen("the keys", |text| !text.contains("exported to"));
    Report::new(serde_json::from_str(&document).unwrap(), document)
}

#[test]
fn it_fits_the_terminal_whatever_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let (_workload, terminal, _) = top_after_go(folder.path());
    let site = format!("sites.c:{}", line_of("c/sites.c", "big"));
    for (rows, columns) in [(40_u16, 120_u16), (10, 60), (24, 80)] {
        terminal.resize(rows, columns);
        terminal.await_screen("the keys in the last line", |text| {
            let is_last = place(text, "?:help") == Some(usize::from(rows) - 1);
            is_last && text.contains(&site)
        });
    }
}

#[test]
fn the_terminal_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let ends: [fn(&Terminal); 5] = [
        |terminal| terminal.press("q"),
        |terminal| terminal.press(CTRL_C),
        |terminal| terminal.signal(Signal::SIGTERM),
        |terminal| terminal.signal(Signal::SIGINT),
        |terminal| terminal.signal(Signal::SIGHUP),
    ];
    let mut workload = workload();
    for end in ends {
        let mut terminal = top(workload.pid(), folder.path());
        assert!(terminal.is_on_alternate_screen());
        end(&terminal);
        let status = terminal.await_clean_end();
        assert_eq!((status.code(), terminal.text().trim()), (Some(0), ""));
    }
    // Nothing of it is left in the process.
    assert_eq!(workload.go().live_count, 1001);
    assert!(workload.is_running());
}

/// Whatever it does at that moment: start, draw, wait, or read half of a key. Each time it ends, and leaves the process as it was.
#[test]
fn it_ends_with_its_terminal_at_any_moment() {
    const MOMENTS: u64 = 30;
    const KEYS: [&str; 9] = ["j", "/", "f", "m", "?", ESCAPE, "\u{1b}[", "\u{1b}[1;", "\u{1b}[A"];
    let mut workload = workload();
    let mut random = Random(1);
    let mut statuses = BTreeSet::new();
    for moment in 0..MOMENTS {
        let mut command = command(["top", "--exact", "--interval", "10ms"]);
        let mut terminal = Terminal::start(command.arg(workload.pid().to_string()));
        // The first of them are of its start; with a key each 2 ms, the last are some seconds later.
        let bytes = random.below(400 * (moment + 1));
        let heard = await_condition(PATIENCE, || {
            terminal.press(KEYS[random.below(KEYS.len() as u64) as usize]);
            (terminal.heard() as u64 >= bytes).then_some(())
        });
        assert!(heard.is_some(), "it does not draw:\n{}", terminal.text());
        let status = terminal.hang_up();
        // Before it traces, a hang-up ends it at once.
        let is_at_once = status.code() == Some(128 + SIGHUP) || status.signal() == Some(SIGHUP);
        assert!(status.success() || is_at_once, "{status} at {bytes} bytes");
        statuses.insert(status.code());
        code::assert_unchanged(workload.pid());
    }
    assert!(statuses.contains(&Some(0)), "none had begun to trace");
    assert_eq!(workload.go().live_count, 1001);
}

/// As at the far end of a broken connection, before anything notices that it is broken.
#[test]
fn it_ends_when_its_terminal_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut workload = workload();
    let mut terminal = top(workload.pid(), folder.path());
    terminal.stop_reading();
    let writes = |thread: fs::DirEntry| {
        let call = fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        call.starts_with("1 0x1 ")
    };
    let waits = await_condition(PATIENCE, || {
        terminal.press("?f");
        let mut threads = fs::read_dir(format!("/proc/{}/task", terminal.pid())).unwrap();
        threads.any(|thread| writes(thread.unwrap())).then_some(())
    });
    assert!(waits.is_some(), "it never waits for the terminal");
    terminal.signal(Signal::SIGTERM);
    assert_eq!(terminal.await_end().code(), Some(0));
    code::assert_unchanged(workload.pid());
    assert_eq!(workload.go().live_count, 1001);
}

/// The same numbers each time (Steele, Lea, Flood: `SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

#[test]
fn the_view_stays_when_the_process_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (mut workload, mut terminal, _) = top_after_go(folder.path());
    workload.talk.say("later");
    workload.talk.hear();
    workload.exit();
    let text = terminal.await_text("[the process has ended]");
    assert!(text.contains("in 1,003 blocks") && text.contains("hold_late"), "{text}");
    terminal.press("q");
    assert_eq!(terminal.await_clean_end().code(), Some(0));
}

#[test]
fn errors_are_said_on_the_terminal_as_it_was() {
    // PIDs end at 2^22.
    let mut terminal = Terminal::start(&command(["top", "4194305"]));
    assert_eq!(terminal.await_clean_end().code(), Some(4));
    terminal.await_text("error: ");
    terminal.await_text("  do: ");
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let mut workload = workload();
    let [what, why, remedy] = finished(command(["top"]).arg(workload.pid().to_string())).error(2);
    assert_eq!(what, "cannot show a live view");
    assert!(why.contains("is not a terminal"), "{why}");
    assert!(
        remedy.contains(&format!("outlive attach --interval 1s {}", workload.pid())),
        "{remedy}"
    );
    assert!(workload.is_running());
}
