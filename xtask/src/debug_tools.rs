//! What the suite `symbols` takes apart and serves debug information with: dwz and the real debuginfod server.
//!
//! In: Debian's packages. Out: scripts that run them, in `target/tools/debug/bin`. Nothing is installed.

use std::fs;

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::{progress, workspace, wrapped};

const SUITE: &str = "trixie";
const PACKAGES: [&str; 3] = ["debuginfod", "dwz", "xz-utils"];
const PROGRAMS: [&str; 3] = ["debuginfod", "dwz", "xz"];

/// Fetches them the first time.
pub(crate) fn fetch() -> Result<()> {
    let directory = workspace::tools().join("debug");
    let programs = directory.join("bin");
    if PROGRAMS.iter().all(|program| programs.join(program).exists()) {
        return Ok(());
    }
    let _shown = progress::step("fetching debuginfod and dwz from Debian");
    let root = directory.join("root");
    for made in [&root, &programs] {
        fs::create_dir_all(made).with_context(|| format!("cannot create {}", made.display()))?;
    }
    Apt::new(&directory, SUITE)?.unpack_with_dependencies(&PACKAGES, &root)?;
    for program in PROGRAMS {
        wrapped::write_script(&root, &format!("usr/bin/{program}"), &programs.join(program))?;
    }
    Ok(())
}
