//! The releases of Go that `cargo xtask test golang` fetched.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;

use crate::compiler::target_folder;

/// Names the toolchains to use: `go1.19.13,go1.27.4`.
const CHOSEN: &str = "OUTLIVE_TESTS_GO";

/// A release of Go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toolchain {
    /// Such as `go1.22.12`.
    pub version: String,
}

impl Toolchain {
    /// The number after `1.`.
    pub fn minor(&self) -> u32 {
        let minor = self.version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        minor.unwrap_or_else(|| panic!("{:?} is no version of Go", self.version))
    }

    /// How many frames of a stack its runtime keeps.
    pub fn depth(&self) -> usize {
        if self.minor() < 23 { 32 } else { 128 }
    }

    /// The folder that it is in.
    pub fn root(&self) -> PathBuf {
        folder().join(&self.version)
    }

    /// Its `go` command, which asks no network and reads no settings of the user.
    pub fn go(&self) -> Command {
        let root = self.root();
        let mut go = Command::new(root.join("bin/go"));
        go.env("GOROOT", root).env("GOCACHE", folder().join("cache"));
        go.envs([("GOENV", "off"), ("GOFLAGS", ""), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
        go
    }
}

fn folder() -> PathBuf {
    let tools = target_folder().join("tools/go");
    tools.canonicalize().unwrap_or_else(|error| {
        panic!("{}: {error}; run `cargo xtask test golang`", tools.display())
    })
}

/// All that were chosen, oldest first.
pub fn chosen() -> Vec<Toolchain> {
    let names = std::env::var(CHOSEN)
        .unwrap_or_else(|_| panic!("{CHOSEN} names no toolchain; run `cargo xtask test golang`"));
    names.split(',').map(|version| Toolchain { version: version.to_owned() }).collect()
}

/// Runs a test with each; those that fail do not keep the others from being tried.
pub fn with_each(test: impl Fn(&Toolchain)) {
    let is_failed =
        |toolchain: &Toolchain| catch_unwind(AssertUnwindSafe(|| test(toolchain))).is_err();
    let all = chosen();
    let failed: Vec<&str> = all
        .iter()
        .filter(|toolchain| is_failed(toolchain))
        .map(|toolchain| toolchain.version.as_str())
        .collect();
    assert!(failed.is_empty(), "failed with {failed:?}, see above; tried {} releases", all.len());
}
