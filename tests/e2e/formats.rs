//! Every export has exactly what was traced, as its own reader sees it.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outlive_tests::browser::Page;
use outlive_tests::compiler::{Build, build, line_of, target_folder};
use outlive_tests::counts::Counts;
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::workload::Workload;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the functions of the workload hold, largest first.
const HELD: [(&str, u64); 3] =
    [("hold_big", 1_000_000), ("hold_late", 600_000), ("hold_many", 100_000)];

/// A workload's whole run in one format, and the workload's own counts.
struct Exported {
    _folder: TempDir,
    file: PathBuf,
    own: Counts,
}

/// Traces the workload exactly, straight into the format.
fn traced(format: &str, name: &str) -> Exported {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(name);
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let mut command = command(["attach", "--exact", "-f", format, "-o"]);
    let outlive = Outlive::start(command.arg(&file).arg(workload.pid().to_string()));
    outlive.await_tracing(workload.pid());
    workload.go();
    workload.talk.say("later");
    let own = Counts::parse(&workload.talk.hear());
    outlive.stop().assert_status(0);
    workload.exit();
    assert_eq!(own.live_bytes, HELD.iter().map(|held| held.1).sum::<u64>());
    Exported { _folder: folder, file, own }
}

impl Exported {
    fn text(&self) -> String {
        read(&self.file)
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn convert(file: &Path, words: &[&str]) -> String {
    finished(command(["report"]).args(words).arg(file)).with_status(0).stdout
}

/// The page that a file is converted to.
fn page_of(file: &Path) -> Page {
    let page = file.with_extension("html");
    fs::write(&page, convert(file, &["-f", "html"])).expect("a file");
    Page::open(&page)
}

#[test]
fn folded_stacks_hold_what_was_traced() {
    let exported = traced("folded", "heap.folded");
    let text = exported.text();
    let sum: u64 =
        text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    assert_eq!(sum, exported.own.live_bytes, "{text}");
    for (function, bytes) in HELD {
        let end = format!(";main;{function} {bytes}");
        assert!(text.lines().any(|line| line.ends_with(&end)), "{text}");
    }
}

#[test]
fn the_numbers_are_those_that_sites_are_sorted_by() {
    let exported = traced("pprof", "heap.pb.gz");
    let sum = |sort: &str| {
        let text = convert(&exported.file, &["-f", "folded", "-s", sort]);
        text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum::<u64>()
    };
    assert_eq!(sum("live"), exported.own.live_bytes);
    assert_eq!(sum("count"), exported.own.live_count);
    assert_eq!(sum("allocated"), exported.own.allocated_bytes);
}

#[test]
fn a_spreadsheet_reads_the_csv() {
    let exported = traced("csv", "heap.csv");
    let script =
        "import csv, json, sys; print(json.dumps(list(csv.DictReader(open(sys.argv[1])))))";
    let output = Command::new("python3").args(["-c", script]).arg(&exported.file).output();
    let output = output.expect("python3 runs");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("rows as JSON");
    let number = |row: &Value, name: &str| {
        row[name]
            .as_str()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or_else(|| panic!("{row}"))
    };
    let sum = |name: &str| rows.iter().map(|row| number(row, name)).sum::<u64>();
    assert_eq!(sum("live_bytes"), exported.own.live_bytes);
    assert_eq!(sum("live_count"), exported.own.live_count);
    assert_eq!(sum("allocated_bytes"), exported.own.allocated_bytes);
    assert_eq!(sum("allocated_count"), exported.own.allocated_count);
    let big = rows.iter().find(|row| row["function"] == "hold_big").expect("a row of hold_big");
    assert_eq!(number(big, "line"), line_of("c/sites.c", "big"));
}

#[test]
fn the_flame_graph_is_drawn_with_exact_numbers() {
    let exported = traced("flamegraph", "heap.svg");
    let mut page = Page::open(&exported.file);
    let titles =
        page.evaluate("[...document.querySelectorAll('g title')].map((t) => t.textContent)");
    let titles: Vec<&str> =
        titles.as_array().expect("titles").iter().filter_map(Value::as_str).collect();
    assert!(titles.contains(&"all (1,700,000 bytes, 100%)"), "{titles:?}");
    for start in
        ["hold_big (1,000,000 bytes,", "hold_late (600,000 bytes,", "hold_many (100,000 bytes,"]
    {
        assert!(titles.iter().any(|title| title.starts_with(start)), "{start}: {titles:?}");
    }
}

#[test]
fn the_flame_graph_of_a_difference_is_red_where_it_grew() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, content: &str| {
        let file = folder.path().join(name);
        fs::write(&file, content).expect("a file");
        file
    };
    let before = file("before", "main;grows 100\nmain;shrinks 100\n");
    let after = file("after", "main;grows 300\nmain;shrinks 50\n");
    let stacks =
        finished(command(["diff", "-f", "folded"]).arg(&before).arg(&after)).with_status(0);
    assert_eq!(stacks.stdout, "main;grows 100 300\nmain;shrinks 100 50\n");
    let svg = folder.path().join("diff.svg");
    let draw = ["diff", "-f", "flamegraph", "-o"];
    finished(command(draw).arg(&svg).arg(&before).arg(&after)).assert_status(0);
    let mut page = Page::open(&svg);
    let mut colour = |name: &str| {
        let rect = format!(
            "[...document.querySelectorAll('g')].find((g) => g.querySelector('title')?.textContent.startsWith({name:?})).querySelector('rect').getAttribute('fill')"
        );
        let rgb = page.text(&rect);
        let parts = rgb.trim_start_matches("rgb(").trim_end_matches(')').split(',');
        let parts: Vec<u32> = parts.map(|part| part.trim().parse().expect("a colour")).collect();
        (parts[0], parts[2])
    };
    let ((red, blue), (less_red, more_blue)) = (colour("grows ("), colour("shrinks ("));
    assert!(red > blue && more_blue > less_red, "{red} {blue} {less_red} {more_blue}");
}

#[test]
fn the_viewer_of_dhat_shows_what_was_traced() {
    let exported = traced("dhat", "dhat-heap.json");
    let viewer = target_folder().join("tools/formats/root/usr/libexec/valgrind/dh_view.html");
    let mut page = Page::open(&viewer.canonicalize().expect("the viewer of DHAT was fetched"));
    page.choose_file("input[type=file]", &exported.file);
    page.await_true("document.body.innerText.includes('hold_many')");
    // It starts with the order by blocks, and leaves out what is little in it.
    let order = "(() => { const s = document.querySelector('select'); s.selectedIndex = 0; s.dispatchEvent(new Event('change')); })()";
    page.evaluate(order);
    page.await_true("document.body.innerText.includes('hold_big')");
    let text = page.text("document.body.innerText");
    for expected in ["1,700,000 bytes", "in 1,003 blocks", "1,000,000 bytes", "600,000 bytes"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.contains(&format!("sites.c:{}", line_of("c/sites.c", "big"))), "{text}");
}

#[test]
fn speedscope_has_a_profile_for_each_number() {
    let exported = traced("speedscope", "heap.speedscope.json");
    let file: Value = serde_json::from_str(&exported.text()).expect("JSON");
    assert_eq!(file["$schema"], "https://www.speedscope.app/file-format-schema.json");
    let frames = file["shared"]["frames"].as_array().expect("frames");
    let profiles = file["profiles"].as_array().expect("profiles");
    let own = exported.own;
    let expected = [own.live_bytes, own.live_count, own.allocated_bytes, own.allocated_count];
    assert_eq!(profiles.len(), expected.len());
    for (profile, expected) in profiles.iter().zip(expected) {
        let weights = profile["weights"].as_array().expect("weights");
        let samples = profile["samples"].as_array().expect("samples");
        assert_eq!(weights.iter().filter_map(Value::as_u64).sum::<u64>(), expected);
        assert_eq!((&profile["startValue"], &profile["endValue"]), (&0.into(), &expected.into()));
        assert_eq!(samples.len(), weights.len());
        for id in samples.iter().flat_map(|sample| sample.as_array().expect("a stack")) {
            assert!(id.as_u64().is_some_and(|id| id < frames.len() as u64), "{id}");
        }
    }
    let leaf = profiles[0]["samples"][0].as_array().and_then(|stack| stack.last()?.as_u64());
    let leaf = &frames[usize::try_from(leaf.expect("a leaf")).expect("an index")];
    assert_eq!(
        (&leaf["name"], &leaf["line"]),
        (&"hold_big".into(), &line_of("c/sites.c", "big").into())
    );
}

/// The names and numbers are on a canvas but in one of its views, which is a table.
#[test]
fn the_viewer_of_speedscope_shows_what_was_traced() {
    let exported = traced("speedscope", "heap.speedscope.json");
    // What its own command line makes of a file.
    let script = exported.file.with_extension("js");
    let loads = format!("speedscope.loadFileFromBase64('heap', btoa({:?}))", exported.text());
    fs::write(&script, loads).expect("a file");
    let viewer = target_folder().join("tools/speedscope/package/dist/release/index.html");
    let viewer = viewer.canonicalize().expect("the viewer of speedscope was fetched");
    let address = format!("{}#localProfilePath={}", viewer.display(), script.display());
    let mut page = Page::open(Path::new(&address));
    page.await_true("document.body.innerText.includes('Sandwich')");
    page.click("[...document.querySelectorAll('div')].filter((d) => d.innerText?.endsWith('Sandwich') && d.children.length < 2).pop()");
    page.await_true("document.body.innerText.includes('hold_many')");
    let text = page.text("document.body.innerText");
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    // Total, own, function.
    for row in [
        "976.56 KB (59%) 976.56 KB (59%) hold_big",
        "585.94 KB (35%) 585.94 KB (35%) hold_late",
        "97.66 KB (5.9%) 97.66 KB (5.9%) hold_many",
        "1.62 MB (100%) 0 B (<0.01%) main",
    ] {
        assert!(text.contains(row), "{row}: {text}");
    }
}

/// The value that a frame of the page shows.
fn frame(name: &str) -> String {
    format!("[...document.querySelectorAll('.frame')].find((f) => f.dataset.name === {name:?})")
}

fn value(page: &mut Page, name: &str) -> u64 {
    let text = page.text(&format!("{}.dataset.value", frame(name)));
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn count(page: &mut Page, selector: &str) -> u64 {
    page.evaluate(&format!("document.querySelectorAll({selector:?}).length"))
        .as_u64()
        .expect("a count")
}

#[test]
fn the_page_shows_searches_zooms_and_switches() {
    let exported = traced("html", "heap.html");
    let mut page = Page::open(&exported.file);
    assert_eq!(value(&mut page, "all"), exported.own.live_bytes);
    for (function, bytes) in HELD {
        assert_eq!(value(&mut page, function), bytes);
    }
    let first = page.text("document.querySelector('#sites tr').innerText");
    let line = format!("sites.c:{}", line_of("c/sites.c", "big"));
    assert!(first.contains("hold_big") && first.contains(&line), "{first}");

    // Search: what matches is marked, and counted once.
    page.click("document.getElementById('search')");
    page.type_text("hold_(late|many)");
    assert_eq!(count(&mut page, ".frame.matched"), 2);
    assert_eq!(count(&mut page, "#sites tr.matched"), 2);
    let matched = page.text("document.getElementById('matched').textContent");
    assert!(matched.contains("700,000 bytes") && matched.contains("41.18 %"), "{matched}");

    // Zoom: the frame takes the whole width, its callers stay, others go; and back.
    page.click(&frame("hold_late"));
    page.await_true(&format!("{}.style.width === '100%'", frame("hold_late")));
    assert_eq!(page.evaluate(&format!("{} === undefined", frame("hold_big"))), Value::Bool(true));
    assert_eq!(value(&mut page, "main"), exported.own.live_bytes);
    page.click("document.getElementById('reset')");
    assert_eq!(value(&mut page, "hold_big"), 1_000_000);

    // Another number.
    page.click("document.querySelector('[value=count]')");
    assert_eq!(value(&mut page, "all"), exported.own.live_count);
    assert_eq!(value(&mut page, "hold_many"), 1000);
    page.click("document.querySelector('[value=allocated]')");
    assert_eq!(value(&mut page, "all"), exported.own.allocated_bytes);
    page.click("document.querySelector('[value=live]')");

    // A flame grows upwards, an icicle downwards.
    let top = |page: &mut Page, name: &str| {
        page.evaluate(&format!("parseInt({}.style.top)", frame(name))).as_i64().expect("a place")
    };
    assert!(top(&mut page, "all") > top(&mut page, "hold_big"));
    page.click("document.querySelector('[value=icicle]')");
    assert!(top(&mut page, "all") < top(&mut page, "hold_big"));

    // A row of the table zooms to its stack.
    page.click("document.querySelector('#sites tr')");
    page.await_true(&format!("{}.style.width === '100%'", frame("hold_big")));

    let colour = "getComputedStyle(document.body).backgroundColor";
    page.prefer("dark");
    let dark = page.text(colour);
    page.prefer("light");
    let light = page.text(colour);
    assert_ne!(dark, light, "it follows the system");
    page.click("document.getElementById('theme')");
    assert_eq!(page.text(colour), dark, "and the person");

    let requests = page.requests();
    assert!(
        requests.iter().all(|r| r.starts_with("file:") || r.starts_with("data:")),
        "{requests:?}"
    );
}

/// The page of a recording in which the program was started anew.
#[test]
fn the_page_of_a_recording_shows_what_was_held_when() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recording = folder.path().join("svc.outlive");
    // A program of its own: another of the same program would be taken for its restart.
    let program = folder.path().join("sites");
    fs::copy(build("c/sites.c", Build::Debug), &program).expect("a copy");
    let workload = || Workload::start(&program, &[]);
    let mut before = workload();
    let mut record = command(["record", "--exact", "--every", "20ms", "-o"]);
    let outlive = Outlive::start(record.arg(&recording).arg(before.pid().to_string()));
    let await_recorded = |pid: u32| {
        let start = format!("outlive: recording {pid} ");
        outlive.await_error_line(|line| line.starts_with(&start), &start);
    };
    await_recorded(before.pid());
    before.go();
    await_held(&recording, 1_100_000);
    before.talk.say("later");
    before.talk.hear();
    await_held(&recording, 1_700_000);
    let first = before.pid();
    before.exit();
    let mut after = workload();
    await_recorded(after.pid());
    after.go();
    await_held(&recording, 1_100_000);
    outlive.stop().assert_status(0);
    let restart = format!("PID {first}, then {}", after.pid());

    let mut page = page_of(&recording);
    let line = |part: &str| format!("data.timelines[0].{part}");
    assert_eq!(page.evaluate(&line("live.at(-1)")), 1_100_000);
    assert_eq!(page.evaluate(&format!("Math.max(...{})", line("live"))), 1_700_000);
    let moments = page.text("document.getElementById('moments').innerText");
    assert!(moments.contains(&restart), "{moments}");
    assert_eq!(count(&mut page, "#totals .break"), 1);

    // The total, where it is pointed at.
    page.point_at("document.querySelector('#totals svg')", 0.999);
    let told = page.text("document.querySelector('#totals output').textContent");
    assert!(told.contains("(1,100,000 bytes)"), "{told}");

    // A site's line: the largest one's, another's while its row is pointed at, and for good with a click.
    let row = |name: &str| {
        format!(
            "[...document.querySelectorAll('#sites tr')].find((r) => r.innerText.includes({name:?}))"
        )
    };
    let title = "document.querySelector('#site figcaption').innerText";
    assert!(page.text(title).starts_with("hold_big: live bytes"));
    page.point_at(&row("hold_many"), 0.9);
    assert!(page.text(title).starts_with("hold_many: live bytes"));
    page.click(&row("hold_big"));
    page.point_at("document.querySelector('#site svg')", 0.999);
    let told = page.text("document.querySelector('#site output').textContent");
    assert!(told.contains("(1,000,000 bytes)"), "{told}");
    assert_eq!(count(&mut page, "#sites tr .trend"), 2, "each row has a small one");

    let stroke = "getComputedStyle(document.querySelector('#totals path')).stroke";
    page.prefer("dark");
    let dark = page.text(stroke);
    page.prefer("light");
    assert_ne!(page.text(stroke), dark);
    let requests = page.requests();
    assert!(
        requests.iter().all(|r| r.starts_with("file:") || r.starts_with("data:")),
        "{requests:?}"
    );
}

/// Waits until the last snapshot of a recording holds so much.
fn await_held(recording: &Path, live_bytes: u64) {
    let held = await_condition(PATIENCE, || {
        let reports = finished(command(["report", "-f", "json"]).arg(recording));
        let is_held =
            reports.status.success() && reports.report().number("/totals/live_bytes") == live_bytes;
        is_held.then_some(())
    });
    assert!(held.is_some(), "the recording never holds {live_bytes}");
}

#[test]
fn the_page_of_a_run_with_intervals_has_a_timeline() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("page.html");
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let mut attach = command(["attach", "--exact", "-i", "10ms", "-f", "html", "-vv", "-o"]);
    let outlive = Outlive::start(attach.arg(&file).arg(workload.pid().to_string()));
    outlive.await_tracing(workload.pid());
    outlive.await_error_line(|line| line.contains("a report of the page"), "an interval");
    let own = workload.go();
    outlive.stop().assert_status(0);
    let mut page = Page::open(&file);
    assert_eq!(page.evaluate("data.timelines[0].live.at(-1)"), own.live_bytes);
    let bytes = "data.sites.map((site) => site.history.at(-1)).reduce((a, b) => a + b)";
    assert_eq!(page.evaluate(bytes), own.live_bytes);
    assert_eq!(page.evaluate("document.getElementById('timeline').hidden"), false);
    // A report of an instant has none.
    let instant = traced("html", "heap.html");
    let mut page = Page::open(&instant.file);
    assert_eq!(page.evaluate("document.getElementById('timeline').hidden"), true);
}

#[test]
fn the_page_of_reports_in_json_has_the_timeline_that_they_make() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let documents = folder.path().join("heap.json");
    let mut workload = Workload::start(&build("c/sites.c", Build::Debug), &[]);
    let mut attach = command(["attach", "--exact", "-i", "10ms", "-f", "json", "-o"]);
    let outlive = Outlive::start(attach.arg(&documents).arg(workload.pid().to_string()));
    outlive.await_tracing(workload.pid());
    let lines = || fs::read_to_string(&documents).map_or(0, |text| text.lines().count());
    await_condition(PATIENCE, || (lines() > 2).then_some(())).expect("intervals are written");
    let own = workload.go();
    outlive.stop().assert_status(0);
    let mut page = page_of(&documents);
    assert_eq!(page.evaluate("data.timelines.map((one) => one.live.length)"), json!([lines()]));
    assert_eq!(page.evaluate("data.timelines[0].live.at(-1)"), own.live_bytes);
}

/// Names come from the target: they are never markup.
#[test]
fn names_in_the_page_are_text() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stacks = folder.path().join("hostile.folded");
    let hostile =
        "main;<img src=x onerror=window.harmed=1></script><script>window.harmed=1</script>";
    fs::write(&stacks, format!("{hostile} 10\n")).expect("a file");
    let mut page = page_of(&stacks);
    assert_eq!(value(&mut page, "all"), 10);
    page.click("document.querySelector('#sites tr')");
    assert_eq!(page.evaluate("window.harmed === undefined"), Value::Bool(true));
    assert_eq!(count(&mut page, "img"), 0);
}
