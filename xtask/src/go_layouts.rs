//! `cargo xtask go-layouts`: where each release's runtime keeps things.
//!
//! In: the first and the last toolchain of every supported release, and the program `xtask/go-layouts` that reads their runtimes'
//! sources. Out: `tracer-user/src/golang/layouts.json`.

use std::fs;

use anyhow::{Context as _, Result};

use crate::failure::{OrFail as _, failure};
use crate::go_toolchains::{RELEASES, Toolchain};
use crate::{process, progress, workspace};

const FILE: &str = "tracer-user/src/golang/layouts.json";

/// Writes the file, or checks that it is as it would be written.
pub(crate) fn make(is_check: bool) -> Result<()> {
    let toolchains = RELEASES.map(|release| [release.first, release.last]).concat();
    toolchains.iter().try_for_each(|toolchain| toolchain.fetch())?;
    let layouts = layouts(&toolchains).or_fail(
        "the layouts cannot be read",
        "a runtime has changed: see xtask/go-layouts/fields.go",
    )?;
    let path = workspace::root().join(FILE);
    if is_check {
        let remedy = "run `cargo xtask go-layouts` and look at what has changed";
        return if fs::read_to_string(&path).is_ok_and(|now| now == layouts) {
            Ok(())
        } else {
            Err(failure(&format!("{FILE} is stale"), "the runtimes' sources say otherwise", remedy))
        };
    }
    let folder = path.parent().context("the file has no folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, layouts))
        .with_context(|| format!("cannot write {FILE}"))
}

fn layouts(toolchains: &[Toolchain]) -> Result<String> {
    let newest = toolchains.last().context("no release is supported")?;
    let _shown = progress::step("reading the runtimes of all releases of Go");
    let mut go = newest.go();
    go.current_dir(workspace::root().join("xtask/go-layouts")).args(["run", "."]);
    process::output(go.args(toolchains.iter().map(|toolchain| toolchain.root())))
}
