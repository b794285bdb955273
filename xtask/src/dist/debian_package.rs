//! The Debian package: the binary, manual pages, completions and documentation.
//!
//! In: the release. Out: the bytes of the `.deb`, compressed by gzip, which every release of dpkg reads.
//! Pages and completions are what the binary itself prints.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Release;
use super::tree::{Tree, gzip};
use crate::{process, workspace};

const DOCUMENTATION: &str = "usr/share/doc/outlive";
/// Where each shell looks for completions of packages.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/outlive"),
    ("zsh", "usr/share/zsh/vendor-completions/_outlive"),
    ("fish", "usr/share/fish/vendor_completions.d/outlive.fish"),
];

/// Makes it; `binary` is where the release's binary can be run.
pub(super) fn make(release: &Release, binary: &Path) -> Result<Vec<u8>> {
    let mut files = Tree::default();
    files.file("usr/bin/outlive", 0o755, release.binary.clone());
    for (shell, place) in COMPLETIONS {
        let text = process::output(Command::new(binary).args(["completions", shell]))?;
        files.file(place, 0o644, text);
    }
    add_pages(&mut files, binary)?;
    add_documentation(&mut files)?;
    let mut control = Tree::default();
    control.file("control", 0o644, description(release.version, files.size_bytes()));
    let parts = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", gzip(&control.tar(release.time)?)?),
        ("data.tar.gz", gzip(&files.tar(release.time)?)?),
    ];
    pack(&parts, release.time)
}

fn add_pages(files: &mut Tree, binary: &Path) -> Result<()> {
    let folder = workspace::dist().join("man");
    process::output(Command::new(binary).args(["man", "--all"]).arg(&folder))?;
    for (name, page) in contents(&folder)? {
        files.file(&format!("usr/share/man/man1/{name}.gz"), 0o644, gzip(&page)?);
    }
    Ok(())
}

fn add_documentation(files: &mut Tree) -> Result<()> {
    let root = workspace::root();
    let text = |name: &str| {
        fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    files.file(&format!("{DOCUMENTATION}/README.md"), 0o644, text("README.md")?);
    for place in ["docs", "docs/tasks"] {
        for (name, page) in contents(&root.join(place))? {
            files.file(&format!("{DOCUMENTATION}/{place}/{name}"), 0o644, page);
        }
    }
    let mut copyright = String::new();
    for license in ["LICENSE", "LICENSE-MIT"] {
        copyright += &text(license)?;
        copyright.push('\n');
    }
    // Debian's base system has the text.
    copyright += "The Apache License, Version 2.0, is in /usr/share/common-licenses/Apache-2.0.\n";
    files.file(&format!("{DOCUMENTATION}/copyright"), 0o644, copyright);
    Ok(())
}

/// The files directly in a directory.
fn contents(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("cannot list {}", directory.display()))?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let read = files.map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = fs::read(&path);
        Ok((name, content.with_context(|| format!("cannot read {}", path.display()))?))
    });
    read.collect()
}

fn description(version: &str, size_bytes: usize) -> String {
    format!(
        "Package: outlive\n\
        Version: {version}\n\
        Architecture: amd64\n\
        Maintainer: the outlive authors <outlive@localhost>\n\
        Installed-Size: {}\n\
        Section: utils\n\
        Priority: optional\n\
        Description: allocations that outlive their welcome in running processes\n \
        Attaches to a running process by kernel probes and tells how much each call\n \
        site holds, since when, and how fast it grows: C, C++, Rust, Go, without a\n \
        restart and without the program's cooperation.\n",
        size_bytes.div_ceil(1024)
    )
}

/// The outer archive.
fn pack(parts: &[(&str, Vec<u8>)], time: u64) -> Result<Vec<u8>> {
    let mut archive = ar::Builder::new(Vec::new());
    for (name, content) in parts {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        header.set_mode(0o100_644);
        header.set_mtime(time);
        archive
            .append(&header, content.as_slice())
            .with_context(|| format!("cannot pack {name}"))?;
    }
    archive.into_inner().context("cannot end the package")
}
