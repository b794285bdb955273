//! `cargo xtask build` and `run`: the product.
//!
//! In: the workspace. Out: `target/release/outlive`, built with the tools that setup made ready.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::failure::OrFail as _;
use crate::{host, process, setup, workspace};

/// Builds the product.
pub(crate) fn build() -> Result<()> {
    setup::setup()?;
    process::run(&mut process::cargo(&["build", "--release", "-p", "outlive"]))
        .or_fail("outlive does not build", "see the compiler's messages above")
}

/// Builds the product and becomes it.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    build()?;
    let error = command().args(arguments).exec();
    Err(error)
        .context("cannot start it")
        .or_fail("outlive does not run", "check that sudo is installed, or be root")
}

/// The product, with root's rights.
pub(crate) fn command() -> Command {
    if host::is_root() {
        return Command::new(workspace::outlive());
    }
    let mut command = Command::new("sudo");
    command.arg("-E").arg(workspace::outlive());
    command
}
