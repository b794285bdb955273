//! Developer actions: `cargo xtask COMMAND`.
//!
//! In: the command line. Out: the exit status; 1 when something failed, with three lines that say what, why and
//! what to do.

mod apt;
mod bench;
mod budget;
mod ci;
mod debian;
mod debug_tools;
mod demo;
mod dist;
mod failure;
mod fuzz;
mod go_layouts;
mod go_toolchains;
mod host;
mod layers;
mod packages;
mod pages;
mod peers;
mod process;
mod product;
mod progress;
mod setup;
mod source;
mod suites;
mod tally;
mod toolchain;
mod viewers;
mod vm;
mod workspace;
mod wrapped;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::bench::Benchmark;
use crate::suites::Extent;

/// Builds, runs and checks outlive.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get the tools that building the kernel programs takes (the other commands do it too)
    Setup,
    /// Build target/release/outlive
    Build,
    /// Build outlive and run it
    Run {
        /// Its arguments
        #[arg(last = true, value_name = "ARGS")]
        arguments: Vec<OsString>,
    },
    /// Make what users install, in target/dist: a static binary, a Debian package, a container image
    Dist,
    /// Show outlive find the leak of a little server, and check that it does
    Demo,
    /// Run every check that takes no end-to-end test
    Ci,
    /// Check the structure of the code
    Layers,
    /// Check how many instructions the kernel programs take
    Budget {
        /// Make what they take now the budget
        #[arg(long)]
        update: bool,
    },
    /// Read where the runtime of each release of Go keeps things
    GoLayouts {
        /// Only check that the file is as it would be written
        #[arg(long)]
        check: bool,
    },
    /// Compare with other tracers, and write docs/benchmarks.md
    Bench {
        #[arg(value_enum)]
        benchmark: Benchmark,
        /// How often each measurement is repeated
        #[arg(long, default_value_t = 3, value_name = "N")]
        rounds: u32,
    },
    /// Run tests: everything, or the suites named
    Test {
        /// `unit`, `e2e`, or an end-to-end suite
        #[arg(value_name = "SUITE")]
        suites: Vec<String>,
        /// Test the suites of Go with every release, not four
        #[arg(long)]
        all: bool,
        /// In `golang_torture`, how many tracers come to each release
        #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1000")]
        torture: Option<u32>,
    },
    /// Feed the parsers of what a target chose with hostile input
    Fuzz {
        /// Parsers; all when none is named
        #[arg(value_name = "PARSER")]
        parsers: Vec<String>,
        /// How long each is fed
        #[arg(long, default_value_t = 60, value_name = "N")]
        seconds: u32,
    },
    /// Virtual machines with other kernels
    Vm {
        #[command(subcommand)]
        action: VmAction,
    },
}

#[derive(Subcommand)]
enum VmAction {
    /// Run end-to-end tests on other kernels, and write docs/kernels.md
    Test {
        /// Only on this kernel; may be given more than once
        #[arg(long = "kernel", value_name = "NAME")]
        kernels: Vec<String>,
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            failure::print(&error);
            ExitCode::FAILURE
        }
    }
}

/// Performs a command; whether all is well.
fn perform(command: Command) -> Result<bool> {
    match command {
        Command::Setup => setup::setup().map(|()| true),
        Command::Build => product::build().map(|()| true),
        Command::Run { arguments } => product::run(&arguments).map(|()| true),
        Command::Dist => dist::dist().map(|()| true),
        Command::Demo => demo::demo().map(|()| true),
        Command::Ci => ci::ci(),
        Command::Layers => layers::check().map(|()| true),
        Command::Budget { update: false } => budget::check().map(|()| true),
        Command::Budget { update: true } => budget::update().map(|()| true),
        Command::GoLayouts { check } => go_layouts::make(check).map(|()| true),
        Command::Bench { benchmark, rounds } => bench::bench(benchmark, rounds).map(|()| true),
        Command::Test { suites, all, torture } => {
            suites::test(&suites, Extent { all_go: all, torture })
        }
        Command::Fuzz { parsers, seconds } => fuzz::fuzz(&parsers, seconds),
        Command::Vm { action: VmAction::Test { kernels } } => vm::test(&kernels),
    }
}
