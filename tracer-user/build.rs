//! Builds the kernel programs and embeds them: `OUTLIVE_EBPF_OBJECT` is the path of the object.
//!
//! The tools (bpf-linker, and the sources of `core` when rustup does not have them) come from `cargo xtask setup`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "bpfel-unknown-none";
/// Of cargo's variables, those that a user sets to reach the registry; they hold for the inner cargo as well.
const USERS: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
];

fn main() {
    if let Err(why) = build() {
        println!("cargo::error={why}");
    }
}

fn build() -> Result<(), String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tools = workspace.join("target/tools");
    for watched in
        ["tracer-ebpf", "tracer-common", "Cargo.toml", "Cargo.lock", "target/tools/stamp"]
    {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    let linker = tools.join("bin/bpf-linker");
    if !linker.exists() {
        return Err("the eBPF tools are not set up; run `cargo xtask setup` once".to_owned());
    }
    let target_dir = workspace.join("target/ebpf");
    let mut cargo = cargo(&tools)?;
    cargo.current_dir(&workspace).args(["build", "--release", "--package", "tracer-ebpf"]);
    cargo.args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"]).arg(&target_dir);
    let output = cargo.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr).replace('\n', "\ncargo::error=");
        return Err(format!("the kernel programs do not build:\ncargo::error={log}"));
    }
    let built = target_dir.join(TARGET).join("release/tracer-ebpf");
    let object = out_dir().join("outlive.bpf.o");
    fs::copy(&built, &object)
        .map_err(|error| format!("no object at {}: {error}", built.display()))?;
    println!("cargo::rustc-env=OUTLIVE_EBPF_OBJECT={}", object.display());
    Ok(())
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default())
}

/// A cargo that builds for BPF with the same toolchain: what the outer cargo exports is for the host and is taken away.
fn cargo(tools: &Path) -> Result<Command, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let is_users = USERS.iter().any(|prefix| text.starts_with(prefix));
        let is_hosts = text.starts_with("CARGO_") && !is_users
            || text.starts_with("RUSTC")
            || text.starts_with("RUSTFLAGS")
            || matches!(
                text.as_ref(),
                "TARGET" | "HOST" | "OUT_DIR" | "PROFILE" | "OPT_LEVEL" | "DEBUG" | "NUM_JOBS"
            );
        if is_hosts {
            cargo.env_remove(&name);
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools.join("bin")).chain(env::split_paths(&path));
    let path =
        env::join_paths(paths).map_err(|error| format!("PATH cannot be extended: {error}"))?;
    // Building core needs unstable flags; the compiler is the one that everything else is built with.
    cargo.env("PATH", path).env("RUSTC_BOOTSTRAP", "1");
    if let Ok(source) = fs::read_to_string(tools.join("rust-src.path")) {
        cargo.env("__CARGO_TESTS_ONLY_SRC_ROOT", source.trim());
    }
    // Atomic exchange needs the third version of the instruction set (kernel 5.12); loop callbacks need BTF.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3\u{1f}-Clink-arg=--btf");
    for (setting, value) in [
        ("DEBUG", "2"),
        ("CODEGEN_UNITS", "1"),
        ("LTO", "true"),
        ("PANIC", "abort"),
        ("OPT_LEVEL", "3"),
    ] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    Ok(cargo)
}
