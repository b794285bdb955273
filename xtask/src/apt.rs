//! Packages of Debian without installing them.
//!
//! In: the host's Debian mirror, a suite, names of packages. Out: the packages' files under a directory.
//! Apt works in a directory of its own; the host's lists and packages are not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;

/// Where apt is told of mirrors.
const APT: &str = "/etc/apt";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt that knows one source and keeps its state in one directory.
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Makes its directories and reads the lists of `suite` from the host's mirror.
    pub(crate) fn new(directory: &Path, suite: &str) -> Result<Self> {
        let mirror = mirror(Path::new(APT))?;
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        let list = directory.join("debian.list");
        fs::write(&list, source).with_context(|| format!("cannot write {}", list.display()))?;
        // On a system without packages nothing is there already, in whatever version.
        let status = directory.join("status");
        fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
        let apt = Self { directory: directory.to_owned() };
        apt.run("apt-get", &["update"])?;
        Ok(apt)
    }

    /// What apt knows about the versions of a package: a line each, fields between `|`.
    pub(crate) fn madison(&self, package: &str) -> Result<String> {
        self.run("apt-cache", &["madison", package])
    }

    /// What a package depends on: a line each.
    pub(crate) fn depends(&self, package: &str) -> Result<String> {
        self.run("apt-cache", &["depends", package])
    }

    /// Whether there is a package of this name.
    pub(crate) fn knows(&self, package: &str) -> Result<bool> {
        let names = self.run("apt-cache", &["pkgnames", package])?;
        Ok(names.lines().any(|name| name == package))
    }

    /// Downloads packages and unpacks them into `root`; nothing is installed or run.
    pub(crate) fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let words: Vec<&str> = ["download"].iter().chain(packages).copied().collect();
        self.run("apt-get", &words)?;
        unpack_all(&self.directory, root)
    }

    /// The same, with all that the packages depend on.
    pub(crate) fn unpack_with_dependencies(&self, packages: &[&str], root: &Path) -> Result<()> {
        let install = ["install", "--download-only", "--yes", "--no-install-recommends"];
        let words: Vec<&str> = install.iter().chain(packages).copied().collect();
        self.run("apt-get", &words)?;
        unpack_all(&self.directory.join("cache/archives"), root)
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        let here = |name: &str| self.directory.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", here("debian.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", here("lists")),
            format!("Dir::State::status={}", here("status")),
            format!("Dir::Cache={}", here("cache")),
            "APT::Sandbox::User=root".to_owned(),
            // Without it, an update that reached nobody succeeds.
            "APT::Update::Error-Mode=any".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        process::output(command.args(words).current_dir(&self.directory).env("LC_ALL", "C"))
            .with_context(|| format!("{program} {}", words.join(" ")))
    }
}

/// Unpacks the packages in a directory, and removes them there.
fn unpack_all(directory: &Path, root: &Path) -> Result<()> {
    let entries = fs::read_dir(directory).context("cannot list what apt downloaded")?;
    let paths = entries.flatten().map(|entry| entry.path());
    for package in paths.filter(|path| path.extension().is_some_and(|ext| ext == "deb")) {
        process::output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root))?;
        fs::remove_file(&package)
            .with_context(|| format!("cannot remove {}", package.display()))?;
    }
    Ok(())
}

/// The host's mirror of Debian.
fn mirror(apt: &Path) -> Result<String> {
    let parts = fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten();
    let mut files: Vec<_> = parts.map(|entry| entry.path()).collect();
    files.sort();
    files.push(apt.join("sources.list"));
    let mirror = files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "sources" => of_stanzas(&text),
            "list" => of_lines(&text),
            _ => None,
        }
    });
    mirror.with_context(|| format!("no source in {} is a mirror of Debian", apt.display()))
}

fn of_stanzas(text: &str) -> Option<String> {
    let uris = text.lines().filter_map(|line| line.strip_prefix("URIs:"));
    uris.flat_map(str::split_whitespace).find_map(debian)
}

fn of_lines(text: &str) -> Option<String> {
    let sources = text.lines().filter(|line| line.split_whitespace().next() == Some("deb"));
    sources.flat_map(str::split_whitespace).find_map(debian)
}

/// The address without its last slash, when it is one of Debian's main archive.
fn debian(address: &str) -> Option<String> {
    let address = address.trim_end_matches('/');
    address.ends_with("/debian").then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_main_archives() {
        let stanzas = "Types: deb\n# URIs: mirror://old/debian\nURIs: mirror://a/debian-security\n\n\
            Types: deb\nURIs: mirror://b/debian/\n";
        assert_eq!(of_stanzas(stanzas).as_deref(), Some("mirror://b/debian"));
        let lines = "# deb mirror://old/debian x main\ndeb-src mirror://c/debian x main\n\
            deb [arch=amd64] mirror://d/debian x main\n";
        assert_eq!(of_lines(lines).as_deref(), Some("mirror://d/debian"));
    }
}
