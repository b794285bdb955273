//! `outlive list`: every line holds what it holds, whatever the file is of, and its source is the one that debug information names.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use outlive_tests::compiler::{self, Build, line_of, sources};
use outlive_tests::counts::Counts;
use outlive_tests::golang::build::{self, Profiler, build};
use outlive_tests::golang::toolchains::{Toolchain, chosen, with_each};
use outlive_tests::golang::workload::GoWorkload;
use outlive_tests::listing::{Listing, assert_same_in_pprof};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::pprof::proto::{Function, Line, Location, Profile, Sample, ValueType};
use outlive_tests::workload::Workload;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

const LISTED: &str = "cpp/listed.cpp";
const TAKE: &str = "listed::Pool<char>::take(unsigned long)";
const WALK: &str = "listed::walk(int)";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Traces a workload exactly, from its first allocation to its counts; its counts and what was written.
fn traced(program: &Path, folder: &TempDir, format: &str) -> (Counts, PathBuf) {
    let mut workload = Workload::start(program, &[]);
    let file = folder.path().join(format!("heap.{format}"));
    let mut command = command(["attach", "--exact", "-n", "0", "-f", format, "-o"]);
    let outlive = Outlive::start(command.arg(&file).arg(workload.pid().to_string()));
    outlive.await_tracing(workload.pid());
    let own = workload.go();
    outlive.stop().assert_status(0);
    (own, file)
}

/// Live, allocated and freed bytes.
fn bytes(sum: &Value) -> [u64; 3] {
    ["live_bytes", "allocated_bytes", "freed_bytes"]
        .map(|key| sum[key].as_u64().unwrap_or_else(|| panic!("no {key}: {sum}")))
}

fn assert_lines_of_listed(listing: &Listing) {
    let line = |function: &str, site: &str| {
        let line = listing.line(function, line_of(LISTED, site));
        assert!(
            line["text"].as_str().is_some_and(|text| text.contains(&format!("SITE {site}"))),
            "{line}"
        );
        (bytes(&line["own"]), bytes(&line["cumulative"]))
    };
    let none = [0, 0, 0];
    assert_eq!(line(TAKE, "take"), ([3500, 4000, 500], [3500, 4000, 500]));
    let pool = |name: &str| format!("listed::{name}(listed::Pool<char>&)");
    assert_eq!(line(&pool("keep"), "keep"), (none, [3000, 3000, 0]));
    assert_eq!(line(&pool("churn"), "freed"), (none, [0, 500, 500]));
    assert_eq!(line(&pool("churn"), "kept"), (none, [500, 500, 0]));
    assert_eq!(line(WALK, "walk"), ([40, 40, 0], [40, 40, 0]));
    assert_eq!(line(WALK, "again"), (none, [30, 30, 0]), "a stack counts once for a line");
    assert_eq!(line("main", "first"), (none, [40, 40, 0]));
    assert_eq!(bytes(&listing.function("main")["cumulative"]), [3540, 4040, 500]);
    assert_eq!(bytes(&listing.function(WALK)["cumulative"]), [40, 40, 0]);
}

#[test]
fn lines_hold_exactly_what_they_allocated_inlined_or_not_and_as_pprof_says() {
    let folder = folder();
    let program = compiler::build(LISTED, Build::Optimised);
    let (own, file) = traced(&program, &folder, "pprof");
    assert_eq!((own.live_bytes, own.allocated_bytes, own.freed_bytes), (3540, 4040, 500));
    let listing = Listing::of(&file, ".", &[]);
    assert_lines_of_listed(&listing);
    for (kind, sample_type) in [("live_bytes", "inuse_space"), ("allocated_bytes", "alloc_space")] {
        assert_same_in_pprof(&listing.by_line(kind), sample_type, &file);
    }
}

#[test]
fn reports_in_json_and_recordings_are_listed_alike() {
    let folder = folder();
    let program = compiler::build(LISTED, Build::Optimised);
    let (_, file) = traced(&program, &folder, "json");
    assert_lines_of_listed(&Listing::of(&file, "listed::|main", &[]));
    let report = finished(command(["report", "-f", "json"]).arg(&file)).with_status(0).report();
    assert_eq!(report.totals().live_bytes, 3540, "{report}");

    let recording = folder.path().join("svc.outlive");
    let mut workload = Workload::start(&program, &[]);
    let mut command = command(["record", "--exact", "--every", "1h", "-o"]);
    let outlive = Outlive::start(command.arg(&recording).arg(workload.pid().to_string()));
    let start = format!("outlive: recording {} ", workload.pid());
    outlive.await_error_line(|line| line.starts_with(&start), &start);
    workload.go();
    outlive.stop().assert_status(0);
    assert_lines_of_listed(&Listing::of(&recording, "listed::|main", &[]));
}

/// The heap profile that a program serves, in a file.
fn served(toolchain: &Toolchain, how: build::Build, folder: &TempDir) -> PathBuf {
    let program = build("mapcache", toolchain, how, Profiler::Served);
    let mut workload = GoWorkload::start(&program);
    workload.go(2000);
    workload.collect();
    let file = folder.path().join("heap.pb.gz");
    fs::write(&file, workload.get("heap")).expect("written");
    workload.exit();
    file
}

#[test]
fn a_profile_that_a_go_service_serves_is_listed_as_pprof_does() {
    with_each(|toolchain| {
        let folder = folder();
        let file = served(toolchain, build::Build::Plain, &folder);
        let listing = Listing::of(&file, ".", &[]);
        for (kind, sample_type) in
            [("live_bytes", "inuse_space"), ("allocated_bytes", "alloc_space")]
        {
            let ours = listing.by_line(kind);
            assert_same_in_pprof(&ours, sample_type, &file);
            let payload = line_of("go/mapcache/main.go", "payload");
            let key = ("main.render".to_owned(), "main.go".to_owned(), payload);
            let (own, _) = ours.get(&key).copied().unwrap_or_default();
            assert!(own > 1 << 20, "{kind}: {ours:?}");
        }
        let line = listing.line("main.render", line_of("go/mapcache/main.go", "payload"));
        let [low, high] = [0, 1].map(|end| line["own"]["live_bytes_ci95"][end].as_u64());
        let bytes = line["own"]["live_bytes"].as_u64();
        assert!(low < bytes && bytes < high, "sampled, so there is an interval: {line}");
    });
}

#[test]
fn source_is_found_below_the_source_path_by_the_end_of_its_name() {
    let folder = folder();
    let map = format!("-ffile-prefix-map={}=/build/svc", sources().display());
    let program = compiler::build_with(LISTED, Build::Optimised, &[&map]);
    let (_, file) = traced(&program, &folder, "pprof");
    let root = folder.path().display().to_string();
    let listing = Listing::of(&file, "listed::", &["--source-path", &root]);
    assert_eq!(listing.line(WALK, line_of(LISTED, "walk"))["text"], Value::Null);
    let notice = listing.notices().into_iter().find(|n| n.contains("/build/svc/cpp/listed.cpp"));
    let notice = notice.unwrap_or_else(|| panic!("no notice: {:?}", listing.notices()));
    assert!(notice.contains(&root) && notice.contains("--source-path DIR"), "{notice}");
    assert_eq!(bytes(&listing.line(WALK, line_of(LISTED, "walk"))["own"]), [40, 40, 0]);
    let text = finished(command(["list", "--source-path", &root]).arg(&file).arg("walk"));
    let text = text.with_status(0);
    let number = line_of(LISTED, "walk").to_string();
    let is_row = |row: &str| row.trim_end().ends_with(&number) && row.contains("40B");
    assert!(text.stdout.lines().any(is_row), "the numbers are there without the text: {text}");

    let here = sources().display().to_string();
    assert_lines_of_listed(&Listing::of(
        &file,
        ".",
        &["--source-path", &root, "--source-path", &here],
    ));
}

#[test]
fn programs_of_go_without_paths_have_their_source_too() {
    let toolchain = chosen().pop().expect("a release of Go");
    let folder = folder();
    let file = served(&toolchain, build::Build::Stripped, &folder);
    let here = sources().join("go").display().to_string();
    let listing = Listing::of(&file, "^main", &["--source-path", &here]);
    let line = listing.line("main.render", line_of("go/mapcache/main.go", "payload"));
    let text = line["text"].as_str().unwrap_or_default();
    assert!(text.contains("SITE payload"), "{line}");
}

#[test]
fn source_that_was_changed_since_is_told_of() {
    let folder = folder();
    let source = folder.path().join("listed.cpp");
    fs::copy(sources().join(LISTED), &source).expect("copied");
    let include = format!("-iquote{}", sources().join("cpp").display());
    let name = source.display().to_string();
    let program = compiler::build_with(&name, Build::Optimised, &[&include]);
    let (_, file) = traced(&program, &folder, "pprof");
    let changed = |listing: &Listing| listing.notices().iter().any(|n| n.contains("was changed"));
    assert!(!changed(&Listing::of(&file, WALK_NAME, &[])), "it is older than the program");
    let later = SystemTime::now() + Duration::from_hours(1);
    let opened = File::options().append(true).open(&source).expect("opened");
    opened.set_modified(later).expect("its time");
    assert!(changed(&Listing::of(&file, WALK_NAME, &[])), "it is newer");
    fs::write(&source, "// Nothing is left.\n").expect("written");
    let listing = Listing::of(&file, WALK_NAME, &[]);
    assert!(listing.notices().iter().any(|n| n.contains("fewer lines")), "{}", listing.json);
    assert_eq!(bytes(&listing.line(WALK, line_of(LISTED, "walk"))["own"]), [40, 40, 0]);
}

const WALK_NAME: &str = "listed::walk";

/// A profile of one function at these lines of a file, each with a block of 1000 bytes.
fn crafted(folder: &TempDir, source: &str, lines: &[i64]) -> PathBuf {
    let strings = ["", "inuse_space", "bytes", "crafted", source];
    let locations = (1..).zip(lines).map(|(id, line)| Location {
        id,
        mapping_id: 0,
        address: id,
        line: vec![Line { function_id: 1, line: *line }],
    });
    let profile = Profile {
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        location: locations.collect(),
        function: vec![Function { id: 1, name: 3, system_name: 3, filename: 4 }],
        sample: (1..=lines.len() as u64)
            .map(|id| Sample { location_id: vec![id], value: vec![1000], label: Vec::new() })
            .collect(),
        string_table: strings.map(str::to_owned).to_vec(),
        ..Profile::default()
    };
    let file = folder.path().join("crafted.pb");
    fs::write(&file, profile.encode_to_vec()).expect("written");
    file
}

#[test]
fn what_is_no_source_does_no_harm() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    mkfifo(Path::new(&path("pipe")), Mode::S_IRWXU).expect("a FIFO");
    fs::write(path("binary"), b"\x7fELF\0\n\0\n").expect("written");
    fs::write(path("endless"), vec![b'x'; 40 << 20]).expect("written");
    fs::write(path("controls"), "\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}\n\u{9b}31m\n")
        .expect("written");
    let lines = [1, 2, i64::from(u32::MAX), i64::MAX, 0, -1];
    let strange =
        ["/dev/zero", "/dev/stdin", "/proc/self/mem", "/etc", "../../etc/passwd", "", "/", "."];
    let made = ["pipe", "binary", "endless", "controls", "absent"].map(path);
    for source in strange.into_iter().chain(made.iter().map(String::as_str)) {
        let file = crafted(&folder, source, &lines);
        let text =
            finished(command(["list", "--source-path"]).arg(folder.path()).arg(&file).arg("."));
        if source.is_empty() {
            text.error(1);
            continue;
        }
        let text = text.with_status(0);
        let hidden = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.stdout.contains(hidden), "{source}: {text}");
        assert!(text.stdout.len() < 20_000, "{source}: {} bytes", text.stdout.len());
        let listing = Listing::of(&file, "crafted", &[]);
        let sum = bytes(&listing.function("crafted")["own"]);
        assert_eq!(sum[0], 6000, "{source}: every line counts, known or not: {}", listing.json);
    }
}

#[test]
fn what_cannot_be_listed_is_refused_with_what_to_do() {
    let folder = folder();
    let (_, file) = traced(&compiler::build(LISTED, Build::Optimised), &folder, "pprof");
    let list = |file: &Path, further: &[&str]| finished(command(["list"]).arg(file).args(further));
    let [what, why, remedy] = list(&file, &["absent"]).error(1);
    assert!(what.contains("heap.pprof") && why.contains("\"absent\""), "{what}; {why}");
    assert!(remedy.contains(TAKE) && remedy.contains("(?i)"), "{remedy}");
    assert_eq!(Listing::of(&file, "(?i)WALK", &[]).functions().len(), 1);
    let [what, why, _] = list(&file, &["walk("]).error(2);
    assert!(what.contains("walk(") && why.contains("unclosed"), "{what}; {why}");
    let [_, why, _] = list(&file, &["(\\w{500}){500}"]).error(2);
    assert!(why.contains("size"), "{why}");
    let [_, why, _] = list(&file, &[".", "-f", "csv"]).error(2);
    assert!(why.contains("csv"), "{why}");
    let stacks = folder.path().join("heap.folded");
    fs::write(&stacks, "main;render 4096\n").expect("written");
    let [_, why, remedy] = list(&stacks, &["render"]).error(1);
    assert!(why.contains("lines") && remedy.contains("folded"), "{why}; {remedy}");
    let stripped = compiler::build("c/sites.c", Build::Stripped);
    let (_, nameless) = traced(&stripped, &folder, "json");
    let [_, why, remedy] = list(&nameless, &["sites"]).error(1);
    assert!(why.contains("lines") && remedy.contains("debug information"), "{why}; {remedy}");
}

#[test]
fn the_text_has_a_row_for_each_line_and_those_around_it() {
    let folder = folder();
    let (_, file) = traced(&compiler::build(LISTED, Build::Optimised), &folder, "pprof");
    let text = finished(command(["list"]).arg(&file).arg("walk")).with_status(0);
    let (walk, again) = (line_of(LISTED, "walk"), line_of(LISTED, "again"));
    let rows: Vec<Vec<&str>> =
        text.stdout.lines().map(|line| line.split_whitespace().take(5).collect()).collect();
    let row = |number: u64, cells: [&str; 4]| {
        let number = number.to_string();
        let mut expected = cells.to_vec();
        expected.push(&number);
        assert!(rows.contains(&expected), "{expected:?}: {text}");
    };
    row(walk - 3, ["."; 4]);
    row(walk, ["40B", "40B", "40B", "."]);
    row(again, [".", "30B", "30B", "."]);
    row(again + 3, ["."; 4]);
    assert!(text.stdout.contains("live 40 B of 3.5 KiB, 1 %; 40 B allocated by its own lines"));
    assert!(text.stdout.contains("sink = malloc(10);  // SITE walk"), "{text}");
    assert!(!text.stdout.contains('\u{1b}'), "no colour where there is no terminal; {text}");
    let few = finished(command(["list", "-n", "1"]).arg(&file).arg("."));
    assert!(few.with_status(0).stdout.contains(" more functions (--top)"));
    assert_eq!(Listing::of(&file, "walk", &[]).json["schema"], json!("outlive-list/1"));
}
