//! Viewers of other formats, from npm's registry: unpacked below `target/tools`, and not installed. No code of them runs here.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::failure::OrFail as _;
use crate::{process, progress, workspace};

/// A package, and what its archive must be.
const SPEEDSCOPE: &str = "speedscope@1.25.0";
const INTEGRITY: &str = "sha512-cpf9HWTZf1ijLXBJrk87Ve/54tnYx6rlf0gUThvn3ook6h63hLXVOQiMf44PT+XoV503cPfvfiT5gP5vojp6Ag==";

/// Fetches speedscope's viewer, the first time.
pub(crate) fn fetch() -> Result<()> {
    let what = "the viewer of speedscope cannot be had";
    unpack().or_fail(what, "install npm, and let it reach its registry")
}

fn unpack() -> Result<()> {
    let folder = workspace::tools().join("speedscope");
    let complete = folder.join("complete");
    if fs::read_to_string(&complete).is_ok_and(|unpacked| unpacked == INTEGRITY) {
        return Ok(());
    }
    let _shown = progress::step(&format!("fetching {SPEEDSCOPE} from npm's registry"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["pack", "--json", "--ignore-scripts", SPEEDSCOPE]).current_dir(&folder);
    let packed: Value = serde_json::from_str(&process::output(&mut npm)?)?;
    let archive = packed[0]["filename"].as_str().context("npm names no archive")?;
    ensure!(packed[0]["integrity"] == INTEGRITY, "{archive} is not the archive that is expected");
    let mut tar = Command::new("tar");
    process::output(tar.args(["-xzf", archive]).current_dir(&folder))?;
    fs::write(&complete, INTEGRITY).with_context(|| format!("cannot write {}", complete.display()))
}
