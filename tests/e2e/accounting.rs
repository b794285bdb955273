//! The bookkeeping is exact where calls nest, fail, cross threads and processes, or never return.

use outlive_tests::compiler::{Build, build};
use outlive_tests::counts::{Counts, number};
use outlive_tests::outlive::Outlive;
use outlive_tests::report::Report;
use outlive_tests::workload::Workload;

/// Traces one scenario of a workload; gives its own counts and the report.
fn traced(source: &str, scenario: &str) -> (Counts, Report) {
    let mut workload = Workload::start(&build(source, Build::Debug), &[scenario]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    (own, report)
}

fn scenario_is_exact(source: &str, scenario: &str) {
    let (own, report) = traced(source, scenario);
    report.assert_exact(own);
}

#[test]
fn reallocarray_that_calls_realloc_that_calls_malloc_is_one_allocation() {
    scenario_is_exact("c/accounting.c", "nested");
}

#[test]
fn realloc_of_null_is_an_allocation() {
    scenario_is_exact("c/accounting.c", "realloc_of_null");
}

#[test]
fn realloc_to_zero_is_a_free() {
    scenario_is_exact("c/accounting.c", "realloc_to_zero");
}

#[test]
fn realloc_frees_the_old_block_and_allocates_the_new_one_wherever_it_is() {
    scenario_is_exact("c/accounting.c", "realloc_moves_and_stays");
}

#[test]
fn a_failing_realloc_leaves_the_old_block_live() {
    scenario_is_exact("c/accounting.c", "failing_realloc");
}

#[test]
fn failing_calls_are_not_allocations() {
    scenario_is_exact("c/accounting.c", "failing_calls");
}

#[test]
fn freeing_null_is_nothing() {
    scenario_is_exact("c/accounting.c", "free_of_null");
}

#[test]
fn blocks_of_no_size_are_blocks() {
    scenario_is_exact("c/accounting.c", "zero_sizes");
}

#[test]
fn every_form_of_operator_new_is_one_allocation() {
    scenario_is_exact("cpp/news.cpp", "every_form");
}

#[test]
fn a_throwing_operator_new_is_still_caught() {
    scenario_is_exact("cpp/news.cpp", "bad_alloc");
}

#[test]
fn threads_that_allocate_and_free_at_once_are_exact() {
    scenario_is_exact("c/threads.c", "churn");
}

#[test]
fn blocks_freed_by_another_thread_are_freed() {
    scenario_is_exact("c/threads.c", "handover");
}

#[test]
fn an_address_given_out_again_across_threads_is_a_new_block() {
    scenario_is_exact("c/threads.c", "reuse");
}

#[test]
fn a_forked_child_does_not_touch_the_parents_ledger() {
    scenario_is_exact("c/accounting.c", "fork_frees");
}

/// A thread that a signal ends inside malloc has begun a call that it did not finish: whether the block exists only
/// the kernel programs know, and they say so.
#[test]
fn threads_that_end_inside_the_allocator_are_accounted_or_counted_as_missed() {
    let mut workload = Workload::start(&build("c/threads.c", Build::Debug), &["killed"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    workload.talk.say("go");
    let line = workload.talk.hear();
    let report = outlive.stop().with_status(0).report();
    workload.exit();

    let own = |name| number(&line, name);
    let totals = report.totals();
    let (missed, lost) =
        (report.number("/loss/missed_returns"), report.number("/loss/lost_events"));
    assert_eq!(lost, 0, "{report}");
    assert!(own("done_allocations") > 1000, "the victims did their work: {line}");
    let accounted = totals.allocated_count + missed;
    assert!(own("done_allocations") <= accounted, "{line}; {report}");
    assert!(accounted <= own("begun_allocations"), "{line}; {report}");
    assert!(own("done_frees") <= totals.freed_count, "{line}; {report}");
    assert!(totals.freed_count <= own("begun_frees"), "{line}; {report}");
    assert_eq!(totals.live_count, totals.allocated_count - totals.freed_count, "{report}");
    assert_eq!(totals.live_bytes, totals.live_count * 100, "{report}");
}

#[test]
fn a_new_program_starts_with_an_empty_ledger() {
    let mut workload = Workload::start(&build("c/accounting.c", Build::Debug), &["exec_replaces"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--exact"]);
    let old = workload.go();
    assert!(old.live_count > 0, "the old program leaves blocks behind");
    workload.talk.say("exec");
    workload.talk.hear_word("ready");
    let new = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();

    let totals = report.totals();
    assert_eq!(
        (totals.live_count, totals.live_bytes),
        (new.live_count, new.live_bytes),
        "only the new program's blocks are live; {report}"
    );
    assert!(totals.allocated_count >= new.allocated_count, "{report}");
    assert_eq!(report.number("/loss/lost_events"), 0, "{report}");
}

#[test]
fn a_call_that_is_jumped_over_is_counted_once_and_spoils_nothing() {
    let (own, report) = traced("c/accounting.c", "jump_over_realloc");
    assert_eq!(report.totals(), own, "{report}");
    assert_eq!(report.number("/loss/missed_returns"), 1, "{report}");
    assert_eq!(report.number("/loss/missed_return_bytes"), 4321, "{report}");
    report.assert_no_loss_but(&["missed_returns", "missed_return_bytes"]);
}

#[test]
fn a_block_that_is_resized_in_one_place_is_sampled_like_any_other() {
    let workload = build("c/accounting.c", Build::Debug);
    let mut workload = Workload::start(&workload, &["realloc_in_one_place"]);
    let outlive = Outlive::attach(&[workload.pid()], &["--sample", "8KiB"]);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    // Some 1200 samples: the estimate is off by 3 % on average, and by a third never.
    let estimate = report.totals().allocated_bytes;
    let range = own.allocated_bytes * 2 / 3..own.allocated_bytes * 4 / 3;
    assert!(range.contains(&estimate), "{estimate} of {}; {report}", own.allocated_bytes);
}
