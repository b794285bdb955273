//! Profiles in pprof's format: `go tool pprof` shows what the workload counted itself, to the byte, and no rule of another reader is broken.
#![expect(clippy::panic, reason = "a test ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use outlive_tests::compiler::{self, Build, line_of};
use outlive_tests::counts::Counts;
use outlive_tests::golang::build::{self, Profiler, build};
use outlive_tests::golang::toolchains::{Toolchain, chosen};
use outlive_tests::golang::workload::GoWorkload;
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::pprof::proto::{Profile, SAMPLE_TYPES};
use outlive_tests::pprof::rules::assert_kept;
use outlive_tests::pprof::tool::{WebServer, pprof, total};
use outlive_tests::workload::Workload;
use tempfile::TempDir;

/// A traced C workload that waits, and the file that its profile goes to.
struct Traced {
    workload: Workload,
    outlive: Outlive,
    file: PathBuf,
}

impl Traced {
    fn start(program: &Path, folder: &TempDir, further: &[&str]) -> Self {
        let workload = Workload::start(program, &[]);
        let file = folder.path().join(format!("{}.pb.gz", workload.pid()));
        let mut command = command(["attach", "--exact", "--format", "pprof", "--output"]);
        command.arg(&file).args(further).arg(workload.pid().to_string());
        let outlive = Outlive::start(&mut command);
        outlive.await_tracing(workload.pid());
        Self { workload, outlive, file }
    }

    fn finish(self) -> PathBuf {
        self.outlive.stop().assert_status(0);
        drop(self.workload);
        self.file
    }
}

/// A C workload traced from its first allocation to its counts; also after those of its second part.
fn sites(folder: &TempDir, later: bool) -> (Counts, PathBuf) {
    let mut traced = Traced::start(&compiler::build("c/sites.c", Build::Debug), folder, &[]);
    let mut own = traced.workload.go();
    if later {
        traced.workload.talk.say("later");
        own = Counts::parse(&traced.workload.talk.hear());
    }
    (own, traced.finish())
}

fn expected(own: Counts) -> [i64; 4] {
    assert!(own.live_count > 0, "a workload that holds nothing proves nothing");
    let counts = [own.allocated_count, own.allocated_bytes, own.live_count, own.live_bytes];
    counts.map(|count| i64::try_from(count).expect("a count of blocks"))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn read(file: &Path) -> Profile {
    assert_kept(&fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
}

fn newest_go() -> Toolchain {
    chosen().pop().expect("a release of Go")
}

#[test]
fn pprof_shows_the_workloads_own_counts_its_functions_and_lines() {
    let folder = folder();
    let (own, file) = sites(&folder, true);
    let profile = read(&file);
    assert_eq!(profile.totals(), expected(own));
    for (sample_type, sum) in SAMPLE_TYPES.into_iter().zip(expected(own)) {
        assert_eq!(total(sample_type, &[], &file), sum, "{sample_type}");
    }
    let top = pprof(&["-top", "-unit=B"], &file);
    assert!(top.contains("File: sites\nBuild ID: "), "{top}");
    assert!(top.contains("Type: inuse_space"), "{top}");
    let row = |function: &str| {
        let row = top.lines().find(|line| line.ends_with(&format!(" {function}")));
        row.unwrap_or_else(|| panic!("no row of {function}:\n{top}")).trim().to_owned()
    };
    assert!(row("hold_big").starts_with("1000000B "), "{top}");
    assert!(row("hold_late").starts_with("600000B "), "{top}");
    assert!(row("hold_many").starts_with("100000B "), "{top}");
    assert!(top.contains("every allocation recorded"), "{top}");

    let list = pprof(&["-list=hold_big", "-unit=B"], &file);
    let line = format!(" {}:", line_of("c/sites.c", "big"));
    let listed = list.lines().find(|text| text.contains(&line) && text.contains("1000000B"));
    assert!(listed.is_some_and(|text| text.contains("malloc(1000000)")), "{list}");
}

#[test]
fn the_difference_of_two_profiles_is_what_came_between() {
    let folder = folder();
    let (first, before) = sites(&folder, false);
    let (second, after) = sites(&folder, true);
    let base = format!("-diff_base={}", before.display());
    for (index, sample_type) in SAMPLE_TYPES.into_iter().enumerate() {
        let base_total = expected(first)[index];
        assert_eq!(total(sample_type, &[], &after), expected(second)[index]);
        // With a base, the total shown is that of the base.
        assert_eq!(total(sample_type, &[&base], &after), base_total);
    }
    let top = pprof(&["-top", "-unit=B", &base], &after);
    assert!(top.contains("hold_late"), "{top}");
    let grown = "Showing nodes accounting for 600000B,";
    assert!(top.contains(grown), "{top}");
    for quiet in ["hold_big", "hold_many"] {
        assert!(!top.contains(quiet), "the same place in both runs is one place:\n{top}");
    }
}

#[test]
fn the_web_page_of_pprof_shows_the_functions() {
    let folder = folder();
    let (_, file) = sites(&folder, false);
    let server = WebServer::start(&file);
    for page in ["flamegraph", "top", "peek?f=hold_big"] {
        let text = server.get(page);
        assert!(text.contains("hold_big"), "{page}: {text}");
    }
}

#[test]
fn inlined_calls_are_lines_of_one_location() {
    let folder = folder();
    let program = compiler::build("c/inlined.c", Build::Optimised);
    let mut traced = Traced::start(&program, &folder, &[]);
    let own = traced.workload.go();
    let profile = read(&traced.finish());
    assert_eq!(profile.totals(), expected(own));
    let sample = profile.sample.iter().max_by_key(|sample| sample.value[3]).expect("a sample");
    let leaf = profile.location(sample.location_id[0]);
    let names: Vec<_> = leaf
        .line
        .iter()
        .map(|line| profile.text(profile.function(line.function_id).name))
        .collect();
    assert_eq!(names, ["innermost", "middle", "outermost"]);
    let lines: Vec<_> =
        leaf.line.iter().map(|line| u64::try_from(line.line).unwrap_or(0)).collect();
    assert_eq!(lines, names.iter().map(|name| line_of("c/inlined.c", name)).collect::<Vec<_>>());
    let main = profile.mapping[0];
    assert!(profile.text(main.filename).ends_with("/inlined"));
    assert_eq!(profile.text(main.build_id), compiler::build_id(&program));
    assert!(main.has_functions && main.has_inline_frames && main.has_line_numbers);
}

/// A server that has the symbols looks them up by build id and address, which needs locations without functions.
#[test]
fn code_without_names_is_left_for_readers_to_name() {
    let folder = folder();
    let stripped = compiler::build("c/sites.c", Build::Stripped);
    let mut traced = Traced::start(&stripped, &folder, &[]);
    let own = traced.workload.go();
    let profile = read(&traced.finish());
    assert_eq!(profile.totals(), expected(own));
    let program = profile.mapping[0];
    assert!(!program.has_functions);
    assert_eq!(profile.text(program.build_id), compiler::build_id(&stripped));
    let mut of_program = profile.location.iter().filter(|at| at.mapping_id == program.id);
    assert!(of_program.all(|location| location.address > 0 && location.line.is_empty()));
    assert!(profile.sample.iter().any(|s| profile.location(s.location_id[0]).mapping_id == 1));
}

#[test]
fn processes_traced_together_are_told_apart_by_a_label() {
    let folder = folder();
    let program = compiler::build("c/sites.c", Build::Debug);
    let mut other = Workload::start(&program, &[]);
    let mut traced = Traced::start(&program, &folder, &[&other.pid().to_string()]);
    traced.outlive.await_tracing(other.pid());
    let own = [traced.workload.go(), other.go()];
    let pids = [traced.workload.pid(), other.pid()];
    let profile = read(&traced.finish());
    let sum = |pid: u32| {
        let label = Some(pid.to_string());
        let samples = profile.sample.iter().filter(|s| profile.label(s, "pid") == label);
        samples.map(|sample| sample.value[3]).sum::<i64>()
    };
    for (pid, own) in pids.into_iter().zip(own) {
        assert_eq!(sum(pid), expected(own)[3]);
    }
    assert!(
        profile.sample.iter().all(|s| profile.label(s, "kind").as_deref() == Some("allocation"))
    );
}

#[test]
fn run_writes_one_profile_at_the_end() {
    let folder = folder();
    let file = folder.path().join("heap.pb.gz");
    let mut command = command(["run", "--format", "pprof", "--output"]);
    command.arg(&file).arg("--").arg(compiler::build("c/startup.c", Build::Debug));
    let mut outlive = Outlive::start(&mut command);
    let own = Counts::parse(&outlive.talk.hear());
    outlive.talk.say("exit");
    outlive.finish().assert_status(0);
    assert_eq!(read(&file).totals(), expected(own));
    assert_eq!(total("inuse_space", &[], &file), expected(own)[3]);
}

#[test]
fn a_snapshot_of_a_go_service_is_the_profile_that_it_serves() {
    let program = build("mapcache", &newest_go(), build::Build::Plain, Profiler::Served);
    let mut workload = GoWorkload::start(&program);
    workload.go(3000);
    workload.collect();
    let folder = folder();
    let file = folder.path().join("heap.pb.gz");
    let (served, profile) = workload.heap_around(|pid| {
        let pid = pid.to_string();
        let mut command = command(["snapshot", &pid, "-f", "pprof", "--force", "-o"]);
        finished(command.arg(&file)).assert_status(0);
        read(&file)
    });
    let own = served.total();
    let own = [own.allocated_count, own.allocated_bytes, own.live_count, own.live_bytes];
    let own = own.map(|amount| i64::try_from(amount).expect("an amount"));
    assert!(own[3] > 1 << 20, "a service that holds little proves little: {own:?}");
    assert_eq!(profile.totals(), own);
    for (sample_type, sum) in SAMPLE_TYPES.into_iter().zip(own) {
        assert_eq!(total(sample_type, &[], &file), sum, "{sample_type}");
    }
    assert_eq!(profile.period, 512 << 10, "the mean between two samples");
    let payload = format!(":{} ", line_of("go/mapcache/main.go", "payload"));
    let lines = pprof(&["-traces", "-lines"], &file);
    assert!(lines.contains("main.render") && lines.contains(payload.trim_end()), "{lines}");
    workload.exit();
}

#[test]
fn what_cannot_be_one_profile_is_refused() {
    let interval = ["attach", "1", "-f", "pprof", "-i", "1s", "-o", "/dev/null", "--force"];
    let [what, why, remedy] = finished(&mut command(interval)).error(2);
    assert!(what.contains("interval") && why.contains("pprof"), "{what}; {why}");
    assert!(remedy.contains("--interval"), "{remedy}");
    let goroutines = ["goroutines", "1", "-f", "pprof"];
    let [what, why, _] = finished(&mut command(goroutines)).error(2);
    assert!(what.contains("goroutines") && why.contains("pprof"), "{what}; {why}");
}
