//! Where the structures of a Go runtime are: by the program's own debug information where it has any, else by the table of releases.
//!
//! The runtimes here are changed, or say that they are newer than any release: the table would be wrong of them.

use std::fs;
use std::path::{Path, PathBuf};

use outlive_tests::compiler::line_of;
use outlive_tests::golang::build::{Build, Profiler, RuntimeChange, build, build_changed};
use outlive_tests::golang::claims::{assert_claims, snapshot};
use outlive_tests::golang::toolchains::{Toolchain, chosen};
use outlive_tests::golang::workload::{GoWorkload, RATE};
use outlive_tests::outlive::{command, finished};
use outlive_tests::report::Report;
use serde_json::Value;

/// Further fields in the structures that outlive reads most.
const CHANGES: [RuntimeChange; 3] = [
    RuntimeChange {
        file: "mprof.go",
        from: "\tallnext *bucket\n",
        to: "\tallnext *bucket\n\tfurther [3]uintptr\n",
    },
    RuntimeChange {
        file: "mheap.go",
        from: "\tnpages    uintptr // number of pages in span\n",
        to: "\tfurther   [5]uintptr\n\tnpages    uintptr // number of pages in span\n",
    },
    RuntimeChange {
        file: "runtime2.go",
        from: "\tschedlink    guintptr\n",
        to: "\tschedlink    guintptr\n\tfurther      [2]uintptr\n",
    },
];

/// The oldest release and the newest: their debug information is of DWARF 4 and 5.
fn oldest_and_newest() -> Vec<Toolchain> {
    let all = chosen();
    let ends = [all.first(), all.last()];
    let ends = ends.map(|end| end.expect("releases are named").clone());
    assert!(ends[0].minor() < 25 && ends[1].minor() >= 25, "{ends:?}");
    ends.into()
}

/// Starts a program that samples much, and lets it work.
fn start(program: &Path) -> GoWorkload {
    let mut workload = GoWorkload::start_with(program, &[(RATE, "4096")]);
    workload.go(500);
    workload.collect();
    workload
}

fn assert_profile_is_its_own(workload: &mut GoWorkload, what: &str) -> Report {
    let (own, report) = workload.heap_around(|pid| snapshot(pid).with_status(0).report());
    assert!(own.total().live_bytes > 0, "{what}: a program that holds nothing proves nothing");
    assert_claims(&report, &own, what);
    report
}

fn goroutines(pid: u32) -> Value {
    let mut outlive = command(["goroutines", &pid.to_string(), "-n", "0", "-f", "json"]);
    serde_json::from_str(&finished(&mut outlive).with_status(0).stdout).expect("JSON")
}

/// How many goroutines this line of a workload started.
fn started_at(report: &Value, source: &str, site: &str) -> u64 {
    let line = line_of(&format!("go/{source}"), site);
    let groups = report["groups"].as_array().expect("groups").iter();
    let of_line = groups.filter(|group| {
        let creator = &group["created_by"];
        creator["line"] == line && creator["file"].as_str().is_some_and(|f| f.ends_with(source))
    });
    of_line.map(|group| group["count"].as_u64().expect("a count")).sum()
}

#[test]
fn a_changed_runtime_is_read_as_its_own_debug_information_has_it() {
    for toolchain in oldest_and_newest() {
        let what = &toolchain.version;
        for how in [Build::Plain, Build::Pie] {
            let program = build_changed("mapcache", &toolchain, how, &CHANGES);
            let mut workload = start(&program);
            let report = assert_profile_is_its_own(&mut workload, what);
            assert_eq!(report.text("/target/go_version"), toolchain.version);
            workload.exit();
        }
        let program = build_changed("goleak", &toolchain, Build::Plain, &CHANGES);
        let mut workload = GoWorkload::start(&program);
        assert_eq!(workload.go(100), 90 + 20, "{what}");
        let report = goroutines(workload.pid());
        assert_eq!(started_at(&report, "goleak/main.go", "watcher"), 90, "{what}: {report}");
        assert_eq!(started_at(&report, "goleak/main.go", "sender"), 20, "{what}: {report}");
        workload.exit();
    }
}

#[test]
fn a_changed_runtime_that_does_not_describe_itself_is_refused() {
    for toolchain in oldest_and_newest() {
        let program = build_changed("mapcache", &toolchain, Build::Stripped, &CHANGES);
        let workload = start(&program);
        let [what, why, remedy] = snapshot(workload.pid()).error(1);
        assert!(what.contains("cannot take a snapshot"), "{what}");
        assert!(why.contains("not as expected"), "{why}");
        assert!(remedy.contains("/debug/pprof"), "{remedy}");
        workload.exit();
    }
}

/// A copy of a program that says of itself that a newer Go has built it.
fn say_newer(program: &Path, toolchain: &Toolchain) -> PathBuf {
    let newer = newer(toolchain);
    let copy = program.with_file_name(format!("{newer}-{}", std::process::id()));
    let mut bytes = fs::read(program).expect("the program");
    let mark = b"\xff Go buildinf:";
    let block = bytes.windows(mark.len()).position(|some| some == mark).expect("a block");
    let version = &mut bytes[block..][33..][..toolchain.version.len()];
    assert_eq!(version, toolchain.version.as_bytes(), "it is where Go 1.18 and later have it");
    version.copy_from_slice(newer.as_bytes());
    fs::copy(program, &copy).expect("a copy");
    fs::write(&copy, bytes).expect("the copy is changed");
    copy
}

/// Just as long.
fn newer(toolchain: &Toolchain) -> String {
    toolchain.version.replacen("1.2", "1.9", 1)
}

#[test]
fn a_newer_release_is_read_by_its_debug_information_or_refused() {
    let toolchain = oldest_and_newest().pop().expect("the newest");
    let newer = newer(&toolchain);

    let program = build("mapcache", &toolchain, Build::Plain, Profiler::Served);
    let program = say_newer(&program, &toolchain);
    let mut workload = start(&program);
    let report = assert_profile_is_its_own(&mut workload, &newer);
    assert_eq!(report.text("/target/go_version"), newer);
    let notices = report.notices();
    assert!(
        notices.iter().any(|notice| notice.contains(" is newer than outlive knows")),
        "{notices:?}"
    );
    workload.exit();
    fs::remove_file(program).expect("the copy goes");

    let program = build("mapcache", &toolchain, Build::Stripped, Profiler::Served);
    let program = say_newer(&program, &toolchain);
    let workload = start(&program);
    let [_, why, _] = snapshot(workload.pid()).error(4);
    assert!(why.contains(&newer) && why.contains("1.19 to 1.27"), "{why}");
    workload.exit();
    fs::remove_file(program).expect("the copy goes");
}
