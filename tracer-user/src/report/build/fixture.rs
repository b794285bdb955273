//! One fixed ledger, which every format's golden test shows.

use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn estimate(value: f64, half: f64) -> Estimate {
    Estimate { value, ci95: (value - half, value + half) }
}

fn site(stack_id: u64, live: f64, count: f64, oldest: f64, growth: f64) -> SiteSnapshot {
    SiteSnapshot {
        stack_id,
        live_bytes: estimate(live, live / 8.0),
        live_count: estimate(count, count / 8.0),
        allocated_bytes: live + count * 64.0,
        allocated_count: count * 2.0,
        freed_count: count,
        freed_bytes: count * 64.0,
        oldest_age_s: oldest,
        median_age_s: oldest / 2.0,
        age_histogram: [1.0, 2.0, count - 3.0, 0.0, 0.0, 0.0],
        growth_bytes_per_s: estimate(growth, 1000.0),
        go: None,
    }
}

/// Four sites, two of them equal in live bytes.
pub(in crate::report) fn snapshot() -> Snapshot {
    Snapshot {
        seconds: 30.000_4,
        frees_known_s: None,
        totals: crate::ledger::snapshot::Totals {
            live_bytes: estimate(12_582_912.0, 1_048_576.0),
            live_count: estimate(200_500.0, 10_000.0),
            allocated_bytes: 50_000_000.0,
            allocated_count: 400_000.0,
            freed_bytes: 37_417_088.0,
            freed_count: 199_500.0,
            inherited_bytes: None,
        },
        sites: vec![
            site(5, 1_048_576.0, 16.0, 9.0, 0.0),
            site(9, 0.0, 200_000.0, 0.5, -2000.0),
            site(7, 10_485_760.0, 160.0, 29.25, 358_400.0),
            site(3, 1_048_576.0, 16.0, 4000.0, 512.0),
        ],
        unknown_frees: 12,
        implied_frees: 1,
    }
}

fn frame(function: &str, file: Option<(&str, u32)>, module: &str, inlined: bool) -> Frame {
    Frame {
        function: function.to_owned(),
        file: file.map(|f| f.0.to_owned()),
        line: file.map(|f| f.1),
        module: Some(module.to_owned()),
        build_id: None,
        offset: 4242,
        inlined,
    }
}

fn stack(id: u64) -> Stack {
    let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    let svc = "/usr/bin/svc";
    let malloc = frame("malloc", None, libc, false);
    let start = frame("_start", None, svc, false);
    let (frames, end) = match id {
        7 => (
            vec![
                malloc,
                frame("make_entry", Some(("/src/svc/cache.c", 12)), svc, true),
                frame("lookup", Some(("/src/svc/main.c", 31)), svc, false),
                frame("main", Some(("/src/svc/main.c", 90)), svc, false),
                start,
            ],
            Some(StackEnd::Root),
        ),
        3 => (
            vec![
                malloc,
                frame("operator new(unsigned long)", None, "/usr/lib/libstdc++.so.6", false),
                frame(
                    "std::vector<Order, std::allocator<Order> >::reserve(unsigned long)",
                    None,
                    svc,
                    false,
                ),
                frame(
                    "shop::orders::Registry<shop::Order, std::less<shop::Key> >::remember(shop::Key const&, shop::Order&&)",
                    Some(("/src/svc/a/very/long/path/to/the/orders/registry.cpp", 1234)),
                    svc,
                    false,
                ),
                start,
            ],
            Some(StackEnd::Root),
        ),
        5 => (
            vec![malloc, frame("svc+0x1092\u{1b}[31m", None, svc, false)],
            Some(StackEnd::FramePointerLost),
        ),
        _ => (Vec::new(), None),
    };
    Stack { frames, end, ..Stack::default() }
}

pub(in crate::report) fn input(
    snapshot: &Snapshot,
    sample: Option<u64>,
    top: usize,
) -> ReportInput<'_> {
    ReportInput {
        target: target(),
        start: UNIX_EPOCH + Duration::from_millis(1_800_000_000_250),
        end: UNIX_EPOCH + Duration::from_millis(1_800_000_030_250),
        sampling: sample.map_or(Sampling::Exact, |mean_bytes| Sampling::Poisson {
            mean_bytes,
            first_mean_bytes: mean_bytes,
        }),
        snapshot,
        mappings: None,
        stack: Box::leak(Box::new(stack)),
        loss: Loss {
            lost_events: 3,
            lost_allocations: 1,
            lost_allocated_bytes: 4096,
            lost_frees: 2,
            truncated_stacks: 1,
            notices: vec![
                "libfoo.so: its file cannot be read; its allocations are not seen".into(),
            ],
            ..Loss::default()
        },
        memory: ProcessMemory { rss_bytes: 83_886_080, limit_bytes: Some(2 << 30) },
        cost: Cost {
            hits: 599_512,
            estimated_slowdown: Some(0.043_21),
            tracer_cpu_s: 1.234_56,
            tracer_rss_bytes: 31_457_280,
            allocate_hits: 400_000,
            release_hits: 199_512,
            mapping_hits: 0,
            own_cpu_s: 1.234_56,
            own_rss_bytes: 31_457_280,
        },
        options: Options { sort: Sort::Live, top, raw: false },
    }
}

fn target() -> TargetSection {
    TargetSection {
        pid: 4242,
        comm: "svc".into(),
        exe: "/usr/bin/svc".into(),
        build_id: Some("0123abcd".into()),
        kind: "native",
        go_version: None,
        container_id: None,
        pod: None,
        allocators: vec!["glibc 2.36".into()],
        symbols: "full",
    }
}

pub(crate) fn report(sample: Option<u64>, top: usize) -> Report {
    report_on(&snapshot(), sample, top)
}

pub(crate) fn report_on(snapshot: &Snapshot, sample: Option<u64>, top: usize) -> Report {
    build(input(snapshot, sample, top))
}
