//! The allocators of Debian's packages, which `cargo xtask test allocators` fetches.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compiler::{sources, target_folder};

fn root() -> PathBuf {
    let root = target_folder().join("tools/allocators/root");
    assert!(root.exists(), "the allocators are not fetched: run `cargo xtask test allocators`");
    root.canonicalize().unwrap()
}

/// A shared library, by the name that programs load it by.
pub fn library(name: &str) -> PathBuf {
    root().join("usr/lib/x86_64-linux-gnu").join(name)
}

/// How a program is linked with musl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Musl {
    /// With its shared library, run by its own loader.
    Dynamic,
    /// All in one file.
    Static,
}

/// Builds a C workload with musl.
pub fn build_with_musl(source: &str, musl: Musl, folder: &Path) -> PathBuf {
    let root = root();
    let libraries = root.join("usr/lib/x86_64-linux-musl");
    let start = |name: &str| libraries.join(name);
    let program = folder.join("workload");
    let mut command = Command::new("gcc");
    command.args(["-std=gnu11", "-g", "-O0", "-fno-builtin", "-nostdinc", "-nostdlib", "-isystem"]);
    command.arg(root.join("usr/include/x86_64-linux-musl"));
    let linkage: &[&str] = match musl {
        Musl::Dynamic => &["-pie", "-fPIE"],
        Musl::Static => &["-static", "-no-pie"],
    };
    command.args(linkage);
    let first = if musl == Musl::Dynamic { "Scrt1.o" } else { "crt1.o" };
    command.args([start(first), start("crti.o"), sources().join(source)]).arg("-L").arg(&libraries);
    let shared = root.join("lib/x86_64-linux-musl/libc.so");
    if musl == Musl::Dynamic {
        // musl's library is its loader, too.
        command.arg(format!("-Wl,--dynamic-linker={}", shared.display())).arg(&shared);
    } else {
        command.arg("-lc");
    }
    command.arg("-lgcc").arg(start("crtn.o")).arg("-o").arg(&program);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}
