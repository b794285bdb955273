//! `cargo xtask build` and `run`: the product.
//!
//! In: the workspace. Out: `target/release/outlive`, built with the tools that setup made ready; without a need for any
//! library where this host has the C library's archive, and so what tests run is what `cargo xtask dist` packs.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use anyhow::{Context as _, Result};

use crate::failure::{OrFail as _, failure};
use crate::{host, process, setup, workspace};

/// Named to cargo, so that the flags below are not for build scripts and macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS_VARIABLE: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS";
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// Builds the product.
pub(crate) fn build() -> Result<()> {
    setup::setup()?;
    let mut cargo = process::cargo(&["build", "--release", "-p", "outlive", "--target", TARGET]);
    if has_static_c_library() {
        cargo.env(FLAGS_VARIABLE, STATIC);
    }
    process::run(&mut cargo)
        .or_fail("outlive does not build", "see the compiler's messages above")?;
    let built = workspace::target().join(TARGET).join("release/outlive");
    give_name(&built, &workspace::outlive())
        .or_fail("outlive has no place", "make the directory `target` writable")
}

/// Builds the product, and refuses when it would need libraries.
pub(crate) fn build_static() -> Result<()> {
    if !has_static_c_library() {
        let remedy = "install it: `apt-get install libc6-dev` (Debian, Ubuntu) or `dnf install glibc-static` (Fedora)";
        let why = "this host has no libc.a";
        return Err(failure("outlive cannot be linked statically", why, remedy));
    }
    build()
}

/// Whether the C library can become part of a program here; `cc` answers with a path only for a file that it has found.
fn has_static_c_library() -> bool {
    let asked = process::output(Command::new("cc").arg("-print-file-name=libc.a"));
    asked.is_ok_and(|path| Path::new(path.trim()).is_absolute())
}

/// Another name for a file, instead of what may have it.
fn give_name(file: &Path, name: &Path) -> Result<()> {
    let folder = name.parent().context("a file is in a directory")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    match fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::hard_link(file, name),
    }
    .with_context(|| format!("cannot link {} to {}", name.display(), file.display()))
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
