//! The Rust sources from Debian's package `rust-src`, for hosts without rustup's component.
//!
//! In: the compiler's version. Out: the directory `library` of the unpacked package.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::apt::Apt;

/// The suite whose packages follow the compiler's releases.
const SUITE: &str = "trixie-backports";
const PACKAGE: &str = "rust-src";

/// Fetches and unpacks the sources of this release into `directory`.
pub(crate) fn fetch(release: &str, directory: &Path) -> Result<PathBuf> {
    let library = library(release, directory);
    let apt = Apt::new(directory, SUITE)?;
    let known = apt.madison(PACKAGE)?;
    let Some(version) = choose(&known, release) else {
        bail!(
            "{SUITE} has no {PACKAGE} {release}, only: {}",
            versions(&known).collect::<Vec<_>>().join(", ")
        );
    };
    apt.unpack(&[&format!("{PACKAGE}={version}")], directory)?;
    if !library.is_dir() {
        bail!("{PACKAGE} {version} has no {}", library.display());
    }
    Ok(library)
}

/// Where the sources are once they are unpacked.
pub(crate) fn library(release: &str, directory: &Path) -> PathBuf {
    directory.join(format!("usr/src/rustc-{release}/library"))
}

fn versions(madison: &str) -> impl Iterator<Item = &str> {
    madison.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim)
}

fn choose<'a>(madison: &'a str, release: &str) -> Option<&'a str> {
    versions(madison)
        .find(|version| version.strip_prefix(release).is_some_and(|rest| rest.starts_with('+')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADISON: &str = "  rust-src | 1.96.1+dfsg1-2~bpo13+1 | mirror trixie-backports/main amd64 Packages\n  \
        rust-src | 1.95.0+dfsg1-2~bpo13+1 | mirror trixie-backports/main amd64 Packages\n";

    #[test]
    fn the_version_is_the_compilers() {
        assert_eq!(choose(MADISON, "1.95.0"), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(choose(MADISON, "1.95"), None);
        assert_eq!(choose("", "1.95.0"), None);
    }
}
