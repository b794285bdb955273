//! `cargo xtask dist`: what users install, in `target/dist`.
//!
//! In: the workspace. Out: a static binary, a Debian package and a container image; their sizes on standard output.
//! The same binary at the same commit gives the same bytes: the one time that is written is `SOURCE_DATE_EPOCH`, else the commit's.

mod debian_package;
mod image;
mod tree;

use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result};
use bytesize::ByteSize;

use crate::failure::OrFail as _;
use crate::{process, product, progress, workspace};

const REMEDY: &str = "check that target/dist/outlive runs here, and that this is a whole clone";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is packed.
struct Release {
    version: &'static str,
    /// Seconds since 1970, of everything in it.
    time: u64,
    binary: Vec<u8>,
}

/// Makes all.
pub(crate) fn dist() -> Result<()> {
    product::build_static()?;
    let directory = workspace::dist();
    let what = "there is nothing to give to users";
    begin(&directory).or_fail(what, "make the directory `target` writable")?;
    let shown = progress::step("packing a binary, a Debian package and an image");
    let binary = directory.join("outlive");
    strip(&binary).or_fail(what, "install binutils: `strip` is a part of it")?;
    let release = Release {
        version: VERSION,
        time: time().or_fail(what, "set SOURCE_DATE_EPOCH, or work in a clone")?,
        binary: fs::read(&binary).context("cannot read what strip wrote")?,
    };
    let artefacts = [
        (format!("outlive_{VERSION}_amd64.deb"), debian_package::make(&release, &binary)),
        (format!("outlive-{VERSION}-oci.tar"), image::make(&release)),
    ];
    let mut sizes = vec![("outlive".to_owned(), release.binary.len())];
    for (name, bytes) in artefacts {
        let bytes = bytes.or_fail(&format!("{name} cannot be made"), REMEDY)?;
        let written = fs::write(directory.join(&name), &bytes);
        written.with_context(|| format!("cannot write target/dist/{name}"))?;
        sizes.push((name, bytes.len()));
    }
    drop(shown);
    for (name, size) in sizes {
        let size = ByteSize(size as u64).display().iec();
        writeln!(stdout(), "{size:>9.1}  target/dist/{name}").context("cannot write the sizes")?;
    }
    Ok(())
}

/// Nothing of another version may stay beside what is made.
fn begin(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).context("cannot remove what was in target/dist")?;
    }
    fs::create_dir_all(directory).context("cannot create target/dist")
}

/// The product without what only debuggers read.
fn strip(to: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    strip.arg("--strip-all").arg("-o").arg(to).arg(workspace::outlive());
    process::output(&mut strip).map(drop)
}

fn time() -> Result<u64> {
    let told = if let Ok(told) = env::var("SOURCE_DATE_EPOCH") {
        told
    } else {
        let mut git = Command::new("git");
        process::output(git.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root()))?
    };
    told.trim().parse().with_context(|| format!("{told:?} is no number of seconds"))
}
