//! Other tracers, to compare with: memleak of libbpf-tools.
//!
//! In: Debian's packages. Out: a script that runs it, under `target/tools/peers`. It comes from a newer Debian than
//! many hosts are, so it is run by that Debian's own loader and libraries; nothing is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::{progress, workspace};

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
    let program = root.join("usr/sbin/memleak-libbpf");
    program.metadata().context("libbpf-tools has no memleak-libbpf")?;
    let loader = loader(&root.join("usr/lib"))?;
    let libraries = loader.parent().unwrap_or(&root);
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        loader.display(),
        libraries.display(),
        program.display()
    );
    fs::write(&script, text)
        .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", script.display()))?;
    Ok(script)
}

/// The loader, which lies beside the libraries of its architecture.
fn loader(libraries: &Path) -> Result<PathBuf> {
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    let of_architectures = entries(libraries).map(|entry| entry.path());
    let files = of_architectures.flat_map(|directory| entries(&directory)).map(|file| file.path());
    let is_loader = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
    };
    let mut loaders = files.filter(is_loader);
    loaders.next().context("libc6 has no loader")
}
