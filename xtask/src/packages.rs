//! Debian's packages that suites need: unpacked under `target/tools/SUITE/root`, and not installed.

use std::fs;

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::{progress, workspace};

/// The release whose libraries run on every host that tests run on.
const RELEASE: &str = "bookworm";

/// What each suite needs.
const NEEDS: [(&str, &[&str]); 2] = [
    (
        "allocators",
        &[
            "libjemalloc2",
            "libtcmalloc-minimal4",
            "libmimalloc2.0",
            "musl",
            "musl-dev",
            "libunwind8",
        ],
    ),
    ("usdt", &["systemtap-sdt-dev"]),
];

/// Fetches what a suite needs, the first time.
pub(crate) fn fetch(suite: &str) -> Result<()> {
    let Some((_, packages)) = NEEDS.iter().find(|(name, _)| *name == suite) else { return Ok(()) };
    let directory = workspace::tools().join(suite);
    let complete = directory.join("complete");
    let wanted = packages.join("\n");
    if fs::read_to_string(&complete).is_ok_and(|unpacked| unpacked == wanted) {
        return Ok(());
    }
    let _shown = progress::step(&format!("fetching what the suite {suite} needs from Debian"));
    let root = directory.join("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    Apt::new(&directory, RELEASE)?.unpack(packages, &root)?;
    fs::write(&complete, wanted).with_context(|| format!("cannot write {}", complete.display()))
}
