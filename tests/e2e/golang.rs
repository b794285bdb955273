//! `outlive snapshot` of Go programs says what the programs say of themselves, record by record, to the byte.

use outlive_tests::compiler::{self, line_of};
use outlive_tests::golang::build::{Build, Profiler, build};
use outlive_tests::golang::claims::{assert_claims, claims, goroutine_counts, snapshot};
use outlive_tests::golang::goroutines::{Goroutine, GoroutineCounts, count};
use outlive_tests::golang::profile::{Amounts, CodeLine, HeapProfile};
use outlive_tests::golang::toolchains::{Toolchain, with_each};
use outlive_tests::golang::workload::{GoWorkload, RATE};
use outlive_tests::patience::{PATIENCE, await_condition};
use outlive_tests::report::Report;
use outlive_tests::workload::Workload;

const DEFAULT_RATE: u64 = 512 * 1024;
/// The runtime samples every allocation.
const EVERY_ALLOCATION: &[(&str, &str)] = &[(RATE, "1")];
/// The runtime samples so many that most call sites are seen.
const MANY: &[(&str, &str)] = &[(RATE, "4096")];

const PROGRAMS: [(&str, Build); 7] = [
    ("mapcache", Build::Plain),
    ("sessions", Build::Plain),
    ("lru", Build::Plain),
    ("goleak", Build::Plain),
    ("deep", Build::Plain),
    ("shapes", Build::Plain),
    ("cgo", Build::Cgo),
];

fn start(name: &str, toolchain: &Toolchain, how: Build, rate: &[(&str, &str)]) -> GoWorkload {
    GoWorkload::start_with(&build(name, toolchain, how, Profiler::Served), rate)
}

fn snapshot_report(pid: u32) -> Report {
    snapshot(pid).with_status(0).report()
}

/// Insists that a snapshot of an idle program is its own profile; gives the report.
fn assert_same(workload: &mut GoWorkload, what: &str) -> Report {
    let (own, report) = workload.heap_around(snapshot_report);
    assert!(own.total().live_bytes > 0, "{what}: a program that holds nothing proves nothing");
    assert_claims(&report, &own, what);
    report
}

/// What a profile says of the stacks with this line of a workload.
fn at(profile: &HeapProfile, source: &str, site: &str) -> Amounts {
    let line = line_of(&format!("go/{source}"), site);
    profile.sum(|stack| stack.iter().any(|frame| is_at(frame, source, line)))
}

fn is_at(frame: &CodeLine, source: &str, line: u64) -> bool {
    frame.file.ends_with(source) && frame.line == line
}

#[test]
fn report_is_the_programs_own_profile_however_it_is_built() {
    with_each(|toolchain| {
        for how in Build::ALL {
            let mut workload = start("mapcache", toolchain, how, &[]);
            workload.go(3000);
            workload.collect();
            let what = format!("{} {how:?}", toolchain.version);
            let report = assert_same(&mut workload, &what);
            assert_eq!(report.text("/target/kind"), "go", "{what}");
            assert_eq!(report.text("/target/go_version"), toolchain.version, "{what}");
            assert_eq!(report.text("/sampling/mode"), "go-runtime", "{what}");
            assert_eq!(report.number("/sampling/mean_bytes"), DEFAULT_RATE, "{what}");
            workload.exit();
        }
    });
}

#[test]
fn report_is_the_programs_own_profile_whatever_it_does() {
    with_each(|toolchain| {
        for (name, how) in PROGRAMS {
            let mut workload = start(name, toolchain, how, MANY);
            let what = format!("{} {name}", toolchain.version);
            workload.go(500);
            workload.collect();
            assert_same(&mut workload, &what);
            // Not published yet, as far as the runtime did not collect.
            workload.go(200);
            assert_same(&mut workload, &format!("{what}, between two collections"));
            workload.collect();
            assert_same(&mut workload, &format!("{what}, later"));
            workload.exit();
        }
    });
}

#[test]
fn report_is_exact_where_the_program_samples_every_allocation() {
    with_each(|toolchain| {
        let mut workload = start("mapcache", toolchain, Build::Plain, EVERY_ALLOCATION);
        let held = workload.go(400);
        workload.collect();
        let report = assert_same(&mut workload, &toolchain.version);
        let line = line_of("go/mapcache/main.go", "payload");
        // An allocation makes the runtime allocate, now and then: another site, of objects of another size.
        let payloads = report.sites().into_iter().filter(|site| {
            let frame = site.frame(0);
            let is_there = frame["line"] == line && frame["function"] == "main.render";
            is_there && site.number("allocated_bytes") == 2048 * site.number("allocated_count")
        });
        let payloads: Vec<_> = payloads.collect();
        assert_eq!(payloads.len(), 1, "{report}");
        assert_eq!(payloads[0].number("live_count"), held, "{report}");
        assert_eq!(payloads[0].number("allocated_count"), held, "{report}");
        assert_eq!(payloads[0].number("freed_count"), 0, "{report}");
        payloads[0].assert_live(held, held * 2048);
        workload.exit();
    });
}

/// Before its first collection a runtime has published nothing; its profile then is all there is.
#[test]
fn report_before_the_first_collection_is_what_was_allocated() {
    with_each(|toolchain| {
        let variables = [MANY, &[("GOGC", "off")]].concat();
        let mut workload = start("mapcache", toolchain, Build::Plain, &variables);
        workload.go(1000);
        let report = snapshot_report(workload.pid());
        // Serving the profile allocates too, but not in the goroutine that does the work.
        let is_other =
            |stack: &[CodeLine]| !stack.iter().any(|frame| frame.function == "main.main");
        let own = workload.heap().without(is_other);
        assert!(at(&own, "mapcache/main.go", "payload").live_bytes > 0);
        let differences = own.differences(&claims(&report).without(is_other));
        assert!(differences.is_empty(), "{}:\n{}", toolchain.version, differences.join("\n"));
        assert_same(&mut workload, &toolchain.version);
        workload.exit();
    });
}

#[test]
fn snapshots_leave_a_working_program_alone() {
    with_each(|toolchain| {
        let mut workload = start("goleak", toolchain, Build::Plain, MANY);
        let held = workload.go_meanwhile(30_000, |pid| snapshot_report(pid).assert_no_loss());
        assert_eq!(held, 30_000 / 10 * 9 + 30_000 / 5);
        workload.collect();
        assert_same(&mut workload, &toolchain.version);
        workload.exit();
    });
}

#[test]
fn program_that_is_not_of_go_is_refused() {
    let program = compiler::build("c/leak.c", compiler::Build::Debug);
    let workload = Workload::start(&program, &["malloc", "1"]);
    snapshot(workload.pid()).error(4);
}

/// What the other tests compare with is true: the programs' own profiles agree with their own counts.
#[test]
fn programs_profiles_agree_with_their_counts() {
    with_each(|toolchain| {
        for (name, site, size) in
            [("mapcache", "payload", 2048), ("sessions", "session", 64), ("lru", "value", 4096)]
        {
            let mut workload = start(name, toolchain, Build::Plain, EVERY_ALLOCATION);
            let held = workload.go(4000);
            workload.collect();
            let own = at(&workload.heap_of_size(size), &format!("{name}/main.go"), site);
            let what = format!("{} {name}: {own:?}", toolchain.version);
            assert_eq!((own.live_count, own.live_bytes), (held, held * size), "{what}");
            workload.exit();
        }
    });
}

#[test]
fn programs_stacks_are_as_deep_as_their_runtime_keeps_them() {
    with_each(|toolchain| {
        let mut workload = start("deep", toolchain, Build::Plain, EVERY_ALLOCATION);
        workload.go(10);
        workload.collect();
        let line = line_of("go/deep/main.go", "block");
        let profile = workload.heap();
        let mut calls: Vec<usize> = profile
            .records
            .keys()
            .filter(|stack| is_at(&stack[0], "deep/main.go", line))
            .map(|stack| stack.iter().filter(|frame| frame.function == "main.descend").count())
            .collect();
        calls.sort_unstable();
        // One frame is that of `allocate`. Stacks that are cut at the same depth are one.
        let mut kept = [21, 61, 201].map(|calls| calls.min(toolchain.depth() - 1)).to_vec();
        kept.dedup();
        assert_eq!(calls, kept, "{}", toolchain.version);
        workload.exit();
    });
}

#[test]
fn programs_goroutines_agree_with_their_counts() {
    with_each(|toolchain| {
        let mut workload = start("goleak", toolchain, Build::Plain, &[]);
        let held = workload.go(100);
        assert_eq!(held, 90 + 20);
        let watcher = line_of("go/goleak/main.go", "watcher");
        let sender = line_of("go/goleak/main.go", "sender");
        let blocked = |state: &str, site: u64| {
            let is_it = |one: &&Goroutine| {
                let is_there =
                    one.creator.as_ref().is_some_and(|c| is_at(c, "goleak/main.go", site));
                is_there && one.state == state
            };
            workload.goroutines().iter().filter(is_it).count()
        };
        let both = || (blocked("chan receive", watcher), blocked("chan send", sender));
        let seen = await_condition(PATIENCE, || (both() == (90, 20)).then_some(()));
        assert!(seen.is_some(), "{}: {:?}", toolchain.version, both());
        workload.exit();
    });
}

/// By creation site and state, as the program's own traceback has them; those of the server that tells it come and go.
#[test]
fn goroutines_are_the_programs_own() {
    with_each(|toolchain| {
        for how in [Build::Plain, Build::PieStripped] {
            let mut workload = start("goleak", toolchain, how, &[]);
            assert_eq!(workload.go(100), 90 + 20);
            let of_program = |mut counts: GoroutineCounts| {
                let is_own = |creator: &CodeLine| creator.file.ends_with("goleak/main.go");
                counts.retain(|(creator, _), _| creator.as_ref().is_some_and(is_own));
                counts
            };
            let own = || of_program(count(workload.goroutines()));
            // All have come to where they wait for ever.
            let settled = await_condition(PATIENCE, || (own().len() == 2).then_some(()));
            assert!(settled.is_some(), "{}: {:?}", toolchain.version, own());
            let said = of_program(goroutine_counts(workload.pid()));
            assert_eq!(own(), said, "{} {how:?}: its own (left)", toolchain.version);
            workload.exit();
        }
    });
}
