//! What a process maps and unmaps is followed to the byte, whoever makes the system call, and nothing counts twice.

use outlive_tests::compiler::{Build, build, line_of};
use outlive_tests::counts::{Counts, number};
use outlive_tests::outlive::{Outlive, command, command_with_tracefs};
use outlive_tests::report::{Report, Site};
use outlive_tests::workload::Workload;

const SOURCE: &str = "c/mappings.c";
const PAGE_BYTES: u64 = 4096;

/// Traces one scenario; gives what it says of itself, with the page that the kernel has mapped for its probes, and the report.
fn traced(scenario: &str, further: &[&str]) -> (String, Report) {
    let mut workload = Workload::start(&build(SOURCE, Build::NoFramePointers), &[scenario]);
    let mut arguments = vec!["--mappings"];
    arguments.extend(further);
    let outlive = Outlive::attach(&[workload.pid()], &arguments);
    workload.talk.say("go");
    let own = workload.talk.hear();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", workload.pid())).expect("its maps");
    let own = own.replacen('{', &format!("{{\"probes\":{},", probe_bytes(&maps)), 1);
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    (own, report)
}

/// Where returns of probed functions are trapped: the kernel maps it itself, at the first such call.
fn probe_bytes(maps: &str) -> u64 {
    maps.lines().filter(|line| line.ends_with("[uprobes]")).count() as u64 * PAGE_BYTES
}

/// The mapping sites whose call is in this function of the workload.
fn sites_in<'r>(report: &'r Report, function: &str) -> Vec<Site<'r>> {
    let is_mapping = |site: &Site<'_>| site.json["kind"] == "mapping";
    report
        .sites()
        .into_iter()
        .filter(is_mapping)
        .filter(|site| site.function() == function)
        .collect()
}

fn sum(sites: &[Site<'_>], name: &str) -> u64 {
    sites.iter().map(|site| site.number(name)).sum()
}

fn mappings(report: &Report, name: &str) -> u64 {
    report.number(&format!("/mappings/{name}"))
}

/// Insists that the report accounts for all that the kernel says was gained.
fn assert_accounts_for_all(own: &str, report: &Report) {
    let parts = ["live_bytes", "by_allocator_bytes", "read_only_file_bytes"];
    let accounted: u64 = parts.into_iter().map(|part| mappings(report, part)).sum();
    assert_eq!(accounted + number(own, "probes"), number(own, "gained"), "{own}; {report}");
}

/// Insists on the bytes that each site has left, on its calls, and that there is no other site.
fn assert_sites(own: &str, report: &Report, first: &str, second: &str) {
    let mut expected = (0, 0);
    for (function, name) in [(first, "first"), (second, "second")] {
        let (sites, calls) = (sites_in(report, function), number(own, &format!("{name}_count")));
        let bytes = number(own, name);
        assert_eq!(sum(&sites, "live_bytes"), bytes, "left of {function}; {own}; {report}");
        assert_eq!(sum(&sites, "allocated_count"), calls, "calls of {function}; {own}; {report}");
        for site in &sites {
            assert_eq!(site.json["stack_end"], "root", "{}; {report}", site.json);
            assert_eq!(site.json["backing"], "anonymous", "{}; {report}", site.json);
        }
        expected = (expected.0 + bytes, expected.1 + calls);
    }
    assert!(expected.1 > 0, "a scenario that maps nothing proves nothing");
    let totals = (mappings(report, "live_bytes"), mappings(report, "mapped_count"));
    assert_eq!(totals, expected, "totals; {own}; {report}");
    let left = mappings(report, "mapped_bytes") - mappings(report, "unmapped_bytes");
    assert_eq!(mappings(report, "live_bytes"), left, "{report}");
    report.assert_no_loss_but(&["unknown_frees"]);
}

fn scenario_is_exact(scenario: &str, first: &str, second: &str) {
    let (own, report) = traced(scenario, &["--exact"]);
    assert_sites(&own, &report, first, second);
    assert_eq!(report.totals(), Counts::parse(&own), "nothing is an allocation; {report}");
    assert_eq!(mappings(&report, "by_allocator_bytes"), 0, "{report}");
    assert_accounts_for_all(&own, &report);
}

#[test]
fn what_is_mapped_and_not_unmapped_is_live() {
    let (own, report) = traced("whole", &["--exact"]);
    assert_sites(&own, &report, "first_site", "second_site");
    let sites = sites_in(&report, "first_site");
    let line = line_of(SOURCE, "first");
    for (site, pages) in sites.iter().zip([30, 20, 0]) {
        site.assert_live(u64::from(pages > 0), pages * PAGE_BYTES);
        site.assert_frame(0, "first_site", "mappings.c", line);
        site.assert_frame_function(1, "whole");
        site.assert_frame_function(2, "main");
    }
    assert_eq!(sites.len(), 3, "one site for each line that called; {report}");
}

#[test]
fn a_mapping_unmapped_in_parts_is_what_is_left_of_it() {
    scenario_is_exact("partial", "first_site", "second_site");
}

#[test]
fn one_munmap_over_many_mappings_takes_of_each() {
    scenario_is_exact("across", "first_site", "second_site");
}

#[test]
fn map_fixed_takes_the_place_of_what_was_there() {
    scenario_is_exact("fixed", "first_site", "second_site");
}

#[test]
fn calls_that_are_refused_change_nothing() {
    scenario_is_exact("refused", "first_site", "second_site");
}

#[test]
fn a_munmap_that_fails_late_leaves_everything() {
    scenario_is_exact("refused_split", "first_site", "second_site");
}

#[test]
fn what_mremap_adds_is_its_own() {
    scenario_is_exact("remap_grows", "first_site", "growing_site");
}

#[test]
fn what_mremap_cuts_off_is_unmapped() {
    scenario_is_exact("remap_shrinks", "first_site", "growing_site");
}

#[test]
fn what_mremap_moves_stays_with_who_mapped_it() {
    scenario_is_exact("remap_moves", "first_site", "second_site");
}

#[test]
fn what_mremap_leaves_behind_is_mapped_twice() {
    scenario_is_exact("remap_keeps", "first_site", "growing_site");
}

#[test]
fn the_break_goes_up_and_down_by_whole_pages() {
    scenario_is_exact("breaks", "break_site", "first_site");
}

#[test]
fn system_calls_made_without_the_library_are_seen() {
    scenario_is_exact("direct", "direct_site", "first_site");
}

#[test]
fn lengths_stand_for_whole_pages() {
    scenario_is_exact("odd", "odd_site", "first_site");
}

#[test]
fn threads_that_are_given_each_others_addresses_are_exact() {
    scenario_is_exact("churn", "first_site", "growing_site");
}

#[test]
fn a_childs_mappings_are_its_own() {
    scenario_is_exact("forks", "first_site", "second_site");
}

#[test]
fn what_was_mapped_before_is_unknown_and_harmless() {
    let (own, report) = traced("inherited", &["--exact"]);
    assert_sites(&own, &report, "growing_site", "second_site");
    assert_eq!(mappings(&report, "unknown_unmapped_bytes"), 10 * PAGE_BYTES, "{report}");
}

/// Both ways to tell the allocator's own mappings: a call that is recorded, and the code that the stack passes through.
#[test]
fn a_large_block_is_an_allocation_and_no_mapping() {
    for sampling in [&["--exact"][..], &["--sample", "1GiB"]] {
        let (own, report) = traced("large_blocks", sampling);
        assert_sites(&own, &report, "first_site", "second_site");
        let counts = Counts::parse(&own);
        if report.text("/sampling/mode") == "exact" {
            assert_eq!(report.totals(), counts, "{report}");
        }
        assert!(mappings(&report, "by_allocator_bytes") > counts.live_bytes, "{own}; {report}");
        assert_accounts_for_all(&own, &report);
    }
}

#[test]
fn the_heap_that_small_blocks_come_from_is_no_mapping_site() {
    for sampling in [&["--exact"][..], &["--sample", "1GiB"]] {
        let (own, report) = traced("small_blocks", sampling);
        assert_sites(&own, &report, "first_site", "second_site");
        // The arena of the other thread is unmapped with it, or kept for the next one: the kernel knows.
        assert!(mappings(&report, "by_allocator_bytes") > 3000 * 1000, "{own}; {report}");
        assert_accounts_for_all(&own, &report);
    }
}

#[test]
fn the_stack_of_a_thread_belongs_to_who_created_it() {
    let (own, report) = traced("thread_stack", &["--exact"]);
    let sites = report.sites();
    let stacks: Vec<_> = sites
        .iter()
        .filter(|site| {
            let frames = site.json["frames"].as_array().into_iter().flatten();
            let mut functions = frames.filter_map(|frame| frame["function"].as_str());
            site.json["kind"] == "mapping" && functions.any(|name| name == "creating_site")
        })
        .collect();
    let [site] = stacks[..] else { panic!("not one site: {own}; {report}") };
    site.assert_live(1, number(&own, "first"));
    assert_eq!(site.json["stack_end"], "root", "{report}");
    assert_eq!(mappings(&report, "live_bytes"), number(&own, "first"), "{report}");
    assert_accounts_for_all(&own, &report);
    report.assert_no_loss();
}

#[test]
fn files_are_sites_when_they_can_be_written_to() {
    let (own, report) = traced("files", &["--exact"]);
    let sites = sites_in(&report, "file_site");
    assert_eq!(sum(&sites, "live_bytes"), number(&own, "first"), "{report}");
    assert_eq!(sites.len() as u64, number(&own, "first_count"), "{report}");
    assert!(sites.iter().all(|site| site.json["backing"] == "file"), "{report}");
    let shared = sites_in(&report, "files");
    assert_eq!(sum(&shared, "live_bytes"), number(&own, "second"), "{report}");
    assert_eq!(mappings(&report, "read_only_file_bytes"), 2 * 6 * PAGE_BYTES, "{report}");
    assert_accounts_for_all(&own, &report);
    report.assert_no_loss();
}

#[test]
fn a_followed_child_starts_with_an_empty_book() {
    let mut workload = Workload::start(&build(SOURCE, Build::NoFramePointers), &["family"]);
    let parent = workload.pid();
    let arguments = ["attach", "--exact", "--mappings", "--follow-fork", "--format", "json"];
    let mut command = command_with_tracefs(arguments);
    let outlive = Outlive::start(command.arg(parent.to_string()));
    outlive.await_tracing(parent);
    workload.talk.say("go");
    let line = workload.talk.hear();
    let child = line.strip_prefix("child ").and_then(|number| number.parse().ok());
    let child = child.unwrap_or_else(|| panic!("{line:?} is not the child's line"));
    outlive.await_tracing(child);
    workload.talk.say("child go");
    workload.talk.hear_word("child done");
    workload.talk.say("child exit");
    let own = workload.talk.hear();
    let finished = outlive.stop().with_status(0);
    workload.exit();

    assert_sites(&own, &finished.report_on(parent), "first_site", "second_site");
    let report = finished.report_on(child);
    assert_eq!(mappings(&report, "live_bytes"), 7 * PAGE_BYTES, "{report}");
    assert_eq!(sum(&sites_in(&report, "second_site"), "live_bytes"), 7 * PAGE_BYTES, "{report}");
    assert_eq!(mappings(&report, "unknown_unmapped_bytes"), 4 * PAGE_BYTES, "{report}");
}

#[test]
fn a_new_program_has_none_of_the_old_ones_mappings() {
    let program = build(SOURCE, Build::NoFramePointers);
    let mut workload = Workload::start(&program, &["executes"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--mappings", "--exact"]);
    workload.talk.say("go");
    workload.talk.hear_word("mapped");
    workload.talk.say("exec");
    workload.talk.hear_word("ready");
    workload.talk.say("go");
    let own = workload.talk.hear();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    let old: Vec<_> = sites_in(&report, "first_site")
        .into_iter()
        .filter(|site| site.frame(1)["function"] == "executes")
        .collect();
    assert_eq!(
        (sum(&old, "live_bytes"), sum(&old, "allocated_bytes")),
        (0, 500 * PAGE_BYTES),
        "{report}"
    );
    // Its loader maps too, and its stacks are complete a moment later only: the sum tells.
    assert!(mappings(&report, "live_bytes") >= number(&own, "first"), "{own}; {report}");
    assert!(mappings(&report, "live_bytes") < 500 * PAGE_BYTES, "{report}");
    assert_eq!(report.number("/loss/lost_events"), 0, "{report}");
}

/// From the first instruction on everything is known: what the report has and what the kernel says must be the same.
#[test]
fn a_program_is_followed_from_its_start() {
    let program = build(SOURCE, Build::NoFramePointers);
    let mut command = command(["run", "--mappings", "--format", "json", "-o"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    command.arg(&file).arg("--").arg(&program).arg("partial");
    let mut outlive = Outlive::start(&mut command);
    outlive.talk.hear_word("ready");
    outlive.talk.say("go");
    let own = outlive.talk.hear();
    outlive.talk.say("exit");
    let finished = outlive.finish().with_status(0);
    let text = std::fs::read_to_string(&file).expect("a report");
    let report = finished.reports_in(&text).pop().expect("one report");
    assert_eq!(
        sum(&sites_in(&report, "first_site"), "live_bytes"),
        number(&own, "first"),
        "{report}"
    );
    assert!(mappings(&report, "read_only_file_bytes") > 1 << 20, "the C library; {report}");
    report.assert_no_loss();
}

#[test]
fn without_the_flag_nothing_is_said_of_mappings() {
    let mut workload = Workload::start(&build(SOURCE, Build::Debug), &["whole"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    workload.talk.say("go");
    workload.talk.hear();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    assert!(report.value("/mappings").is_null(), "{report}");
    assert!(report.sites().iter().all(|site| site.json["kind"] == "allocation"), "{report}");
    assert_eq!(report.number("/cost/mapping_hits"), 0, "{report}");
}

#[test]
fn text_has_a_table_of_its_own() {
    let mut workload = Workload::start(&build(SOURCE, Build::NoFramePointers), &["large_blocks"]);
    let pid = workload.pid();
    let outlive =
        Outlive::start(&mut command(["attach", "--exact", "--mappings", &pid.to_string()]));
    outlive.await_tracing(pid);
    workload.talk.say("go");
    workload.talk.hear();
    let finished = outlive.stop().with_status(0);
    workload.exit();
    let lines: Vec<&str> = finished.stdout.lines().collect();
    let at = |what: &str| {
        let found = lines.iter().position(|line| line.contains(what));
        found.unwrap_or_else(|| panic!("no {what:?}; {finished}"))
    };
    let (allocated, mapped) = (at("ALLOCATED IN"), at("MAPPED IN"));
    assert!(allocated < mapped, "{finished}");
    assert!(lines[mapped + 1].contains("28.0 KiB"), "{finished}");
    assert!(
        lines[mapped + 1].ends_with(&format!("first_site mappings.c:{}", line_of(SOURCE, "first"))),
        "{finished}"
    );
    assert!(lines[mapped + 2].starts_with("mapped 28.0 KiB in 1 mappings"), "{finished}");
}

/// A ring that is too small loses events: the losses are counted, and what is not mapped any more is not shown.
#[test]
fn after_a_loss_nothing_is_shown_that_is_not_mapped() {
    let mut workload = Workload::start(&build(SOURCE, Build::NoFramePointers), &["churn"]);
    let outlive = Outlive::attach_by(&[workload.pid()], &["--exact", "--mappings"], |command| {
        command.env("OUTLIVE_RING_SIZE", "4KiB");
    });
    workload.talk.say("go");
    let own = workload.talk.hear();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    let lost = report.number("/loss/lost_mappings") + report.number("/loss/lost_unmappings");
    assert!(lost > 0, "the ring is too small for the churn; {report}");
    assert!(mappings(&report, "live_bytes") <= number(&own, "first"), "{own}; {report}");
    assert!(report.notices().iter().any(|notice| notice.contains("munmap")), "{report}");
    assert!(report.number("/loss/lost_events") >= lost, "{report}");
}

/// Bytes of mappings with a file and without, by the kernel's own list. The stack of the first thread and the page of the
/// probes' trampoline are made by the kernel, not by a call.
fn kernels_list(pid: u32) -> (i64, i64) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its maps");
    let (mut anonymous, mut files) = (0, 0);
    for line in
        maps.lines().filter(|line| !line.ends_with("[stack]") && !line.ends_with("[uprobes]"))
    {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ends = words[0]
            .split_once('-')
            .map(|ends| [ends.0, ends.1].map(|end| i64::from_str_radix(end, 16).unwrap_or(0)));
        let Some([start, end]) = ends else { continue };
        // The kernel's own half of the address space is no memory of the process.
        if end >= start {
            // Shared anonymous memory is a file that the kernel makes up.
            let is_anonymous = words[4] == "0" || line.ends_with(" /dev/zero (deleted)");
            *if is_anonymous { &mut anonymous } else { &mut files } += end - start;
        }
    }
    (anonymous, files)
}

/// An interpreter with its own allocator over malloc and mmap: by the kernel's list of mappings nothing is missing and
/// nothing counts twice, neither of anonymous memory nor of files.
#[test]
fn an_interpreters_growth_is_the_kernels_to_the_byte() {
    for sampling in [&["--exact"][..], &[]] {
        let script = outlive_tests::compiler::sources().join("python/grows.py");
        let mut workload =
            Workload::start_command(std::process::Command::new("python3").arg(script));
        let before = kernels_list(workload.pid());
        let outlive =
            Outlive::attach(&[workload.pid()], &[&["--mappings", "--top", "0"], sampling].concat());
        workload.talk.say("go");
        workload.talk.hear_word("grown");
        let after = kernels_list(workload.pid());
        let report = outlive.stop().with_status(0).report();
        workload.exit();

        let of_backing = |backing: &str| -> i64 {
            let sites = report.sites();
            let sites = sites.iter().filter(|site| site.json["backing"] == backing);
            sites.map(|site| site.number("live_bytes").cast_signed()).sum()
        };
        let sum = |name| mappings(&report, name).cast_signed();
        assert_eq!(sum("unknown_unmapped_bytes"), 0, "{report}");
        let anonymous = of_backing("anonymous") + sum("by_allocator_bytes");
        let files = of_backing("file") + sum("read_only_file_bytes");
        assert_eq!((anonymous, files), (after.0 - before.0, after.1 - before.1), "{report}");
        assert!(sum("live_bytes") > (12 << 20), "its own map and more; {report}");
        assert!(sum("by_allocator_bytes") > (10 << 20), "its large objects; {report}");
        assert_eq!(report.number("/loss/lost_events"), 0, "{report}");
    }
}
