//! Nothing is lost silently: totals and losses together are the workload's own counts.

use outlive_tests::compiler::{Build, build};
use outlive_tests::counts::Counts;
use outlive_tests::outlive::{Finished, Outlive, command};
use outlive_tests::workload::Workload;

/// Traces a burst with some settings.
fn burst(arguments: [&str; 3], further: &[&str], settings: &[(&str, &str)]) -> (Counts, Finished) {
    let mut workload = Workload::start(&build("c/burst.c", Build::Optimised), &arguments);
    let outlive = Outlive::attach_by(&[workload.pid()], further, |command| {
        command.envs(settings.iter().copied());
    });
    let own = workload.go();
    let finished = outlive.stop();
    workload.exit();
    (own, finished)
}

#[test]
fn totals_and_losses_of_an_overflowing_ring_are_the_programs_own_counts() {
    let (own, finished) =
        burst(["200000", "24", "100000"], &["--exact"], &[("OUTLIVE_RING_SIZE", "4KiB")]);
    let finished = finished.with_status(0);
    let report = finished.report();
    let (totals, loss) = (report.totals(), |name: &str| report.number(&format!("/loss/{name}")));

    assert!(loss("lost_allocations") > 0, "the ring is too small for the burst; {report}");
    assert_eq!(totals.allocated_count + loss("lost_allocations"), own.allocated_count, "{report}");
    assert_eq!(
        totals.allocated_bytes + loss("lost_allocated_bytes"),
        own.allocated_bytes,
        "{report}"
    );
    // A free is in the ledger, or its event was lost, or it came for a block whose allocation was lost.
    assert_eq!(
        totals.freed_count + loss("lost_frees") + loss("unknown_frees"),
        own.freed_count,
        "{report}"
    );
    assert_eq!(totals.live_count, totals.allocated_count - totals.freed_count, "{report}");
    assert!(loss("lost_events") >= loss("lost_allocations") + loss("lost_frees"), "{report}");
    assert!(!report.notices().is_empty(), "losses are told in words; {report}");
    assert!(
        report.sites().iter().map(|site| site.number("allocated_count")).sum::<u64>()
            <= totals.allocated_count,
        "{report}"
    );
}

#[test]
fn losing_more_than_allowed_is_exit_status_5() {
    let (_, finished) = burst(
        ["200000", "24", "0"],
        &["--exact", "--max-loss", "0"],
        &[("OUTLIVE_RING_SIZE", "4KiB")],
    );
    let report = finished.with_status(5).report();
    assert!(report.number("/loss/lost_allocations") > 0, "{report}");
}

#[test]
fn losing_nothing_is_exit_status_0_even_when_nothing_may_be_lost() {
    let (own, finished) = burst(["20000", "24", "10000"], &["--exact", "--max-loss", "0"], &[]);
    finished.with_status(0).report().assert_exact(own);
}

/// Every block is 100 times the mean, so that each is sampled and stands for itself.
#[test]
fn blocks_that_do_not_fit_in_the_table_are_counted_as_untracked() {
    let (own, finished) =
        burst(["500", "102400", "20"], &["--sample", "1KiB"], &[("OUTLIVE_LIVE_CAPACITY", "64")]);
    let report = finished.with_status(0).report();
    let totals = report.totals();
    let untracked = report.number("/loss/untracked_allocations");

    assert_eq!(totals.allocated_count, own.allocated_count, "{report}");
    assert_eq!(totals.allocated_bytes, own.allocated_bytes, "{report}");
    assert!(untracked > 0, "64 entries do not hold 500 blocks; {report}");
    assert!(totals.live_count > 0, "what fits is followed; {report}");
    assert_eq!(totals.live_count + totals.freed_count + untracked, own.allocated_count, "{report}");
    assert!(totals.freed_count <= own.freed_count, "{report}");
    assert!(!report.notices().is_empty(), "{report}");
}

/// Events are lost, but the kernel's table of sampled blocks is whole: what is live is right at the end, too.
#[test]
fn sampled_blocks_that_live_are_right_whatever_was_lost() {
    let further = ["--sample", "1KiB"];
    let (own, finished) =
        burst(["20000", "102400", "15000"], &further, &[("OUTLIVE_RING_SIZE", "4KiB")]);
    let report = finished.with_status(0).report();
    assert!(report.number("/loss/lost_events") > 0, "the ring is too small; {report}");
    let totals = report.totals();
    assert_eq!(
        (totals.live_count, totals.live_bytes),
        (own.live_count, own.live_bytes),
        "{report}"
    );
}

#[test]
fn the_text_report_tells_the_losses_too() {
    let mut workload =
        Workload::start(&build("c/burst.c", Build::Optimised), &["200000", "24", "0"]);
    let outlive = Outlive::start(
        command(["attach", "--exact", "--format", "text", &workload.pid().to_string()])
            .env("OUTLIVE_RING_SIZE", "4KiB"),
    );
    outlive.await_tracing(workload.pid());
    workload.go();
    let finished = outlive.stop().with_status(0);
    workload.exit();
    let tells = |line: &str| line.contains("lost") && line.contains(|c| ('1'..='9').contains(&c));
    assert!(finished.stdout.to_lowercase().lines().any(tells), "{finished}");
}
