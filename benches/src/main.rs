//! Benchmarks of the whole: what tracing costs the program that is traced.
//!
//! In: the tracers to compare. Out: a table on standard output and, with `--document`, the page of the documentation.

mod churn;
mod compiler;
mod host;
mod listen;
mod overhead;
mod table;
mod tracer;
mod versions;

use std::fs;
use std::path::PathBuf;
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
    /// The same programs untraced, traced by outlive, and traced by memleak
    Overhead(Overhead),
}

#[derive(clap::Args)]
struct Overhead {
    /// The binary of outlive
    #[arg(long, env = "OUTLIVE_BIN", value_name = "FILE")]
    outlive: PathBuf,
    /// The binary of memleak; without it, its row says that it is missing
    #[arg(long, value_name = "FILE")]
    memleak: Option<PathBuf>,
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
    let Benchmark::Overhead(overhead) = Arguments::parse().benchmark;
    match measure(overhead) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: Overhead) -> Result<()> {
    let Overhead { outlive, memleak, work, rounds, document } = arguments;
    fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
    let tracers = Tracers { outlive, memleak, work };
    let rows = overhead::measure(&tracers, rounds)?;
    print!("{}", table::text(&rows));
    if let Some(path) = document {
        let page = table::page(&rows, &host::describe(), &versions::describe(&tracers));
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
