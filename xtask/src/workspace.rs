//! Where things are: the workspace, its target directory and what is made there.
//!
//! In: the environment that cargo sets. Out: absolute paths.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().unwrap_or(Path::new(".")).to_owned()
}

/// What cargo and this crate make.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// The tools that building the kernel programs takes.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The product.
pub(crate) fn outlive() -> PathBuf {
    target().join("release/outlive")
}

/// What is given to users.
pub(crate) fn dist() -> PathBuf {
    target().join("dist")
}

/// Kernels, and the files of the virtual machines that run them.
pub(crate) fn virtual_machines() -> PathBuf {
    target().join("vm")
}
