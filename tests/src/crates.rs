//! Workloads that are crates with dependencies of their own, built by cargo under `target/crates`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::compiler::{sources, target_folder};

/// Gives a crate the versions that the workspace is locked to; what the workspace has not is pinned in the crate's manifest.
fn lock_versions(folder: &Path) {
    static LOCKED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    if locked.insert(folder.to_owned()) {
        let of_workspace = sources().join("../../Cargo.lock");
        fs::copy(&of_workspace, folder.join("Cargo.lock")).expect("the workspace's lock file");
    }
}

/// Builds a crate of `tests/workloads/rust` with this feature, if any.
pub fn build_crate(name: &str, feature: Option<&str>) -> PathBuf {
    let folder = sources().join("rust").join(name);
    lock_versions(&folder);
    let target = target_folder().join("crates").join(feature.unwrap_or("plain"));
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--release", "--jobs", "2", "--manifest-path"]);
    command.arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&target);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("release").join(name).canonicalize().unwrap()
}
