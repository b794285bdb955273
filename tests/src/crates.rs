//! Workloads that are crates with dependencies of their own, built by cargo under `target/crates`.

use std::path::PathBuf;
use std::process::Command;

use crate::compiler::{sources, target_folder};

/// Builds a crate of `tests/workloads/rust` with this feature, if any.
pub fn build_crate(name: &str, feature: Option<&str>) -> PathBuf {
    let folder = sources().join("rust").join(name);
    let target = target_folder().join("crates").join(feature.unwrap_or("plain"));
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--release", "--locked", "--jobs", "2", "--manifest-path"]);
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
