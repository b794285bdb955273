//! `cargo xtask fuzz`: the parsers of what a target chose, fed by libFuzzer.
//!
//! In: names of parsers, none for all; seconds for each. Out: a line for each parser: inputs tried, most memory, and what broke it. Seeds
//! are made of programs that are built here; what libFuzzer adds to them is kept in `fuzz/corpus`, and what breaks a parser in
//! `fuzz/artifacts`: it belongs into a test, `tracer-user/src/hostile`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::failure::{OrFail as _, failure};
use crate::{go_toolchains, host, process, progress, setup, workspace};

const VERSION: &str = "0.13.2";
/// Where cargo-fuzz puts the programs, below its target directory.
const BUILT: &str = "x86_64-unknown-linux-gnu/release";
/// Most memory of a parser, MiB. One piece may be larger, as long as it is not filled.
const MEMORY_MIB: u32 = 1024;
const PIECE_MIB: u32 = 2048;
/// Most seconds for one input.
const PATIENCE_SECONDS: u32 = 25;
/// Longest input: the Go programs among the seeds are not longer.
const INPUT_BYTES: u32 = 4 << 20;

/// Fuzzes; whether every parser held.
pub(crate) fn fuzz(names: &[String], seconds: u32) -> Result<bool> {
    setup::setup()?;
    install()?;
    let known = parsers()?;
    let chosen = if names.is_empty() { &known } else { names };
    if let Some(unknown) = chosen.iter().find(|name| !known.contains(name)) {
        let remedy = format!("name some of: {}", known.join(" "));
        return Err(failure(
            &format!("there is no parser {unknown}"),
            "nothing fuzzes it",
            &remedy,
        ));
    }
    let programs = programs()?;
    progress::say("building the parsers, instrumented (minutes, the first time)");
    let what = "the fuzz targets do not build";
    use_versions_of_the_product()?;
    process::run(&mut build()?).or_fail(what, "see the messages above")?;
    let mut held = true;
    let mut lines = Vec::new();
    for name in chosen {
        let (is_held, line) = run(name, seconds, &programs)?;
        held &= is_held;
        progress::say(&line);
        lines.push(line);
    }
    progress::say("all parsers:");
    for line in &lines {
        progress::say(line);
    }
    Ok(held)
}

fn folder() -> PathBuf {
    workspace::root().join("fuzz")
}

fn target() -> PathBuf {
    workspace::target().join("fuzz")
}

/// Builds with the project's own compiler, whose instrumentation is not stable yet. The parsers have no unsafe code, so that there is
/// nothing that a sanitizer would see before the language does.
fn build() -> Result<Command> {
    let mut cargo = process::cargo(&["fuzz", "build", "--sanitizer", "none", "--target-dir"]);
    cargo.arg(target());
    cargo.current_dir(folder()).env("RUSTC_BOOTSTRAP", "1");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = workspace::tools().join("bin");
    let path = std::env::join_paths([tools].into_iter().chain(std::env::split_paths(&path)));
    cargo.env("PATH", path.or_fail("cargo-fuzz cannot be run", "mend the variable PATH")?);
    Ok(cargo)
}

/// What is fuzzed is built of the crates that the product is built of; cargo adds to the copy what only fuzzing takes.
fn use_versions_of_the_product() -> Result<()> {
    let (from, to) = (workspace::root().join("Cargo.lock"), folder().join("Cargo.lock"));
    fs::copy(&from, &to).with_context(|| format!("cannot make {}", to.display()))?;
    Ok(())
}

fn install() -> Result<()> {
    let what = "cargo-fuzz cannot be built";
    if workspace::tools().join("bin/cargo-fuzz").exists() {
        return Ok(());
    }
    let _shown = progress::step(&format!("building cargo-fuzz {VERSION}"));
    let version = format!("={VERSION}");
    let mut cargo = process::cargo(&["install", "cargo-fuzz", "--version", &version, "--root"]);
    cargo.arg(workspace::tools());
    process::logged(&mut cargo, &workspace::tools().join("cargo-fuzz.log"))
        .or_fail(what, "check that the crate registry is reachable")
}

/// The names of all parsers, each of which has a program.
fn parsers() -> Result<Vec<String>> {
    let folder = folder().join("fuzz_targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let stem = |path: &Path| Some(path.file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<_> = entries.flatten().filter_map(|entry| stem(&entry.path())).collect();
    names.sort();
    Ok(names)
}

/// Real programs to make seeds of: of C, with symbols and without, and of the oldest Go and of the newest.
fn programs() -> Result<OsString> {
    host::require_c_compiler("the seeds of the fuzz targets")?;
    let made = target().join("programs");
    fs::create_dir_all(&made).with_context(|| format!("cannot create {}", made.display()))?;
    let sources = workspace::root().join("tests/workloads");
    let mut programs = Vec::new();
    for (name, flags) in [("c", ["-g", "-O2"]), ("c-stripped", ["-s", "-O2"])] {
        let program = made.join(name);
        let mut compiler = Command::new("cc");
        compiler.args(flags).arg(sources.join("c/threads.c")).arg("-o").arg(&program);
        process::output(compiler.arg("-pthread"))?;
        programs.push(program);
    }
    for toolchain in [go_toolchains::RELEASES[0].last, go_toolchains::RELEASES[8].last] {
        toolchain.fetch()?;
        let program = made.join(format!("go-{}", programs.len()));
        let mut go = toolchain.go();
        go.current_dir(sources.join("go")).env("CGO_ENABLED", "0");
        go.args(["build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o"]);
        process::output(go.arg(&program).arg("./deep"))?;
        programs.push(program);
    }
    std::env::join_paths(programs).context("a path has a colon in it")
}

/// Fuzzes one parser; whether it held, and a line about it.
fn run(name: &str, seconds: u32, programs: &OsString) -> Result<(bool, String)> {
    let corpus = folder().join("corpus").join(name);
    let artifacts = folder().join("artifacts").join(name);
    for made in [&corpus, &artifacts] {
        fs::create_dir_all(made).with_context(|| format!("cannot create {}", made.display()))?;
    }
    progress::say(&format!("fuzzing {name} for {seconds} s"));
    let mut parser = Command::new(target().join(BUILT).join(name));
    parser.arg(format!("-artifact_prefix={}/", artifacts.display()));
    for (option, value) in [
        ("max_total_time", seconds),
        ("rss_limit_mb", MEMORY_MIB),
        ("malloc_limit_mb", PIECE_MIB),
        ("timeout", PATIENCE_SECONDS),
        ("max_len", INPUT_BYTES),
        ("print_final_stats", 1),
    ] {
        parser.arg(format!("-{option}={value}"));
    }
    parser.arg(&corpus).env("OUTLIVE_FUZZ_SEEDS", &corpus).env("OUTLIVE_FUZZ_PROGRAMS", programs);
    let log = target().join(format!("{name}.log"));
    let ended = process::logged(&mut parser, &log);
    let said = fs::read(&log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let number = |name: &str| statistic(&said, name).unwrap_or("?").to_owned();
    let (inputs, memory) = (number("number_of_executed_units"), number("peak_rss_mb"));
    let line = format!("{name}: {inputs} inputs, at most {memory} MiB");
    Ok(match ended {
        Ok(()) => (true, format!("{line}, held")),
        Err(error) => (false, format!("{line}, BROKE: {error:#}")),
    })
}

/// `stat::peak_rss_mb:                 79`
fn statistic<'a>(log: &'a str, name: &str) -> Option<&'a str> {
    let lines = log.lines().filter_map(|line| line.strip_prefix("stat::"));
    let mut values =
        lines.filter_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()));
    values.next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parser_has_a_program_that_fuzzes_it() {
        let root = workspace::root();
        let table = fs::read_to_string(root.join("tracer-user/src/hostile/mod.rs")).expect("read");
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).expect("read");
        let parsers = parsers().expect("listed");
        assert_eq!(table.matches("    (\"").count(), parsers.len());
        for name in parsers {
            assert!(table.contains(&format!("(\"{name}\", {name})")), "{name} is not in the table");
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not built");
        }
    }

    #[test]
    fn statistics_are_read() {
        let log = "INFO\nstat::number_of_executed_units: 123\nstat::peak_rss_mb:              79\n";
        assert_eq!(statistic(log, "number_of_executed_units"), Some("123"));
        assert_eq!(statistic(log, "peak_rss_mb"), Some("79"));
        assert_eq!(statistic(log, "other"), None);
    }
}
