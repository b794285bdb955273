//! Allocators that tests trace: Debian's packages, unpacked under `target/tools/allocators` and not installed.

use std::fs;

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::{progress, workspace};

/// The release whose libraries run on every host that tests run on.
const SUITE: &str = "bookworm";
const PACKAGES: [&str; 6] =
    ["libjemalloc2", "libtcmalloc-minimal4", "libmimalloc2.0", "musl", "musl-dev", "libunwind8"];

/// Fetches them the first time.
pub(crate) fn fetch() -> Result<()> {
    let directory = workspace::tools().join("allocators");
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(());
    }
    let _shown = progress::step("fetching allocators from Debian");
    let root = directory.join("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    Apt::new(&directory, SUITE)?.unpack(&PACKAGES, &root)?;
    fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))
}
