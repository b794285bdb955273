//! What following a Go program costs it: an allocation-heavy one untraced, attached to by outlive, and trapped at every allocation.
//!
//! In: the `go` command, the binary of outlive. Out: nanoseconds of processor time for one request, and the page of it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use outlive::target::ElfAddr;
use outlive::target::elf::Elf;
use serde_json::Value;

use crate::churn::Churn;
use crate::tracer::{Tracers, Tracing};
use crate::traps::Traps;

/// Windows before any counts, while the heap grows.
const WARMING: u32 = 3;
/// Pairs of windows of a round, one untraced and one attached to.
const PAIRS_OF_ROUND: u32 = 10;
/// Windows with traps.
const TRAPPED: u32 = 3;
/// Fewer than the samples of a window: one for every 512 KiB, of which each allocates several hundred MB.
const LEAST_SAMPLES: u64 = 200;
/// Fewer than the allocations of the windows with traps.
const LEAST_ALLOCATIONS: u64 = 1_000_000;
/// What attaching is expected to cost at most, in times untraced.
const EXPECTED: f64 = 1.03;
/// A function of Go begins with its stack check: `cmp rsp, [r14+0x10]`, and `jbe` with a short or a long distance. Then comes
/// `push rbp`, which the kernel need not execute out of line.
const COMPARISON: [u8; 4] = [0x49, 0x3b, 0x66, 0x10];
const SHORT_JUMP: [u8; 1] = [0x76];
const LONG_JUMP: [u8; 2] = [0x0f, 0x86];
const PUSH_RBP: u8 = 0x55;
const PROLOGUE_BYTES: usize = 24;

/// Nanoseconds for a request, of each window; and the version of Go.
pub(crate) struct Results {
    /// Untraced and attached to, one after the other in either order.
    pairs: Vec<[f64; 2]>,
    trapped: Vec<f64>,
    go: String,
}

/// Measures `rounds` times so many pairs of windows of one process, which differ in nothing but what is attached to it.
pub(crate) fn measure(tracers: &Tracers, go: &Path, rounds: u32) -> Result<Results> {
    let program = compile(go, &tracers.work)?;
    let allocators = allocators(go, &program)?;
    let mut churn = Churn::start(&[OsString::from(&program)])?;
    for _ in 0..WARMING {
        churn.window()?;
    }
    let mut pairs = Vec::new();
    let all = rounds * PAIRS_OF_ROUND;
    for pair in 1..=all {
        eprintln!("pair {pair} of {all}");
        let untraced_first = pair % 2 == 0;
        let before = if untraced_first { churn.window()? } else { 0.0 };
        let attached = attached(&mut churn, tracers).context("of outlive")?;
        let untraced = if untraced_first { before } else { churn.window()? };
        pairs.push([untraced, attached]);
    }
    eprintln!("traps");
    let trapped = trapped(&mut churn, &program, &allocators).context("of traps")?;
    churn.finish()?;
    let version = Command::new(go).arg("version").output().context("cannot run go")?;
    let go = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    Ok(Results { pairs, trapped, go })
}

/// A window while outlive is attached.
fn attached(churn: &mut Churn, tracers: &Tracers) -> Result<f64> {
    let outlive = tracers.start(Tracing::Usual, churn.pid())?;
    let window = churn.window()?;
    check(&outlive.report()?.0)?;
    Ok(window)
}

/// Windows with every allocation trapped.
fn trapped(churn: &mut Churn, program: &Path, allocators: &[u64]) -> Result<Vec<f64>> {
    let traps = Traps::at(program, allocators, churn.pid())?;
    let windows = (0..TRAPPED).map(|_| churn.window()).collect::<Result<_>>()?;
    traps.evidence(LEAST_ALLOCATIONS)?;
    Ok(windows)
}

fn compile(go: &Path, work: &Path) -> Result<PathBuf> {
    let program = work.canonicalize()?.join("golang-churn");
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/golang");
    let mut command = Command::new(go);
    command.current_dir(sources).args(["build", "-buildvcs=false", "-o"]).arg(&program);
    let status = command.status().context("cannot run go")?;
    ensure!(status.success(), "go cannot build {sources}");
    Ok(program)
}

/// Where the functions that compiled code calls to allocate can be trapped at least cost: offsets in the file.
///
/// Since Go 1.26 these are, besides `mallocgc`, those for one class of sizes each (`runtime/malloc_generated.go`).
fn allocators(go: &Path, program: &Path) -> Result<Vec<u64>> {
    let told = Command::new(go).args(["tool", "nm"]).arg(program).output().context("go tool nm")?;
    let file = fs::File::open(program)?;
    let elf = Elf::read(&file)?;
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&told.stdout).lines() {
        let mut words = line.split_whitespace();
        let (Some(address), _, Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if !allocates(name) {
            continue;
        }
        let address = u64::from_str_radix(address, 16).context("not an address")?;
        let start = elf.file_offset(ElfAddr(address)).context("not in the file")?.0;
        let mut code = [0; PROLOGUE_BYTES];
        file.read_exact_at(&mut code, start)?;
        let behind = behind_stack_check(&code);
        found.push(start + behind.with_context(|| format!("{name} begins unusually"))? as u64);
    }
    ensure!(!found.is_empty(), "no function of the program allocates");
    Ok(found)
}

fn allocates(name: &str) -> bool {
    name.strip_prefix("runtime.mallocgc").is_some_and(|kind| {
        let class = kind.trim_end_matches(|digit: char| digit.is_ascii_digit());
        kind.is_empty() || class.len() < kind.len() && class.ends_with("SC")
    })
}

/// Bytes to the instruction behind it.
fn behind_stack_check(code: &[u8]) -> Option<usize> {
    let jump = code.strip_prefix(&COMPARISON)?;
    let behind = match jump.strip_prefix(&SHORT_JUMP) {
        Some(distance) => distance.get(1..)?,
        None => jump.strip_prefix(&LONG_JUMP)?.get(4..)?,
    };
    (behind.first() == Some(&PUSH_RBP)).then(|| code.len() - behind.len())
}

/// outlive saw every sample of the runtime's.
fn check(report: &Value) -> Result<()> {
    let hits = report["cost"]["allocate_hits"].as_u64().context("the report tells no hits")?;
    ensure!(hits >= LEAST_SAMPLES, "outlive's probes ran {hits} times, not even {LEAST_SAMPLES}");
    let lost = report["loss"]["lost_events"].as_u64().context("the report tells no losses")?;
    ensure!(lost == 0, "{lost} events were lost");
    Ok(())
}

/// The middle of several numbers.
fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len().is_multiple_of(2) {
        f64::midpoint(numbers[middle - 1], numbers[middle])
    } else {
        numbers[middle]
    }
}

/// Where the true median of such numbers lies with 95 %: between two of them in their order, whatever their distribution.
fn median_interval(numbers: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let count = numbers.len();
    let mut probability = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let (mut below, mut rank) = (probability, 0);
    while below <= 0.025 && rank < count / 2 {
        rank += 1;
        probability *= (count - rank + 1) as f64 / rank as f64;
        below += probability;
    }
    let lower = rank.saturating_sub(1);
    [numbers[lower], numbers[count - 1 - lower]]
}

/// The page of the documentation.
pub(crate) fn page(results: &Results, host: &str) -> String {
    let untraced = median(results.pairs.iter().map(|pair| pair[0]));
    let ratios = || results.pairs.iter().map(|[untraced, attached]| attached / untraced);
    let (ratio, [low, high]) = (median(ratios()), median_interval(ratios()));
    let trapped = median(results.trapped.iter().copied());
    let verdict = if high <= EXPECTED {
        "as expected"
    } else if low <= EXPECTED {
        "not settled: the interval holds it"
    } else {
        "**more than expected**"
    };
    format!(
        "\
# What following a Go program costs

Written by `cargo xtask bench golang` (as root); all numbers come from one run of it.

{host}.

{}.

The program does nothing but allocate: requests of several sizes, strings and maps, of which the last 100,000 are kept
(`benches/workloads/golang`), on one processor. Times are processor time of the whole process, its garbage collector included. One process
goes through {} pairs of windows, one untraced and one with outlive attached, in either order in turn; the cost is the median
of their ratios.

| | ns for a request | times untraced |
|---|---|---|
| untraced | {untraced:.0} | 1.000 |
| outlive attach | {:.0} | {ratio:.3} ({low:.3} to {high:.3} with 95 %) |
| bare traps on `mallocgc` | {trapped:.0} | {:.3} |

- outlive attach: at most {EXPECTED} times untraced is expected; {ratio:.3}, {verdict}.

`outlive attach` follows the objects that the runtime samples, and only they reach its probes. *Bare traps on `mallocgc`* are what a
tracer of every allocation cannot be cheaper than: the kernel is trapped at each, counts it, and does nothing else.
",
        results.go,
        results.pairs.len(),
        untraced * ratio,
        trapped / untraced,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_allocator_are_told_from_its_parts() {
        for name in
            ["runtime.mallocgc", "runtime.mallocgcTinySC2", "runtime.mallocgcSmallNoScanSC7"]
        {
            assert!(allocates(name), "{name}");
        }
        for name in [
            "runtime.mallocgcLarge",
            "runtime.mallocgcTinySlowPath",
            "main.mallocgc",
            "runtime.malloc",
        ] {
            assert!(!allocates(name), "{name}");
        }
    }

    #[test]
    fn the_trap_is_behind_the_stack_check() {
        let short = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x55, 0x55, 0x48];
        assert_eq!(behind_stack_check(&short), Some(6));
        let long = [0x49, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0x55, 3, 0, 0, 0x55, 0x48];
        assert_eq!(behind_stack_check(&long), Some(10));
        for code in
            [&[][..], &short[..6], &[0x55, 0x48], &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x55, 0x90]]
        {
            assert_eq!(behind_stack_check(code), None, "{code:x?}");
        }
    }

    #[test]
    fn the_median_and_its_interval_are_those_of_the_order() {
        let numbers = || (1..=30).map(f64::from);
        assert_eq!(median(numbers()).to_string(), "15.5");
        assert_eq!(median((1..=5).map(f64::from)).to_string(), "3");
        // Tables of the sign test: of 30, the tenth from either end.
        assert_eq!(median_interval(numbers()).map(|n| n.to_string()), ["10", "21"]);
        assert_eq!(median_interval([2.0, 1.0].into_iter()).map(|n| n.to_string()), ["1", "2"]);
    }

    #[test]
    fn more_than_expected_is_said() {
        let page = |attached: [f64; 2]| {
            let pairs = (0..30).map(|n| [100.0, attached[n % 2]]).collect();
            let results = Results { pairs, trapped: vec![900.0], go: "go".to_owned() };
            page(&results, "a machine")
        };
        assert!(page([102.0, 102.0]).contains("1.020, as expected"));
        assert!(page([102.0, 104.0]).contains("1.030, not settled"));
        assert!(page([104.0, 104.0]).contains("1.040, **more than expected**"));
    }
}
