//! `outlive report` and `outlive diff` of files: heap profiles that Go services serve, those that outlive writes, folded stacks.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use outlive_tests::compiler::{self, Build, line_of, sources};
use outlive_tests::golang::build::{self, Profiler, build};
use outlive_tests::golang::claims::claims_of_file;
use outlive_tests::golang::profile::HeapProfile;
use outlive_tests::golang::toolchains::with_each;
use outlive_tests::golang::workload::GoWorkload;
use outlive_tests::outlive::{Finished, Outlive, command, finished};
use outlive_tests::pprof::tool::total;
use outlive_tests::workload::Workload;
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let file = folder.path().join(name);
    fs::write(&file, content).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    file
}

fn report(file: &Path, further: &[&str]) -> Finished {
    finished(command(["report", "-f", "json", "-n", "0"]).args(further).arg(file))
}

fn diff(before: &Path, after: &Path, further: &[&str]) -> Finished {
    finished(command(["diff", "-n", "0"]).args(further).arg(before).arg(after))
}

fn diff_json(before: &Path, after: &Path) -> Value {
    let finished = diff(before, after, &["-f", "json"]).with_status(0);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"))
}

/// Traces a C workload exactly, up to its counts, and keeps its profile; `later` for its second part too.
fn traced(program: &Path, folder: &TempDir, name: &str, later: bool) -> PathBuf {
    let mut workload = Workload::start(program, &[]);
    let file = folder.path().join(name);
    let mut command = command(["attach", "--exact", "-f", "pprof", "-o"]);
    let outlive = Outlive::start(command.arg(&file).arg(workload.pid().to_string()));
    outlive.await_tracing(workload.pid());
    workload.go();
    if later {
        workload.talk.say("later");
        workload.talk.hear();
    }
    outlive.stop().assert_status(0);
    file
}

#[test]
fn a_profile_that_a_go_service_serves_is_reported_stack_by_stack() {
    with_each(|toolchain| {
        let program = build("mapcache", toolchain, build::Build::Plain, Profiler::Served);
        let mut workload = GoWorkload::start(&program);
        workload.go(2000);
        workload.collect();
        let served = workload.get("heap");
        workload.exit();
        let own = HeapProfile::parse(&served);
        assert!(own.total().live_bytes > 1 << 20, "{:?}", own.total());

        let folder = folder();
        let file = write(&folder, "heap.pb.gz", &served);
        let report = report(&file, &[]).with_status(0).report();
        let differences = own.differences(&claims_of_file(&report));
        assert!(differences.is_empty(), "{differences:?}\n{report}");
        assert_eq!(report.totals().live_bytes, own.total().live_bytes, "{report}");
        assert_eq!(report.number("/sampling/mean_bytes"), 512 << 10, "{report}");
        let [low, high] = [0, 1].map(|i| report.number(&format!("/sites/0/live_bytes_ci95/{i}")));
        let live = report.number("/sites/0/live_bytes");
        assert!(low < live && live < high, "sampled, so there is an interval; {report}");

        let text = finished(command(["report"]).arg(&file)).with_status(0);
        let place = format!("main.render main.go:{}", line_of("go/mapcache/main.go", "payload"));
        let first = text.stdout.lines().find(|line| line.trim_start().starts_with("1 "));
        assert!(first.is_some_and(|line| line.ends_with(&place)), "{text}");
    });
}

#[test]
fn what_a_go_service_gained_is_the_difference_of_its_profiles() {
    with_each(|toolchain| {
        let program = build("mapcache", toolchain, build::Build::Plain, Profiler::Served);
        let mut workload = GoWorkload::start(&program);
        let folder = folder();
        let mut take = |name: &str| {
            workload.go(2000);
            workload.collect();
            write(&folder, name, workload.get("heap"))
        };
        let (before, after) = (take("before.pb.gz"), take("after.pb.gz"));
        workload.exit();
        let growth = total("inuse_space", &[], &after) - total("inuse_space", &[], &before);
        assert!(growth > 1 << 20, "{growth}");
        let diff = diff_json(&before, &after);
        assert_eq!(diff["growth_bytes"], growth, "{diff}");
        let sites = diff["sites"].as_array().expect("sites");
        let sum: i64 = sites.iter().filter_map(|site| site["growth_bytes"].as_i64()).sum();
        assert_eq!(sum, growth, "{diff}");
        assert_eq!(sites[0]["frames"][0]["function"], "main.render", "{diff}");
        assert!(["line", "build-id"].iter().any(|by| sites[0]["joined_by"] == *by), "{diff}");
        let growths: Vec<_> =
            sites.iter().filter_map(|site| site["growth_bytes"].as_i64()).collect();
        assert!(growths.is_sorted_by(|a, b| a >= b), "most growth first; {diff}");
    });
}

#[test]
fn what_two_runs_of_one_build_differ_in_is_exact() {
    let folder = folder();
    let program = compiler::build("c/sites.c", Build::Debug);
    let before = traced(&program, &folder, "before.pb.gz", false);
    let after = traced(&program, &folder, "after.pb.gz", true);
    let json = diff_json(&before, &after);
    let sites = json["sites"].as_array().expect("sites");
    assert_eq!(json["growth_bytes"], 600_000, "{json}");
    assert_eq!(sites.len(), 1, "what is as it was is no change; {json}");
    assert_eq!(sites[0]["frames"][0]["function"], "hold_late", "{json}");
    assert_eq!((&sites[0]["before"], &sites[0]["growth_count"]), (&Value::Null, &2.into()));
    assert_eq!(json["schema"], "outlive-diff/1");

    let back = diff_json(&after, &before);
    assert_eq!(
        (&back["growth_bytes"], &back["shrunk_bytes"]),
        (&(-600_000).into(), &600_000.into())
    );

    let text = diff(&before, &after, &[]).with_status(0);
    let line = format!("hold_late sites.c:{}", line_of("c/sites.c", "late"));
    assert!(
        text.stdout.lines().any(|row| row.ends_with(&line) && row.contains("+585.9 KiB")),
        "{text}"
    );

    let failed = diff(&before, &after, &["--fail-above", "599999"]).with_status(10);
    assert!(failed.stderr.contains("grew by"), "{failed}");
    diff(&before, &after, &["--fail-above", "600000"]).assert_status(0);
    diff(&after, &before, &["--fail-above", "0"]).assert_status(0);
}

/// The next release: a few lines were written above, so that every line has moved and the build id is another.
#[test]
fn sites_of_the_next_release_are_joined_by_their_functions() {
    let folder = folder();
    let source = fs::read_to_string(sources().join("c/sites.c")).expect("the source");
    let moved = source.replacen("#include", "/* More of it. */\n\n#include", 1);
    let moved = moved.replacen("malloc(1000000)", "malloc(1500000)", 1);
    let next = write(&folder, "sites.c", moved);
    let include = format!("-I{}", sources().join("c").display());
    let programs = [
        compiler::build("c/sites.c", Build::Debug),
        compiler::build_with(&next.display().to_string(), Build::Debug, &[&include]),
    ];
    assert_ne!(compiler::build_id(&programs[0]), compiler::build_id(&programs[1]));
    let before = traced(&programs[0], &folder, "before.pb.gz", false);
    let after = traced(&programs[1], &folder, "after.pb.gz", false);
    let diff = diff_json(&before, &after);
    let sites = diff["sites"].as_array().expect("sites");
    assert_eq!(sites.len(), 1, "all other sites are the same; {diff}");
    assert_eq!(sites[0]["joined_by"], "function", "{diff}");
    assert_eq!(sites[0]["growth_bytes"], 500_000, "{diff}");
    assert_eq!(sites[0]["before"]["live_bytes"], 1_000_000, "{diff}");
    assert_eq!(sites[0]["frames"][0]["line"], line_of("c/sites.c", "big") + 2, "{diff}");
}

#[test]
fn folded_stacks_are_read_and_compared() {
    let folder = folder();
    let before = write(&folder, "before.folded", "main;lookup;render 4096\nmain;idle 10\n");
    let after =
        write(&folder, "after.folded", "main;lookup;render 8192\nmain;idle 10\nmain;new 1\n");
    let read = report(&before, &[]).with_status(0).report();
    assert_eq!(read.totals().live_bytes, 4106, "{read}");
    assert_eq!(read.functions(), ["render", "idle"], "{read}");
    assert_eq!(read.text("/sampling/mode"), "unknown", "{read}");
    let diff = diff_json(&before, &after);
    assert_eq!(diff["growth_bytes"], 4097, "{diff}");
    assert_eq!(diff["sites_unchanged"], 1, "{diff}");

    let mut piped = Outlive::start(&mut command(["report", "-f", "json", "-"]));
    piped.talk.say("main;piped 77");
    let piped = piped.finish().with_status(0).report();
    assert_eq!(piped.totals().live_bytes, 77, "{piped}");
}

#[test]
fn a_profile_written_again_is_the_same() {
    let folder = folder();
    let first = traced(&compiler::build("c/sites.c", Build::Debug), &folder, "a.pb.gz", true);
    let second = folder.path().join("b.pb.gz");
    let convert = ["export", "-f", "pprof", "-o"];
    finished(command(convert).arg(&second).arg(&first)).assert_status(0);
    let diff = diff_json(&first, &second);
    assert_eq!((&diff["growth_bytes"], &diff["sites"]), (&0.into(), &Value::Array(Vec::new())));
    assert_eq!(total("alloc_space", &[], &second), total("alloc_space", &[], &first));
}

#[test]
fn what_is_no_heap_profile_is_refused_with_what_to_do() {
    let folder = folder();
    let program = compiler::build("c/sites.c", Build::Debug);
    let [what, why, _] = report(&program, &[]).error(1);
    assert!(what.contains("sites") && why.contains("no profile"), "{what}; {why}");
    let [_, why, _] = report(&folder.path().join("absent"), &[]).error(1);
    assert!(why.contains("No such file"), "{why}");
    let [_, why, _] = report(&write(&folder, "empty", ""), &[]).error(1);
    assert!(why.contains("empty"), "{why}");
    let [_, why, _] = report(&write(&folder, "x", "main;a\n"), &[]).error(1);
    assert!(why.contains("line 1"), "{why}");

    let toolchain = outlive_tests::golang::toolchains::chosen().pop().expect("a release of Go");
    let service = build("mapcache", &toolchain, build::Build::Plain, Profiler::Served);
    let workload = GoWorkload::start(&service);
    let goroutines = write(&folder, "goroutines.pb.gz", workload.get("goroutine"));
    workload.exit();
    let [_, why, remedy] = report(&goroutines, &[]).error(1);
    assert!(why.contains("goroutine/count"), "{why}");
    assert!(remedy.contains("/debug/pprof/heap"), "{remedy}");
    let [_, why, _] = report(&goroutines, &["-s", "growth"]).error(2);
    assert!(why.contains("instant"), "{why}");
}
