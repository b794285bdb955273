//! Exact at size: millions of live blocks, tens of thousands of call stacks.

use outlive_tests::compiler::{Build, build, line_of};
use outlive_tests::counts::Counts;
use outlive_tests::outlive::Outlive;
use outlive_tests::report::Report;
use outlive_tests::workload::Workload;

fn traced(source: &str, arguments: &[&str], further: &[&str]) -> (Counts, Report) {
    let mut workload = Workload::start(&build(source, Build::Debug), arguments);
    let outlive = Outlive::attach(&[workload.pid()], further);
    let own = workload.go();
    let report = outlive.stop().with_status(0).report();
    workload.exit();
    (own, report)
}

#[test]
fn two_million_live_blocks_are_exact() {
    let (own, report) = traced("c/burst.c", &["2000000", "24", "1000"], &["--exact"]);
    assert_eq!(own.live_count, 1_999_000);
    report.assert_exact(own);
    let site = report.first_site();
    site.assert_live(own.live_count, own.live_bytes);
    site.assert_frame(0, "allocate", "burst.c", line_of("c/burst.c", "burst"));
}

#[test]
fn twenty_thousand_call_stacks_are_exact() {
    const STACKS: u64 = 20_000;
    let (own, report) = traced("c/stacks.c", &["20000", "3"], &["--exact", "--top", "30000"]);
    assert_eq!(own.live_count, 3 * STACKS);
    report.assert_exact(own);
    let sites = report.sites();
    assert_eq!(sites.len() as u64, STACKS, "every stack is a site");
    let mut paths: Vec<String> = sites
        .iter()
        .map(|site| {
            site.assert_live(3, 96);
            let frames = site.json["frames"].as_array().expect("frames");
            frames
                .iter()
                .filter_map(|frame| frame["function"].as_str())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len() as u64, STACKS, "no two sites are the same path");
    for path in &paths {
        assert_eq!(path.matches("turn_").count(), 15, "{path}");
        assert!(path.contains(" main"), "{path} leads to main");
    }
}
