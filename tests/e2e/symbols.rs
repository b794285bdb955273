//! Functions, lines and inlined frames are told wherever a program's debug information is; and a report says what was not used.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use outlive_tests::compiler::{Build, build, build_id, line_of};
use outlive_tests::debug_info::{Split, run, share};
use outlive_tests::debug_server::{DebugServer, free_port};
use outlive_tests::outlive::{Outlive, command, finished};
use outlive_tests::patience::PATIENCE;
use outlive_tests::report::Report;
use outlive_tests::workload::Workload;
use serde_json::Value;

const CPP: &str = "cpp/depot.cpp";
const RUST: &str = "rust/cellar.rs";
/// The directory of debug files, as every distribution has it.
const DEBUG: &str = "/usr/lib/debug";

fn depot() -> Split {
    Split::new(&build(CPP, Build::NoFramePointers))
}

/// Traces a running workload to its counts.
fn traced_by(mut workload: Workload, adjust: impl FnOnce(&mut Command)) -> Report {
    let outlive = Outlive::attach_by(&[workload.pid()], &["--exact"], |command| {
        command.env_remove("DEBUGINFOD_URLS");
        adjust(command);
    });
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    report
}

fn traced(program: &Path) -> Report {
    traced_by(Workload::start(program, &[]), |_| {})
}

/// All frames of the C++ program, with files, lines, and what is inlined.
fn assert_depot(report: &Report) {
    assert_eq!(report.text("/target/symbols"), "full", "{report}");
    assert_eq!(report.notices(), [""; 0], "{report}");
    let site = report.first_site();
    site.assert_live(5, 400);
    let fill = "depot::(anonymous namespace)::fill(depot::Shelf<long>&)";
    site.assert_frame(
        0,
        "depot::Shelf<long>::place(unsigned long)",
        "depot.cpp",
        line_of(CPP, "place"),
    );
    site.assert_frame(1, fill, "depot.cpp", line_of(CPP, "fill"));
    site.assert_frame_function(2, "main");
    let inlined: Vec<_> = (0..3).map(|index| site.frame(index)["inlined"].clone()).collect();
    assert_eq!(inlined, [true, false, false].map(Value::Bool), "{report}");
}

/// The C++ program with the names of functions alone.
fn assert_depot_without_lines(report: &Report) {
    assert_eq!(report.text("/target/symbols"), "stripped", "{report}");
    let site = report.first_site();
    site.assert_live(5, 400);
    assert_eq!(site.frame(0)["file"], Value::Null, "{report}");
}

fn assert_notice(report: &Report, words: &[&str]) {
    let notices = report.notices();
    let is_it = |notice: &&str| words.iter().all(|word| notice.contains(word));
    assert_eq!(notices.iter().copied().filter(is_it).count(), 1, "{words:?}; {report}");
}

/// Starts a program in a mount namespace of its own, after a script that may use its arguments.
fn start_in_namespace(script: &str, arguments: &[&Path]) -> Workload {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    Workload::start_command(unshare.args(arguments))
}

/// Hides the namespace's directory of debug files behind a copy of `$1`, and runs `$2`.
const WITH_DEBUG_FILES: &str = "\
mkdir -p /usr/lib/debug
mount -t tmpfs tmpfs /usr/lib/debug
cp -r \"$1\"/. /usr/lib/debug
exec \"$2\"";

#[test]
fn a_debug_link_leads_beside_the_program_or_below_it() {
    for place in ["depot.debug", ".debug/depot.debug"] {
        let split = depot();
        let debug = split.folder().join(place);
        split.write_debug_file(&debug);
        split.link(&debug);
        assert_depot(&traced(&split.program));
    }
}

#[test]
fn doctor_names_the_debug_file() {
    let split = depot();
    let debug = split.folder().join("depot.debug");
    split.write_debug_file(&debug);
    split.link(&debug);
    let workload = Workload::start(&split.program, &[]);
    let told = finished(&mut command(["doctor", &workload.pid().to_string()]));
    assert!(told.stdout.contains(&debug.display().to_string()), "{told}");
}

#[test]
fn a_debug_link_leads_to_the_directory_of_debug_files() {
    let split = depot();
    let files = tempfile::tempdir().expect("a folder");
    let folder = split.folder().strip_prefix("/").expect("absolute");
    let debug = files.path().join(folder).join("depot.debug");
    split.write_debug_file(&debug);
    split.link(&debug);
    let workload = start_in_namespace(WITH_DEBUG_FILES, &[files.path(), &split.program]);
    assert_depot(&traced_by(workload, |_| {}));
}

#[test]
fn inlined_generic_rust_code_is_named_from_a_debug_file() {
    let split = Split::new(&build(RUST, Build::Optimised));
    let debug = split.folder().join("cellar.debug");
    split.write_debug_file(&debug);
    split.link(&debug);
    let report = traced(&split.program);
    assert_eq!(report.text("/target/symbols"), "full", "{report}");
    let site = report.first_site();
    site.assert_live(10, 8000);
    let frames = site.json["frames"].as_array().cloned().unwrap_or_default();
    let own =
        |frame: &Value| frame["file"].as_str().is_some_and(|file| file.ends_with("cellar.rs"));
    let first = frames.iter().position(own).unwrap_or_default();
    for (index, (function, line)) in [
        ("cellar::rack::Rack<T>::row", "row"),
        ("cellar::rack::Rack<T>::lay", "lay"),
        ("cellar::stack_bottles", "stack_bottles"),
    ]
    .into_iter()
    .enumerate()
    {
        site.assert_frame(first + index, function, "cellar.rs", line_of(RUST, line));
        assert_eq!(site.frame(first + index)["inlined"], Value::Bool(index < 2), "{report}");
    }
}

/// The files exist in the program's mount namespace only, which is gone with the program when the report is made.
#[test]
fn a_build_id_leads_to_a_file_in_the_programs_own_namespace_that_is_gone() {
    let split = depot();
    let files = tempfile::tempdir().expect("a folder");
    split.write_debug_file(&files.path().join(split.by_build_id()));
    let mut workload = start_in_namespace(WITH_DEBUG_FILES, &[files.path(), &split.program]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    workload.exit();
    let report = outlive.finish().with_status(0).report();
    report.assert_exact(own);
    assert_depot(&report);
}

#[test]
fn a_build_id_leads_to_a_file_in_the_programs_root_directory() {
    let split = Split::new(&build(CPP, Build::NoFramePointersStatic));
    // The allocator of a static program is found by its symbols.
    let whole = build(CPP, Build::NoFramePointersStatic);
    run(Command::new("objcopy").arg("--strip-debug").arg(whole).arg(&split.program));
    let root = tempfile::tempdir().expect("a folder");
    split.write_debug_file(&root.path().join("usr/lib/debug").join(split.by_build_id()));
    fs::copy(&split.program, root.path().join("depot")).expect("copied");
    let mut chroot = Command::new("chroot");
    let workload = Workload::start_command(chroot.arg(root.path()).arg("/depot"));
    assert_depot(&traced_by(workload, |_| {}));
}

/// Here the tracer is the one that sees the files: the host, from the program's point of view.
#[test]
fn a_build_id_leads_to_a_file_of_the_host() {
    let split = depot();
    let files = tempfile::tempdir().expect("a folder");
    split.write_debug_file(&files.path().join(split.by_build_id()));
    let mut workload = Workload::start(&split.program, &[]);
    let mut outlive = Command::new("unshare");
    outlive.args(["--mount", "--propagation", "private", "sh", "-ec"]);
    outlive.arg(WITH_DEBUG_FILES.replace("exec \"$2\"", "shift; exec \"$@\"")).arg("sh");
    let inner = command(["attach", "--exact", "--format", "json", &workload.pid().to_string()]);
    outlive.arg(files.path()).arg(inner.get_program()).args(inner.get_args());
    let outlive = Outlive::start(outlive.env_remove("DEBUGINFOD_URLS"));
    outlive.await_tracing(workload.pid());
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    report.assert_exact(own);
    assert_depot(&report);
}

#[test]
fn a_debug_file_with_another_checksum_is_not_used() {
    let split = depot();
    let debug = split.folder().join("depot.debug");
    split.write_debug_file(&debug);
    split.link(&debug);
    let mut bytes = fs::read(&debug).expect("the debug file");
    bytes.push(0);
    fs::write(&debug, bytes).expect("changed");
    let report = traced(&split.program);
    assert_depot_without_lines(&report);
    assert_notice(&report, &["depot.debug is not used", "checksum"]);
}

#[test]
fn a_debug_file_of_another_build_is_not_used() {
    let split = depot();
    let other = Split::new(&build(CPP, Build::Debug));
    let files = tempfile::tempdir().expect("a folder");
    other.write_debug_file(&files.path().join(split.by_build_id()));
    let workload = start_in_namespace(WITH_DEBUG_FILES, &[files.path(), &split.program]);
    let report = traced_by(workload, |_| {});
    assert_depot_without_lines(&report);
    assert_notice(&report, &[DEBUG, "is not used", "build id differs"]);
}

#[test]
fn the_right_debug_file_is_found_behind_a_wrong_one() {
    let split = depot();
    let other = Split::new(&build(CPP, Build::Debug));
    let files = tempfile::tempdir().expect("a folder");
    other.write_debug_file(&files.path().join(split.by_build_id()));
    let debug = split.folder().join("depot.debug");
    split.write_debug_file(&debug);
    split.link(&debug);
    let workload = start_in_namespace(WITH_DEBUG_FILES, &[files.path(), &split.program]);
    let report = traced_by(workload, |_| {});
    assert_notice(&report, &["build id differs"]);
    let site = report.first_site();
    site.assert_frame(
        0,
        "depot::Shelf<long>::place(unsigned long)",
        "depot.cpp",
        line_of(CPP, "place"),
    );
    assert_eq!(report.text("/target/symbols"), "full", "{report}");
}

#[test]
fn mini_debug_info_names_functions_that_were_stripped() {
    let split = depot();
    let nameless = traced(&split.program);
    assert_depot_without_lines(&nameless);
    let function = nameless.first_site().function().to_owned();
    assert!(function.starts_with("depot+0x"), "{nameless}");

    split.add_mini_debug_info();
    let report = traced(&split.program);
    assert_depot_without_lines(&report);
    let site = report.first_site();
    site.assert_frame_function(0, "depot::(anonymous namespace)::fill(depot::Shelf<long>&)");
    site.assert_frame_function(1, "main");
}

#[test]
fn what_dwz_has_moved_to_a_shared_file_is_found_there() {
    let splits = [depot(), Split::new(&build("cpp/frames.cpp", Build::NoFramePointers))];
    let files = tempfile::tempdir().expect("a folder");
    let debug = splits.each_ref().map(|split| files.path().join(split.by_build_id()));
    for (split, file) in splits.iter().zip(&debug) {
        split.write_debug_file(file);
    }
    let shared = files.path().join("shared.debug");
    share([&debug[0], &debug[1]], &shared);
    let id = build_id(&shared);
    let by_id = format!(".build-id/{}", &id[..2]);
    fs::create_dir_all(files.path().join(&by_id)).expect("a folder");
    let by_id = files.path().join(by_id).join(format!("{}.debug", &id[2..]));
    fs::rename(&shared, &by_id).expect("moved");
    let start = || start_in_namespace(WITH_DEBUG_FILES, &[files.path(), &splits[0].program]);
    assert_depot(&traced_by(start(), |_| {}));

    fs::remove_file(&by_id).expect("removed");
    let report = traced_by(start(), |_| {});
    report.first_site().assert_live(5, 400);
    assert_notice(&report, &["dwz", "shared.debug"]);
}

#[test]
fn a_server_has_the_debug_file_and_is_asked_once() {
    let split = depot();
    let files = tempfile::tempdir().expect("a folder");
    split.write_debug_file(&files.path().join("somewhere.debug"));
    let server = DebugServer::start(files.path(), &build_id(&split.program));
    let cache = tempfile::tempdir().expect("a folder");
    let trace = || {
        traced_by(Workload::start(&split.program, &[]), |command| {
            command.env("DEBUGINFOD_URLS", server.url()).env("XDG_CACHE_HOME", cache.path());
        })
    };
    assert_depot(&trace());
    let kept =
        cache.path().join("outlive/debuginfod").join(format!("{}.debug", build_id(&split.program)));
    assert!(kept.exists(), "{}", kept.display());
    fs::remove_file(files.path().join("somewhere.debug")).expect("removed");
    assert_depot(&trace());
}

#[test]
fn a_server_that_is_down_is_a_notice() {
    let split = depot();
    let url = format!("http://127.0.0.1:{}", free_port());
    let report = traced_by(Workload::start(&split.program, &[]), |command| {
        command.env("DEBUGINFOD_URLS", &url).env("XDG_CACHE_HOME", split.folder());
    });
    assert_depot_without_lines(&report);
    assert_notice(&report, &["debuginfod", "gave no debug information"]);
}

#[test]
fn a_server_that_never_answers_is_a_notice() {
    let split = depot();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    let report = traced_by(Workload::start(&split.program, &[]), |command| {
        command.env("DEBUGINFOD_URLS", &url).env("XDG_CACHE_HOME", split.folder());
        command.env("DEBUGINFOD_TIMEOUT", "1");
    });
    assert_depot_without_lines(&report);
    assert_notice(&report, &["debuginfod", "gave no debug information"]);
}

/// Sections that say they are gigabytes when decompressed, or hold anything at all.
#[test]
fn debug_information_that_is_broken_costs_names_and_nothing_else() {
    for section in [".debug_info", ".debug_abbrev", ".debug_line", ".debug_str"] {
        let split = depot();
        let debug = split.folder().join("depot.debug");
        split.write_debug_file(&debug);
        let noise = split.folder().join("noise");
        let bytes: Vec<u8> =
            (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(&noise, bytes).expect("written");
        let update = format!("{section}={}", noise.display());
        run(Command::new("objcopy").arg("--update-section").arg(update).arg(&debug));
        split.link(&debug);
        let report = traced(&split.program);
        report.first_site().assert_live(5, 400);
    }
}

#[test]
fn a_symbol_table_that_unpacks_to_gigabytes_is_not_used() {
    let split = depot();
    let bomb = split.folder().join("bomb");
    let xz = outlive_tests::debug_info::tool("xz");
    let script = "head -c 3G /dev/zero | \"$1\" -0 -c > \"$2\"";
    run(Command::new("sh").args(["-c", script, "sh"]).arg(xz).arg(&bomb));
    let add = format!("--add-section=.gnu_debugdata={}", bomb.display());
    run(Command::new("objcopy").arg(add).arg(&split.program));
    let report = traced(&split.program);
    report.first_site().assert_live(5, 400);
    assert_depot_without_lines(&report);
    assert_notice(&report, &["symbol table of", "depot is not used"]);
}

#[test]
fn progress_is_shown_on_a_terminal_only() {
    let split = depot();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    let shown = "fetching debug information";
    for is_terminal in [false, true] {
        let mut workload = Workload::start(&split.program, &[]);
        let inner = command(["attach", "--exact", "--format", "json", &workload.pid().to_string()]);
        let output = split.folder().join(format!("report-{is_terminal}"));
        let words = inner.get_args().map(|word| word.to_string_lossy().into_owned());
        let line = [inner.get_program().to_string_lossy().into_owned()]
            .into_iter()
            .chain(words)
            .chain(["--output".to_owned(), output.display().to_string()])
            .collect::<Vec<_>>()
            .join(" ");
        let mut outlive = if is_terminal {
            let mut script = Command::new("script");
            script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
            script
        } else {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {line}")]);
            shell
        };
        outlive.env("DEBUGINFOD_URLS", &url).env("XDG_CACHE_HOME", split.folder());
        outlive.env("DEBUGINFOD_TIMEOUT", "2");
        let outlive = Outlive::start(&mut outlive);
        // On a terminal, both streams are one.
        let said = if is_terminal { outlive.talk.output() } else { outlive.talk.errors() };
        let tracing = format!("outlive: tracing {}", workload.pid());
        let heard = said.await_match(PATIENCE, |text| text.contains(&tracing).then_some(()));
        heard.expect("it traces");
        workload.go();
        workload.exit();
        let finished = outlive.finish().with_status(0);
        let text = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(text.contains(shown), is_terminal, "{finished}");
        let report = fs::read_to_string(&output).expect("a report");
        assert!(report.contains("\"live_count\":5"), "{report}");
    }
}
