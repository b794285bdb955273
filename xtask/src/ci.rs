//! `cargo xtask ci`: every check that takes no end-to-end test.
//!
//! In: the workspace. Out: each check's own output, and at the end which failed.

use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::failure::{self, OrFail as _};
use crate::{budget, layers, pages, process, progress, setup, workspace};

type Check = (&'static str, fn() -> Result<()>);

const CHECKS: [Check; 8] = [
    ("format", format),
    ("clippy", clippy),
    ("clippy for the kernel programs", clippy_ebpf),
    ("documentation", documentation),
    ("pages", pages::check),
    ("layers", layers::check),
    ("budget", budget::check),
    ("a second build does nothing", second_build),
];

/// Runs all checks; whether all passed.
pub(crate) fn ci() -> Result<bool> {
    setup::setup()?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        progress::say(&format!("check: {name}"));
        if let Err(error) = check() {
            failure::print(&error);
            failed.push(name);
        }
    }
    if failed.is_empty() {
        progress::say("all checks passed");
    } else {
        progress::say(&format!("failed: {}", failed.join(", ")));
    }
    Ok(failed.is_empty())
}

fn format() -> Result<()> {
    process::run(&mut process::cargo(&["fmt", "--check"]))
        .or_fail("the code is not formatted", "run `cargo fmt`")
}

fn clippy() -> Result<()> {
    let words = [
        "clippy",
        "--workspace",
        "--exclude",
        "tracer-ebpf",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    process::run(&mut process::cargo(&words))
        .or_fail("clippy has warnings", "see the messages above")
}

/// The compiler's settings are those of `tracer-user/build.rs`.
fn clippy_ebpf() -> Result<()> {
    let what = "clippy has warnings about the kernel programs";
    let tools = workspace::tools();
    let mut cargo = process::cargo(&["clippy", "--release", "--package", "tracer-ebpf"]);
    cargo.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--target-dir"]);
    cargo.arg(workspace::target().join("ebpf")).args(["--", "-D", "warnings"]);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools.join("bin")].into_iter().chain(env::split_paths(&path)));
    cargo.env("PATH", path.or_fail(what, "mend the variable PATH")?).env("RUSTC_BOOTSTRAP", "1");
    if let Ok(source) = fs::read_to_string(tools.join("rust-src.path")) {
        cargo.env("__CARGO_TESTS_ONLY_SRC_ROOT", source.trim());
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3\u{1f}-Clink-arg=--btf");
    cargo.env("CARGO_PROFILE_RELEASE_PANIC", "abort");
    process::run(&mut cargo).or_fail(what, "see the messages above")
}

fn documentation() -> Result<()> {
    let mut cargo = process::cargo(&["doc", "--no-deps", "-p", "tracer-common", "-p", "outlive"]);
    process::run(cargo.env("RUSTDOCFLAGS", "-Dwarnings"))
        .or_fail("the documentation has warnings", "see the messages above")
}

fn second_build() -> Result<()> {
    let what = "a second build does work again";
    process::run(&mut process::cargo(&["build"]))
        .or_fail("the workspace does not build", "see the messages above")?;
    let log = workspace::target().join("second-build.log");
    let mut again: Command = process::cargo(&["build", "-v"]);
    again.env("CARGO_TERM_COLOR", "never");
    let built = process::logged(&mut again, &log).and_then(|()| {
        let text = fs::read_to_string(&log).context("cannot read cargo's messages")?;
        match rebuilt(&text) {
            Some(line) => bail!("cargo says: {line}"),
            None => Ok(()),
        }
    });
    built.or_fail(what, "see target/second-build.log for what cargo thinks has changed")
}

fn rebuilt(log: &str) -> Option<&str> {
    let mut lines = log.lines().map(str::trim);
    lines.find(|line| line.starts_with("Compiling "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiled_crate_is_noticed() {
        assert_eq!(rebuilt("       Fresh a v1\n   Compiling b v2\n"), Some("Compiling b v2"));
        assert_eq!(rebuilt("       Fresh a v1\n    Finished x\n"), None);
    }
}
