//! What the report says and in which order: filters, sorting, intervals, names, and every key of the contract.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use outlive_tests::compiler::{Build, build, line_of};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::patience::PATIENCE;
use outlive_tests::report::Report;
use outlive_tests::terminal::Terminal;
use outlive_tests::workload::Workload;
use serde_json::Value;

/// Section 5 of the design: every key of a report.
const KEYS: &str = "
    schema target window sampling totals loss memory sites
    target.pid target.comm target.exe target.build_id target.kind target.go_version target.container_id target.pod
    target.allocators target.symbols
    window.start window.end window.seconds
    sampling.mode sampling.mean_bytes
    totals.live_bytes totals.live_count totals.allocated_bytes totals.allocated_count totals.freed_bytes
    totals.freed_count totals.inherited_bytes
    loss.lost_events loss.untracked_allocations loss.truncated_stacks loss.incomplete_stacks loss.notices
    memory.rss_bytes memory.limit_bytes memory.breakdown
    memory.breakdown.live_heap memory.breakdown.allocator_retained memory.breakdown.stacks memory.breakdown.file
    memory.breakdown.other
    sites.0.rank sites.0.live_bytes sites.0.live_bytes_ci95 sites.0.live_count sites.0.allocated_bytes
    sites.0.allocated_count sites.0.freed_count sites.0.oldest_age_s sites.0.median_age_s sites.0.age_histogram_s
    sites.0.growth_bytes_per_s sites.0.growth_ci95 sites.0.verdict sites.0.verdict_reason sites.0.type
    sites.0.retained_by sites.0.frames
    sites.0.frames.0.function sites.0.frames.0.file sites.0.frames.0.line sites.0.frames.0.module
    sites.0.frames.0.offset sites.0.frames.0.inlined";

/// Traces the workload with the four sites, exactly, with further arguments, until it has told its counts.
fn sites_report(further: &[&str]) -> Report {
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let mut arguments = vec!["--exact"];
    arguments.extend(further);
    let outlive = Outlive::attach(&[workload.pid()], &arguments);
    workload.go();
    workload.talk.say("later");
    workload.talk.hear();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report
}

#[test]
fn json_has_every_key_of_the_contract() {
    let report = sites_report(&[]);
    for key in KEYS.split_whitespace() {
        report.value(&format!("/{}", key.replace('.', "/")));
    }
    assert_eq!(report.text("/schema"), "outlive/1");
    assert_eq!(report.text("/target/kind"), "native");
    assert_eq!(report.text("/target/comm"), "sites");
    assert_eq!(report.text("/target/symbols"), "full");
    assert!(report.text("/target/exe").ends_with("/sites"), "{report}");
    assert!(report.text("/target/allocators/0").starts_with("glibc 2."), "{report}");
    assert!(report.number("/memory/rss_bytes") > 100_000, "{report}");
    for end in ["start", "end"] {
        let time = report.text(&format!("/window/{end}"));
        assert!(
            time.len() >= 20 && time.as_bytes()[10] == b'T',
            "{time} is no RFC 3339 time; {report}"
        );
    }
    for (index, class) in [1, 10, 60, 600, 3600, 86_400].into_iter().enumerate() {
        assert_eq!(
            report.number(&format!("/sites/0/age_histogram_s/{index}/0")),
            class,
            "{report}"
        );
    }
    assert_eq!(report.number("/sites/0/age_histogram_s/0/1"), 1, "one young block; {report}");
}

#[test]
fn sites_hold_exactly_what_their_functions_allocated() {
    let report = sites_report(&["--top", "100"]);
    let expected = [
        ("big", 1, 1_000_000, 0),
        ("late", 2, 600_000, 0),
        ("many", 1000, 100_000, 0),
        ("churn", 2000, 0, 2000),
    ];
    for (rank, (name, allocated, live_bytes, freed)) in expected.into_iter().enumerate() {
        let function = if name == "churn" { name.to_owned() } else { format!("hold_{name}") };
        let site = report.site_in(&function);
        site.assert_live(allocated - freed, live_bytes);
        assert_eq!(site.number("allocated_count"), allocated, "{report}");
        assert_eq!(site.number("freed_count"), freed, "{report}");
        assert_eq!(site.number("rank"), rank as u64 + 1, "sorted by live bytes; {report}");
        site.assert_frame(0, &function, "sites.c", line_of("c/sites.c", name));
        site.assert_frame_function(1, "main");
    }
}

#[test]
fn sort_puts_the_sites_in_the_order_asked_for() {
    let first_two = |key| {
        let report = sites_report(&["--sort", key]);
        report.functions()[..2].iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(first_two("live"), ["hold_big", "hold_late"]);
    assert_eq!(first_two("count"), ["hold_many", "hold_late"]);
    assert_eq!(first_two("allocated"), ["churn", "hold_big"]);
    assert_eq!(first_two("age"), ["hold_big", "hold_many"]);
}

#[test]
fn top_keeps_the_first_sites_and_says_how_many_it_omitted() {
    let report = sites_report(&["--top", "2"]);
    assert_eq!(report.functions(), ["hold_big", "hold_late"], "{report}");
    let omitted = report.number("/sites_omitted");
    assert!(
        (1..=2).contains(&omitted),
        "hold_many, and churn unless sites without live blocks are left out; {report}"
    );
    assert_eq!(report.totals().live_count, 1003, "the totals are of all sites; {report}");
}

#[test]
fn size_filters_count_only_blocks_within_them() {
    let report = sites_report(&["--min-size", "300000", "--max-size", "300000"]);
    let live: Vec<_> =
        report.sites().into_iter().filter(|site| site.number("live_count") > 0).collect();
    assert_eq!(live.len(), 1, "{report}");
    assert_eq!(live[0].function(), "hold_late", "{report}");
    live[0].assert_live(2, 600_000);

    let report = sites_report(&["--min-size", "101"]);
    assert!(
        report
            .sites()
            .iter()
            .all(|site| site.function() != "hold_many" || site.number("live_count") == 0),
        "{report}"
    );
    report.site_in("hold_big").assert_live(1, 1_000_000);

    let report = sites_report(&["--max-size", "100"]);
    report.site_in("hold_many").assert_live(1000, 100_000);
    assert_eq!(report.first_site().function(), "hold_many", "{report}");
}

/// The condition awaited is time itself: the first blocks turn old, an interval report shows it, and only then are
/// the later ones allocated.
#[test]
fn older_leaves_out_what_is_young() {
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let outlive =
        Outlive::attach(&[workload.pid()], &["--exact", "--older", "3s", "--interval", "500ms"]);
    workload.go();
    let is_old = |text: &str| text.contains("\"live_bytes\":1000000,").then_some(());
    let old = outlive.talk.output().await_match(PATIENCE, is_old);
    old.expect("a block that is three seconds old is in an interval report");
    workload.talk.say("later");
    workload.talk.hear();
    let report = outlive.stop().with_status(0).report();
    workload.exit();

    report.site_in("hold_big").assert_live(1, 1_000_000);
    report.site_in("hold_many").assert_live(1000, 100_000);
    assert!(
        report
            .sites()
            .iter()
            .all(|site| site.function() != "hold_late" || site.number("live_count") == 0),
        "{report}"
    );
    let site = report.site_in("hold_big");
    for age in ["oldest_age_s", "median_age_s"] {
        let seconds = site.json[age].as_f64().unwrap_or_default();
        assert!((3.0..60.0).contains(&seconds), "{age} is {seconds}; {report}");
    }
}

#[test]
fn a_report_comes_every_interval_and_a_last_one_at_the_end() {
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact", "--interval", "200ms"]);
    let three = |text: &str| (text.matches("\"schema\"").count() >= 3).then_some(());
    outlive.talk.output().await_match(PATIENCE, three).expect("three reports come by themselves");
    let own = workload.go();
    let finished = outlive.stop().with_status(0);
    workload.talk.say("later");
    workload.talk.hear();
    workload.exit();
    let reports = finished.reports();
    assert!(reports.len() >= 4, "{finished}");
    let seconds: Vec<f64> =
        reports.iter().filter_map(|report| report.value("/window/seconds").as_f64()).collect();
    assert!(seconds.is_sorted(), "the window grows: {seconds:?}");
    assert_eq!(reports[0].number("/totals/allocated_count"), 0, "nothing before `go`; {finished}");
    finished.report().assert_exact(own);
}

#[test]
fn tracing_ends_by_itself_after_the_duration() {
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact", "--duration", "2s"]);
    let own = workload.go();
    let finished = outlive.finish_within(Duration::from_secs(30)).with_status(0);
    finished.report().assert_exact(own);
    let seconds = finished.report().value("/window/seconds").as_f64().unwrap_or_default();
    assert!((2.0..10.0).contains(&seconds), "{seconds}");
    workload.talk.say("later");
    workload.talk.hear();
    workload.exit();
}

#[test]
fn inlined_functions_are_frames_with_their_lines() {
    const SOURCE: &str = "c/inlined.c";
    let mut workload = Workload::start(&build(SOURCE, Build::Optimised), &[]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    let site = report.first_site();
    for (index, function) in ["innermost", "middle", "outermost"].into_iter().enumerate() {
        site.assert_frame(index, function, "inlined.c", line_of(SOURCE, function));
        assert_eq!(site.frame(index)["inlined"], Value::Bool(index < 2), "{report}");
    }
}

#[test]
fn cpp_names_are_demangled() {
    const SOURCE: &str = "cpp/shop.cpp";
    let mut workload = Workload::start(&build(SOURCE, Build::Debug), &[]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    let site = report.first_site();
    site.assert_live(5, 2000);
    site.assert_frame(
        0,
        "shop::Cart<int>::add(unsigned long)",
        "shop.cpp",
        line_of(SOURCE, "shop"),
    );
}

#[test]
fn rust_names_are_demangled() {
    const SOURCE: &str = "rust/pantry.rs";
    let mut workload = Workload::start(&build(SOURCE, Build::Debug), &[]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    for (function, site, live) in
        [("pantry::shelf::stock", "stock", 64_000), ("pantry::shelf::Jar::boxed", "boxed", 640)]
    {
        let found = report.sites().into_iter().find(|site| site.number("live_bytes") == live);
        let found = found.unwrap_or_else(|| panic!("no site holds {live} bytes; {report}"));
        found.assert_live(10, live);
        let frames = found.json["frames"].as_array().cloned().unwrap_or_default();
        let index = frames.iter().position(|frame| frame["function"] == function);
        let index = index
            .unwrap_or_else(|| panic!("{function} is in no frame of {}; {report}", found.json));
        found.assert_frame(index, function, "pantry.rs", line_of(SOURCE, site));
    }
}

#[test]
fn the_text_report_names_the_largest_site_first_with_its_line() {
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let pid = workload.pid().to_string();
    let outlive = Outlive::start(&mut command(["attach", "--exact", "--format", "text", &pid]));
    outlive.await_tracing(workload.pid());
    workload.go();
    let finished = outlive.stop().with_status(0);
    workload.talk.say("later");
    workload.talk.hear();
    workload.exit();
    let text = &finished.stdout;
    let position =
        |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?}; {finished}"));
    assert!(position("hold_big") < position("hold_many"), "{finished}");
    position(&format!("sites.c:{}", line_of("c/sites.c", "big")));
    assert!(!text.contains('\u{1b}'), "no colour where there is no terminal; {finished}");
}

/// Rows of a terminal that shows all of a report.
const ROWS: u16 = 200;

/// Traces a workload with long and wide names from a terminal of 80 columns, which Ctrl-C ends; what is on it then.
fn traced_on_terminal(adjust: impl FnOnce(&mut Command)) -> Terminal {
    let mut workload = Workload::start(&build("cpp/names.cpp", Build::Debug), &[]);
    let pid = workload.pid().to_string();
    let mut command = command(["attach", "--exact", &pid]);
    adjust(&mut command);
    let mut terminal = Terminal::of_rows(ROWS, &command);
    terminal.await_text(&format!("outlive: tracing {pid}"));
    workload.go();
    terminal.press("\u{3}");
    assert_eq!(terminal.await_clean_end().code(), Some(0), "{}", terminal.text());
    terminal.await_text("cost  ");
    workload.exit();
    terminal
}

fn assert_fits(terminal: &Terminal) {
    assert_eq!(terminal.wrapped(), [""; 0], "{}", terminal.text());
}

#[test]
fn reports_fit_on_a_terminal_of_80_columns_and_have_colour_only_there() {
    let terminal = traced_on_terminal(|_| ());
    assert_fits(&terminal);
    assert!(terminal.has_colour(), "{}", terminal.text());
    let text = terminal.text();
    for site in ["remember", "wide"] {
        let place = format!("names.cpp:{}", line_of("cpp/names.cpp", site));
        assert!(text.lines().take(12).any(|line| line.contains(&place)), "{place}: {text}");
    }
    for start in ["lost  ", "inherited  ", "cost  "] {
        assert_eq!(text.lines().filter(|line| line.starts_with(start)).count(), 1, "{text}");
    }
    let without = [
        traced_on_terminal(|command| _ = command.env("NO_COLOR", "1")),
        traced_on_terminal(|command| _ = command.args(["--color", "never"])),
    ];
    for terminal in without {
        assert_fits(&terminal);
        assert!(!terminal.has_colour(), "{}", terminal.text());
    }
}

#[test]
fn files_are_shown_in_80_columns_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    for (name, source) in [("before.json", "c/sites.c"), ("after.json", "cpp/names.cpp")] {
        let mut workload = Workload::start(&build(source, Build::Debug), &[]);
        let arguments = ["--exact", "--output", &file(name).display().to_string()];
        let outlive = Outlive::attach(&[workload.pid()], &arguments);
        workload.go();
        outlive.stop().assert_status(0);
    }
    let (before, after) = (file("before.json"), file("after.json"));
    let profile = file("after.pb.gz");
    let convert = ["report", "--format", "pprof", "--output"];
    finished(command(convert).arg(&profile).arg(&after)).assert_status(0);
    let commands: [(&str, Vec<&Path>); 4] = [
        ("report", vec![&after]),
        ("report", vec![&profile]),
        ("diff", vec![&before, &after]),
        ("list", vec![&after, Path::new(".")]),
    ];
    for (word, arguments) in commands {
        let mut shown = command([word]);
        let mut terminal = Terminal::of_rows(ROWS, shown.args(&arguments));
        assert_eq!(terminal.await_clean_end().code(), Some(0), "{}", terminal.text());
        terminal.await_text("Registry::remember");
        assert_fits(&terminal);
        assert!(terminal.has_colour(), "{word}: {}", terminal.text());
        let piped = finished(command([word]).args(&arguments)).with_status(0);
        assert!(!piped.stdout.contains('\u{1b}'), "{piped}");
        let forced = finished(command([word, "--color", "always"]).args(&arguments));
        assert!(forced.with_status(0).stdout.contains("\u{1b}[1m"), "{word}");
    }
}
