//! How long it takes to name the call stacks of large programs.
//!
//! In: outlive, rustc, and this workspace built with full debug information. Out: a [`Row`] for each program. The stacks are drawn from
//! the program's functions by a generator with a fixed seed, so that every run names the same ones.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use outlive::symbolise::{Debuginfod, Symboliser};
use outlive::target::symbols::{Symbol, select_functions};
use outlive::target::{CodeLocation, ElfAddr, ModuleId, ModuleTable};

/// Distinct stacks.
const STACKS: usize = 10_000;
/// Frames of each.
const DEPTH: usize = 30;
/// Distinct addresses in all stacks together: more than 17,610 stacks of rustc have (docs/stacks.md).
const ADDRESSES: usize = 30_000;
/// A program has to be this large.
const LEAST_BYTES: u64 = 100 << 20;
/// The time that is expected to be enough when the file is in the page cache.
const EXPECTED: Duration = Duration::from_secs(2);
const WAIT: Duration = Duration::from_millis(10);

/// The times of one program.
pub(crate) struct Row {
    name: &'static str,
    size_bytes: u64,
    level: &'static str,
    frames: usize,
    with_line: usize,
    cold: Duration,
    warm: Duration,
    known: Duration,
    worker_bytes: u64,
}

/// Measures all programs; of each time the least.
pub(crate) fn measure(outlive: &Path, work: &Path, rounds: u32) -> Result<Vec<Row>> {
    [
        ("rustc's own library, symbols alone", rustc_driver()?),
        ("a Rust program with full debug information", full_debug(work)?),
    ]
    .into_iter()
    .map(|(name, path)| {
        row(name, &path, outlive, rounds).with_context(|| path.display().to_string())
    })
    .collect()
}

/// The library that rustc is.
fn rustc_driver() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let mut files = std::fs::read_dir(sysroot.join("lib"))?.flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("librustc_driver"))
    };
    files.find(is_it).context("the toolchain has no librustc_driver")
}

/// outlive's own unit tests, built with all the debug information there is.
fn full_debug(work: &Path) -> Result<PathBuf> {
    eprintln!("building a program with full debug information");
    let target = work.join("full-debug");
    let mut cargo = Command::new("cargo");
    cargo.args([
        "test",
        "--no-run",
        "--quiet",
        "--package",
        "outlive",
        "--lib",
        "--message-format=json",
    ]);
    cargo.args(["--config", "profile.dev.debug=\"full\"", "--target-dir"]).arg(&target);
    let output = cargo.stderr(std::process::Stdio::inherit()).output().context("cargo")?;
    ensure!(output.status.success(), "it does not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs =
        messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next_back().context("cargo names no program")
}

fn row(name: &'static str, path: &Path, outlive: &Path, rounds: u32) -> Result<Row> {
    let file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    ensure!(size_bytes >= LEAST_BYTES, "it has {size_bytes} bytes, less than 100 MiB");
    let functions = select_functions(&file, &mut |_| true)?;
    let mut modules = ModuleTable::new();
    let id = modules.add_open_file(path, file.try_clone()?)?;
    let stacks = draw_stacks(id, &functions)?;
    let [mut cold, mut warm, mut known] = [Duration::MAX; 3];
    let mut row = None;
    for _ in 0..rounds {
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        cold = cold.min(name_all(&mut new(outlive), &stacks, &modules).0);
        let mut symboliser = new(outlive);
        let (time, frames, with_line) = name_all(&mut symboliser, &stacks, &modules);
        warm = warm.min(time);
        known = known.min(name_all(&mut symboliser, &stacks, &modules).0);
        row = Some((frames, with_line, symboliser.level(id), symboliser.usage().rss_bytes));
    }
    let (frames, with_line, level, worker_bytes) = row.context("no round")?;
    ensure!(
        level != "none" && frames >= STACKS * DEPTH,
        "it has not been named: {level}, {frames} frames"
    );
    Ok(Row { name, size_bytes, level, frames, with_line, cold, warm, known, worker_bytes })
}

fn new(outlive: &Path) -> Symboliser {
    Symboliser::new(outlive.to_owned(), Debuginfod::default())
}

/// The time that naming takes; frames, inlined ones too, and those with a line.
fn name_all(
    symboliser: &mut Symboliser,
    stacks: &[Vec<CodeLocation>],
    modules: &ModuleTable,
) -> (Duration, usize, usize) {
    let began = Instant::now();
    for stack in stacks {
        symboliser.want_stack(stack, modules);
    }
    while symboliser.advance(WAIT) {}
    let (mut frames, mut with_line) = (0, 0);
    for stack in stacks {
        let named = symboliser.frames(stack);
        frames += named.len();
        with_line += named.iter().filter(|frame| frame.line.is_some()).count();
    }
    (began.elapsed(), frames, with_line)
}

/// Distinct stacks of distinct addresses, each in the middle of a function.
fn draw_stacks(id: ModuleId, functions: &[Symbol]) -> Result<Vec<Vec<CodeLocation>>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let large: Vec<&Symbol> = functions.iter().filter(|f| f.size >= 32 && !f.indirect).collect();
    ensure!(!large.is_empty(), "it has no functions");
    let mut addresses = std::collections::BTreeSet::new();
    while addresses.len() < ADDRESSES {
        let function = large[random.below(large.len())];
        addresses.insert(function.address.0 + 1 + random.below(function.size as usize - 1) as u64);
    }
    let addresses: Vec<u64> = addresses.into_iter().collect();
    // The first frames count up, which makes the stacks distinct; the rest is drawn.
    let stack = |index: usize| {
        let of = |address: u64| CodeLocation::InModule(id, ElfAddr(address));
        let first = of(addresses[index % ADDRESSES]);
        let rest = (1..DEPTH).map(|frame| match frame {
            1 => of(addresses[(STACKS + index) % ADDRESSES]),
            _ => of(addresses[random.below(ADDRESSES)]),
        });
        std::iter::once(first).chain(rest).collect()
    };
    Ok((0..STACKS).map(stack).collect())
}

/// Marsaglia's xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// The page of the documentation.
pub(crate) fn page(rows: &[Row], host: &str) -> String {
    let mut page = format!(
        "# How long naming takes\n\n\
         Written by `cargo xtask bench symbols` (as root); all numbers come from one run of it.\n\n{host}\n\n\
         {STACKS} distinct stacks of {DEPTH} frames, drawn from {ADDRESSES} distinct addresses of the file, are turned into functions, \
         files and lines, inlined calls included. *cold*: the file is not in the page cache; *warm*: it is, and outlive knows nothing yet; \
         *known*: the next report with the same stacks. Times include starting the worker process. *worker* is the memory it holds, \
         mapped files included.\n\n\
         | file | size | symbols | frames | with a line | cold | warm | known | worker |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    page.extend(rows.iter().map(line));
    let is_met = rows.iter().all(|row| row.warm < EXPECTED);
    let verdict = if is_met { "it is" } else { "it is NOT" };
    page + &format!(
        "\nWarm, each is expected to be named in less than {} s: {verdict}.\n",
        EXPECTED.as_secs()
    )
}

fn line(row: &Row) -> String {
    let mib = |bytes: u64| bytes >> 20;
    format!(
        "| {} | {} MiB | {} | {} | {} | {:.2} s | {:.2} s | {:.2} s | {} MiB |\n",
        row.name,
        mib(row.size_bytes),
        row.level,
        row.frames,
        row.with_line,
        row.cold.as_secs_f64(),
        row.warm.as_secs_f64(),
        row.known.as_secs_f64(),
        mib(row.worker_bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_distinct_and_the_same_in_every_run() {
        let functions: Vec<Symbol> = (0..100)
            .map(|n| Symbol {
                name: String::new(),
                address: ElfAddr(n << 16),
                size: 1 << 12,
                indirect: false,
            })
            .collect();
        let draw = || draw_stacks(ModuleId(0), &functions).expect("functions");
        let stacks = draw();
        assert_eq!(stacks, draw());
        let distinct: std::collections::HashSet<_> = stacks.iter().collect();
        assert_eq!(distinct.len(), STACKS);
        assert!(stacks.iter().all(|stack| stack.len() == DEPTH));
    }
}
