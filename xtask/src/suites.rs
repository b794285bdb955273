//! `cargo xtask test`: unit tests and end-to-end suites, and their sum.
//!
//! In: names of suites, none for all; whether to test with every release of Go. Out: cargo's output, and as the last line `N passed, N failed`.

use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::failure::{self, OrFail as _, failure};
use crate::tally::{Reader, Tally};
use crate::{
    debug_tools, dist, go_toolchains, host, packages, process, product, progress, setup, viewers,
    workspace,
};

const UNIT: &str = "unit";
const END_TO_END: &str = "e2e";
/// All suites of Go programs.
const GO: &str = "go";
/// The suite that takes tools of its own.
const SYMBOLS: &str = "symbols";
/// The suite that takes viewers of other tools.
const FORMATS: &str = "formats";
/// The suite that installs what users install.
const DIST: &str = "dist";
/// The suite that runs the commands of `docs/tasks`.
const TASK_PAGES: &str = "task_pages";
/// The suites that take releases of Go: workloads are built by them, profiles opened with their pprof.
const GOLANG: [&str; 10] = [
    "golang",
    "golang_attach",
    "golang_exact",
    "golang_goroutines",
    "golang_layout",
    "golang_walk",
    TORTURE,
    "pprof",
    "diff",
    "list",
];
/// The suite in which tracers come and go.
const TORTURE: &str = "golang_torture";
/// Tells that suite how often.
const TORTURE_CYCLES: &str = "OUTLIVE_TESTS_TORTURE";
/// Tells those suites which: `go1.22.12,go1.27.4`.
const GO_TOOLCHAINS: &str = "OUTLIVE_TESTS_GO";
/// The package of the end-to-end tests.
pub(crate) const PACKAGE: &str = "outlive-tests";

/// How much the suites of Go do.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// With every release, not only some.
    pub(crate) all_go: bool,
    /// How many tracers come to each release in the suite that tortures.
    pub(crate) torture: Option<u32>,
}

/// Runs the suites; whether all tests passed.
pub(crate) fn test(names: &[String], extent: Extent) -> Result<bool> {
    let what = "the suites are not known";
    let known = end_to_end().or_fail(what, "check that `cargo metadata --no-deps` works")?;
    let chosen = choose(names, &known)?;
    let is_traced = chosen.iter().any(|name| name != UNIT);
    if is_traced {
        host::require_root("the end-to-end tests cannot run", "cargo xtask test")?;
        host::require_c_compiler("an end-to-end test")?;
        host::mount_tracefs()?;
    }
    let mut sum = Tally::default();
    let mut is_ready = setup::setup().map_err(|error| failure::print(&error)).is_ok();
    if is_ready && is_traced {
        is_ready = product::build().map_err(|error| failure::print(&error)).is_ok();
    }
    for name in &chosen {
        let result = if is_ready {
            progress::say(&format!("suite {name}"));
            prepare(name, extent).and_then(|mut cargo| run(&mut cargo))
        } else {
            Err(failure(
                &format!("the suite {name} cannot run"),
                "what it tests does not build",
                "see above",
            ))
        };
        sum += result.unwrap_or_else(|error| {
            failure::print(&error);
            Tally { failed: 1, ..Tally::default() }
        });
    }
    writeln!(stdout(), "{sum}").context("cannot write the result")?;
    Ok(sum.failed == 0)
}

/// The suites that are asked for, each once.
fn choose(names: &[String], known: &[String]) -> Result<Vec<String>> {
    let all = || std::iter::once(UNIT.to_owned()).chain(known.iter().cloned());
    if names.is_empty() {
        return Ok(all().collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let meant: Vec<String> = match name.as_str() {
            END_TO_END => known.to_vec(),
            GO => known.iter().filter(|suite| GOLANG.contains(&suite.as_str())).cloned().collect(),
            name if all().any(|suite| suite == name) => vec![name.to_owned()],
            _ => {
                let remedy = format!(
                    "name some of: {END_TO_END} {GO} {}",
                    all().collect::<Vec<_>>().join(" ")
                );
                return Err(failure(
                    &format!("there is no suite {name}"),
                    "no test target has that name",
                    &remedy,
                ));
            }
        };
        for suite in meant {
            if !chosen.contains(&suite) {
                chosen.push(suite);
            }
        }
    }
    Ok(chosen)
}

/// Fetches what a suite needs beside the workspace, and gives what runs it.
fn prepare(suite: &str, extent: Extent) -> Result<Command> {
    let mut cargo = command(suite);
    match suite {
        _ if GOLANG.contains(&suite) => {
            cargo.env(GO_TOOLCHAINS, go_toolchains::fetch_for_tests(extent.all_go)?);
            if let Some(cycles) = extent.torture.filter(|_| suite == TORTURE) {
                cargo.env(TORTURE_CYCLES, cycles.to_string()).arg("--nocapture");
            }
        }
        SYMBOLS => debug_tools::fetch()?,
        FORMATS => {
            packages::fetch(suite)?;
            viewers::fetch()?;
        }
        TASK_PAGES => {
            cargo.env(GO_TOOLCHAINS, go_toolchains::fetch_for_tests(extent.all_go)?);
            packages::fetch(suite)?;
        }
        DIST => {
            dist::dist()?;
            packages::fetch(suite)?;
        }
        _ => packages::fetch(suite)?,
    }
    Ok(cargo)
}

/// Runs a suite.
pub(crate) fn command(suite: &str) -> Command {
    if suite == UNIT {
        return process::cargo(&[
            "test",
            "--no-fail-fast",
            "-p",
            "tracer-common",
            "-p",
            "outlive",
            "-p",
            "xtask",
        ]);
    }
    let mut cargo =
        process::cargo(&["test", "-p", PACKAGE, "--test", suite, "--", "--test-threads=1"]);
    cargo.env("OUTLIVE_BIN", workspace::outlive());
    cargo
}

/// Runs one `cargo test`, showing its output as it comes.
fn run(cargo: &mut Command) -> Result<Tally> {
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let mut output = BufReader::new(child.stdout.take().context("cargo has no output")?);
    let mut reader = Reader::default();
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).context("cannot read cargo's output")? > 0 {
        let mut out = stdout().lock();
        out.write_all(&line).and_then(|()| out.flush()).context("cannot write cargo's output")?;
        reader.line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(reader.finish(child.wait().context("cannot wait for cargo")?.success()))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The end-to-end suites.
pub(crate) fn end_to_end() -> Result<Vec<String>> {
    let text =
        process::output(&mut process::cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    test_targets(&text)
}

fn test_targets(metadata: &str) -> Result<Vec<String>> {
    let metadata: Metadata =
        serde_json::from_str(metadata).context("cannot read cargo's metadata")?;
    let packages = metadata.packages.into_iter().filter(|package| package.name == PACKAGE);
    let targets = packages.flat_map(|package| package.targets);
    let tests = targets.filter(|target| target.kind.iter().any(|kind| kind == "test"));
    let mut names: Vec<String> = tests.map(|target| target.name).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn suites_are_the_test_targets_of_one_package() {
        let metadata = r#"{"packages": [
            {"name": "other", "targets": [{"name": "no", "kind": ["test"]}]},
            {"name": "outlive-tests", "targets": [
                {"name": "lib", "kind": ["lib"]}, {"name": "leak", "kind": ["test"]}, {"name": "c", "kind": ["test"]}]}]}"#;
        assert_eq!(test_targets(metadata).expect("read"), ["c", "leak"]);
    }

    #[test]
    fn a_suite_runs_once_however_it_is_named() {
        let known = strings(&["a", "b"]);
        assert_eq!(choose(&[], &known).expect("chosen"), ["unit", "a", "b"]);
        assert_eq!(choose(&strings(&["b", "e2e"]), &known).expect("chosen"), ["b", "a"]);
        let known = strings(&["a", "golang", "pprof"]);
        assert_eq!(
            choose(&strings(&["pprof", "go"]), &known).expect("chosen"),
            ["pprof", "golang"]
        );
        assert!(choose(&strings(&["c"]), &known).is_err());
    }
}
