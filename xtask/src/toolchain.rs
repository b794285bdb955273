//! The compiler in use: its version, where it lives, the LLVM it ships.
//!
//! In: `rustc`. Out: a [`Toolchain`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process;
use crate::workspace;

/// The compiler in use.
pub(crate) struct Toolchain {
    /// Release, such as `1.95.0`.
    pub(crate) release: String,
    /// Its files.
    pub(crate) sysroot: PathBuf,
}

impl Toolchain {
    /// Asks `rustc`.
    pub(crate) fn ask() -> Result<Self> {
        let version = process::output(rustc().arg("-vV"))?;
        let release = version.lines().find_map(|line| line.strip_prefix("release: "));
        let release = release.context("rustc does not tell its release")?.to_owned();
        let sysroot = process::output(rustc().args(["--print", "sysroot"]))?;
        Ok(Self { release, sysroot: PathBuf::from(sysroot.trim()) })
    }

    /// Where rustup puts the sources of the standard library.
    pub(crate) fn rust_src(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }

    /// The directory of the compiler's libraries.
    pub(crate) fn libraries(&self) -> PathBuf {
        self.sysroot.join("lib")
    }

    /// The compiler's own LLVM.
    pub(crate) fn llvm(&self) -> Result<PathBuf> {
        let libraries = self.libraries();
        let entries = fs::read_dir(&libraries);
        let entries = entries.with_context(|| format!("cannot list {}", libraries.display()))?;
        let mut names: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|path| is_llvm(path)).collect();
        names.sort();
        names.pop().with_context(|| format!("no libLLVM.so.* in {}", libraries.display()))
    }
}

fn rustc() -> Command {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(workspace::root());
    rustc
}

fn is_llvm(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libLLVM.so."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_that_rustc_links_is_recognised() {
        assert!(is_llvm(Path::new("lib/libLLVM.so.22.1-rust-1.95.0-stable")));
        assert!(!is_llvm(Path::new("lib/libLLVM-22-rust-1.95.0-stable.so")));
    }
}
