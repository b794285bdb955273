//! Benchmarks of the whole: what tracing costs the program that is traced, how complete its stacks are, how fast they are
//! named, and what outlive keeps up with.
//!
//! In: the tracers to compare. Out: a table on standard output and, with `--document`, the page of the documentation.

mod churn;
mod estimate;
mod evidence;
mod golang;
mod host;
mod ledger;
mod listen;
mod loads;
mod overhead;
mod pairs;
mod program;
mod recording;
mod simulated;
mod stacks;
mod symbols;
mod table;
mod tracer;
mod traps;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::tracer::Tracers;

#[derive(Parser)]
#[command(name = "outlive-benches")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// The same programs untraced, traced by outlive, and by others
    Overhead(Overhead),
    /// How many call stacks of real programs are complete
    Stacks(OfOutlive),
    /// Ten million live blocks, and as many pairs of malloc and free as probes let through
    Ledger(OfOutlive),
    /// A Go program untraced, followed by outlive, and trapped at every allocation
    Golang(Golang),
    /// How long naming the stacks of large programs takes
    Symbols(Symbols),
    /// The slowdown that outlive estimates beside the one that is measured
    Estimate(OfOutlive),
    /// The size of a recording of four weeks, and how long it takes to write and to read
    Recording(OfLibrary),
}

/// A benchmark of parts of outlive, without its binary.
#[derive(clap::Args)]
struct OfLibrary {
    /// A directory for what is written
    #[arg(long, value_name = "DIR", default_value = "target/benches")]
    work: PathBuf,
    /// Write the results to this page, too
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Symbols {
    /// The binary of outlive
    #[arg(long, env = "OUTLIVE_BIN", value_name = "FILE")]
    outlive: PathBuf,
    /// A directory for what is compiled
    #[arg(long, value_name = "DIR", default_value = "target/benches")]
    work: PathBuf,
    /// How often each measurement is repeated; the least time counts
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Write the results to this page, too
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Golang {
    /// The binary of outlive
    #[arg(long, env = "OUTLIVE_BIN", value_name = "FILE")]
    outlive: PathBuf,
    /// The go command that builds the program
    #[arg(long, value_name = "FILE", default_value = "go")]
    go: PathBuf,
    /// A directory for what is compiled
    #[arg(long, value_name = "DIR", default_value = "target/benches")]
    work: PathBuf,
    /// How often each measurement is repeated; the least time counts
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Write the results to this page, too
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

/// A benchmark of outlive alone.
#[derive(clap::Args)]
struct OfOutlive {
    /// The binary of outlive
    #[arg(long, env = "OUTLIVE_BIN", value_name = "FILE")]
    outlive: PathBuf,
    /// A directory for what is compiled
    #[arg(long, value_name = "DIR", default_value = "target/benches")]
    work: PathBuf,
    /// Write the results to this page, too
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Overhead {
    /// The binary of outlive
    #[arg(long, env = "OUTLIVE_BIN", value_name = "FILE")]
    outlive: PathBuf,
    /// The binary of memleak; without it, its row says that it is missing
    #[arg(long, value_name = "FILE")]
    memleak: Option<PathBuf>,
    /// A root directory with heaptrack and valgrind; without it, their rows say that they are missing
    #[arg(long, value_name = "DIR")]
    launchers: Option<PathBuf>,
    /// A directory for what is compiled
    #[arg(long, value_name = "DIR", default_value = "target/benches")]
    work: PathBuf,
    /// How often each measurement is repeated; the least time counts
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Write the results to this page, too
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().benchmark {
        Benchmark::Overhead(arguments) => measure_overhead(arguments),
        Benchmark::Stacks(arguments) => count_stacks(&arguments),
        Benchmark::Golang(arguments) => follow_golang(arguments),
        Benchmark::Symbols(arguments) => time_naming(&arguments),
        Benchmark::Ledger(arguments) => measure_ledger(&arguments),
        Benchmark::Estimate(arguments) => compare_estimates(&arguments),
        Benchmark::Recording(arguments) => measure_recording(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure_overhead(arguments: Overhead) -> Result<()> {
    let Overhead { outlive, memleak, launchers, work, rounds, document } = arguments;
    create(&work)?;
    let tracers = Tracers { outlive, memleak, launchers, work };
    let rows = overhead::measure(&tracers, rounds)?;
    let page = table::page(&rows, &host::describe(), &versions::describe(&tracers), rounds);
    print!("{page}");
    document.map_or(Ok(()), |path| write(&path, &page))
}

fn count_stacks(arguments: &OfOutlive) -> Result<()> {
    create(&arguments.work)?;
    let rows = stacks::measure(&arguments.outlive, &arguments.work)?;
    let page = stacks::page(&rows, &host::describe());
    print!("{page}");
    arguments.document.as_deref().map_or(Ok(()), |path| write(path, &page))
}

fn follow_golang(arguments: Golang) -> Result<()> {
    let Golang { outlive, go, work, rounds, document } = arguments;
    create(&work)?;
    let tracers = Tracers { outlive, memleak: None, launchers: None, work };
    let results = golang::measure(&tracers, &go, rounds)?;
    let page = golang::page(&results, &host::describe());
    print!("{page}");
    document.map_or(Ok(()), |path| write(&path, &page))
}

fn time_naming(arguments: &Symbols) -> Result<()> {
    create(&arguments.work)?;
    let rows = symbols::measure(&arguments.outlive, &arguments.work, arguments.rounds)?;
    let page = symbols::page(&rows, &host::describe());
    print!("{page}");
    arguments.document.as_deref().map_or(Ok(()), |path| write(path, &page))
}

fn measure_ledger(arguments: &OfOutlive) -> Result<()> {
    create(&arguments.work)?;
    let results = ledger::measure(&arguments.outlive, &arguments.work)?;
    let page = ledger::page(&results, &host::describe());
    print!("{page}");
    arguments.document.as_deref().map_or(Ok(()), |path| write(path, &page))
}

fn compare_estimates(arguments: &OfOutlive) -> Result<()> {
    create(&arguments.work)?;
    let comparisons = estimate::measure(&arguments.outlive, &arguments.work)?;
    let page = estimate::page(&comparisons, &host::describe());
    print!("{page}");
    arguments.document.as_deref().map_or(Ok(()), |path| write(path, &page))
}

fn measure_recording(arguments: &OfLibrary) -> Result<()> {
    create(&arguments.work)?;
    let results = recording::measure(&arguments.work)?;
    let page = recording::page(results, &host::describe());
    print!("{page}");
    arguments.document.as_deref().map_or(Ok(()), |path| write(path, &page))
}

fn write(path: &Path, page: &str) -> Result<()> {
    path.parent().map_or(Ok(()), create)?;
    fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))
}
