//! Programs of a Debian release that this host need not be, run by their own loader and libraries.
//!
//! In: packages that were unpacked below a root directory, and a program there. Out: a script that runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Writes the script.
pub(crate) fn write_script(root: &Path, program: &str, script: &Path) -> Result<()> {
    let program = root.join(program);
    program.metadata().with_context(|| format!("no package has {}", program.display()))?;
    let loader = loader(&root.join("usr/lib")).or_else(|_| loader(&root.join("lib")))?;
    // Libraries lie beside the loader, and before Debian merged the two places, in both.
    let of_architecture = loader.parent().and_then(Path::file_name).unwrap_or_default();
    let libraries = ["usr/lib", "lib"].map(|place| root.join(place).join(of_architecture));
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}:{}' '{}' \"$@\"\n",
        loader.display(),
        libraries[0].display(),
        libraries[1].display(),
        program.display()
    );
    fs::write(script, text)
        .and_then(|()| fs::set_permissions(script, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", script.display()))
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
