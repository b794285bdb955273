//! Other tracers, to compare with: memleak of libbpf-tools, heaptrack, valgrind.
//!
//! In: Debian's packages. Out: what runs them, under `target/tools`. memleak comes from a newer Debian than many hosts
//! are, so it is run by that Debian's own loader and libraries; the others run inside the program that is traced, with
//! the host's. Nothing is installed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::{progress, workspace, wrapped};

/// The first release of Debian with a memleak that needs no compiler at run time.
const SUITE: &str = "trixie";
const PACKAGES: [&str; 5] = ["libbpf-tools", "libc6", "libelf1t64", "libzstd1", "zlib1g"];

/// The script that runs memleak; it is fetched the first time.
pub(crate) fn memleak() -> Result<PathBuf> {
    let directory = workspace::tools().join("peers");
    let script = directory.join("memleak");
    if script.exists() {
        return Ok(script);
    }
    let _shown = progress::step("fetching memleak from Debian");
    let root = directory.join("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    Apt::new(&directory, SUITE)?.unpack(&PACKAGES, &root)?;
    wrapped::write_script(&root, "usr/sbin/memleak-libbpf", &script)?;
    Ok(script)
}

/// A release whose libraries run with every host's C library that has come since.
const OLD_SUITE: &str = "bookworm";
const LAUNCHERS: [&str; 4] = ["libheaptrack", "libunwind8", "liblzma5", "valgrind"];

/// A root directory with heaptrack and valgrind; they are fetched the first time.
pub(crate) fn launchers() -> Result<PathBuf> {
    let directory = workspace::tools().join("launchers");
    let root = directory.join("root");
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(root);
    }
    let _shown = progress::step("fetching heaptrack and valgrind from Debian");
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    Apt::new(&directory, OLD_SUITE)?.unpack(&LAUNCHERS, &root)?;
    fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(root)
}
