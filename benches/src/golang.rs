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
use crate::tracer::{Running, Tracers, Tracing};
use crate::traps::Traps;

/// Windows of a run that count; two more come first and do not, while its heap grows.
const WINDOWS: u32 = 5;
const WARMING: u32 = 2;
/// Fewer than the samples of a run: one for every 512 KiB, of which each window allocates several hundred MB.
const LEAST_SAMPLES: u64 = 1000;
/// Fewer than the allocations of a run.
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

/// How the program is traced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Untraced,
    Attached,
    Trapped,
}

impl Way {
    const ALL: [Self; 3] = [Self::Untraced, Self::Attached, Self::Trapped];

    fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::Attached => "outlive attach",
            Self::Trapped => "bare traps on `mallocgc`",
        }
    }
}

/// The least time of each way, nanoseconds for a request; and the version of Go.
pub(crate) struct Results {
    least_ns: [f64; Way::ALL.len()],
    go: String,
}

/// Measures `rounds` times in turn; the least time of each counts, since whatever else runs only adds to it.
pub(crate) fn measure(tracers: &Tracers, go: &Path, rounds: u32) -> Result<Results> {
    let program = compile(go, &tracers.work)?;
    let allocators = allocators(go, &program)?;
    let mut least_ns = [f64::INFINITY; Way::ALL.len()];
    for round in 1..=rounds {
        for (way, least) in Way::ALL.into_iter().zip(&mut least_ns) {
            eprintln!("round {round} of {rounds}: {}", way.name());
            let measured = run(way, tracers, &program, &allocators);
            *least = least.min(measured.with_context(|| format!("of {}", way.name()))?);
        }
    }
    let version = Command::new(go).arg("version").output().context("cannot run go")?;
    let go = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    Ok(Results { least_ns, go })
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

fn run(way: Way, tracers: &Tracers, program: &Path, allocators: &[u64]) -> Result<f64> {
    let mut churn = Churn::start(&[OsString::from(program)])?;
    let (mut outlive, mut traps) = (Running::Nothing, None);
    match way {
        Way::Untraced => {}
        Way::Attached => outlive = tracers.start(Tracing::Usual, churn.pid())?,
        Way::Trapped => traps = Some(Traps::at(program, allocators, churn.pid())?),
    }
    for _ in 0..WARMING {
        churn.window()?;
    }
    let mut least = f64::INFINITY;
    for _ in 0..WINDOWS {
        least = least.min(churn.window()?);
    }
    if way == Way::Attached {
        check(&outlive.report()?.0)?;
    }
    traps.map_or(Ok(()), |traps| traps.evidence(LEAST_ALLOCATIONS).map(drop))?;
    churn.finish()?;
    Ok(least)
}

/// outlive saw every sample of the runtime's.
fn check(report: &Value) -> Result<()> {
    let hits = report["cost"]["allocate_hits"].as_u64().context("the report tells no hits")?;
    ensure!(hits >= LEAST_SAMPLES, "outlive's probes ran {hits} times, not even {LEAST_SAMPLES}");
    let lost = report["loss"]["lost_events"].as_u64().context("the report tells no losses")?;
    ensure!(lost == 0, "{lost} events were lost");
    Ok(())
}

/// The page of the documentation.
pub(crate) fn page(results: &Results, host: &str) -> String {
    let [untraced, attached, _] = results.least_ns;
    let lines = Way::ALL
        .into_iter()
        .zip(results.least_ns)
        .map(|(way, ns)| format!("| {} | {ns:.0} | {:.3} |\n", way.name(), ns / untraced));
    let lines: String = lines.collect();
    let ratio = attached / untraced;
    let verdict = if ratio <= EXPECTED { "as expected" } else { "**more than expected**" };
    format!(
        "\
# What following a Go program costs

Written by `cargo xtask bench golang` (as root); all numbers come from one run of it.

{host}.

{}.

The program does nothing but allocate: requests of several sizes, strings and maps, of which the last 100,000 are kept
(`benches/workloads/golang`). Times are processor time of the whole process, its garbage collector included; each is the least of
several runs, taken in turn.

| | ns for a request | times untraced |
|---|---|---|
{lines}
- outlive attach: at most {EXPECTED} times untraced is expected; {ratio:.3}, {verdict}.

`outlive attach` follows the objects that the runtime samples, and only they reach its probes. *Bare traps on `mallocgc`* are what a
tracer of every allocation cannot be cheaper than: the kernel is trapped at each, counts it, and does nothing else.
",
        results.go
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
    fn more_than_expected_is_said() {
        let page = |attached| {
            let results = Results { least_ns: [100.0, attached, 900.0], go: "go".to_owned() };
            page(&results, "a machine")
        };
        assert!(page(102.0).contains("| outlive attach | 102 | 1.020 |"));
        assert!(page(102.0).contains("1.020, as expected"));
        assert!(page(104.0).contains("1.040, **more than expected**"));
    }
}
