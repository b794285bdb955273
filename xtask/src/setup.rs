//! `cargo xtask setup`: the tools that building the kernel programs takes, once.
//!
//! In: the compiler in use, the crate registry, rustup or Debian. Out, under `target/tools`: `bin/bpf-linker`, the file
//! `rust-src.path` when the sources are not rustup's, and `stamp`, which the product's build script watches.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result};

use crate::failure::{OrFail as _, failure};
use crate::process;
use crate::progress;
use crate::toolchain::Toolchain;
use crate::{debian, workspace};

const LINKER_VERSION: &str = "0.13.0";
const SOURCE_VARIABLE: &str = "OUTLIVE_RUST_SRC";

/// Makes the tools ready; says nothing when they are.
pub(crate) fn setup() -> Result<()> {
    let tools = workspace::tools();
    let what = "the Rust toolchain cannot be examined";
    let toolchain =
        Toolchain::ask().or_fail(what, "check that `rustc -vV` works in this directory")?;
    let path = |path: &Path| path.display().to_string();
    fs::create_dir_all(&tools)
        .with_context(|| format!("cannot create {}", path(&tools)))
        .or_fail("there is no place for the tools", "make the directory `target` writable")?;
    let mut stamp = Stamp::read(&tools);
    if !has_rust_src(&toolchain, &tools) {
        rust_src(&toolchain, &tools)?;
    }
    stamp.set("rustc", &format!("{} {}", toolchain.release, path(&toolchain.sysroot)))?;
    if stamp.get("bpf-linker") != Some(LINKER_VERSION) || !tools.join("bin/bpf-linker").exists() {
        bpf_linker(&toolchain, &tools)?;
        stamp.set("bpf-linker", LINKER_VERSION)?;
    }
    Ok(())
}

/// What the tools were made for: a name and a value a line.
struct Stamp<'a> {
    tools: &'a Path,
    lines: Vec<(String, String)>,
}

impl<'a> Stamp<'a> {
    fn read(tools: &'a Path) -> Self {
        let text = fs::read_to_string(tools.join("stamp")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Self {
            tools,
            lines: lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.lines.iter().find(|line| line.0 == name).map(|line| line.1.as_str())
    }

    /// Writes when it is new. A new compiler makes what follows it stale.
    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if self.get(name) == Some(value) {
            return Ok(());
        }
        self.lines.retain(|line| name != "rustc" && line.0 != name);
        self.lines.push((name.to_owned(), value.to_owned()));
        let lines = self.lines.iter().map(|(name, value)| format!("{name} {value}"));
        let text = lines.chain([String::new()]).collect::<Vec<_>>().join("\n");
        fs::write(self.tools.join("stamp"), text)
            .context("cannot write target/tools/stamp")
            .or_fail(
                "the state of the tools cannot be kept",
                "make the directory `target` writable",
            )
    }
}

fn wants_debian() -> bool {
    env::var_os(SOURCE_VARIABLE).is_some_and(|source| source == "debian")
}

/// Whether the sources that are wanted are there and known to the build script.
fn has_rust_src(toolchain: &Toolchain, tools: &Path) -> bool {
    let told = fs::read_to_string(tools.join("rust-src.path")).ok();
    let library = debian::library(&toolchain.release, &tools.join("rust-src"));
    match told {
        Some(told) => Path::new(told.trim()) == library && library.join("core/src/lib.rs").exists(),
        None => !wants_debian() && toolchain.rust_src().is_dir(),
    }
}

fn rust_src(toolchain: &Toolchain, tools: &Path) -> Result<()> {
    let what = "the sources of Rust's standard library cannot be had";
    let remedy = format!(
        "run `rustup component add rust-src`, or set {SOURCE_VARIABLE}=debian on a Debian host"
    );
    let pointer = tools.join("rust-src.path");
    let from_rustup =
        if wants_debian() { Err("not asked".to_owned()) } else { of_rustup(toolchain) };
    let Err(refused) = from_rustup else {
        if pointer.exists() {
            fs::remove_file(&pointer)
                .context("cannot remove rust-src.path")
                .or_fail(what, &remedy)?;
        }
        return Ok(());
    };
    let shown =
        progress::step(&format!("fetching the sources of Rust {} from Debian", toolchain.release));
    let fetched = debian::fetch(&toolchain.release, &tools.join("rust-src"));
    drop(shown);
    let library = fetched.map_err(|error| {
        failure(what, &format!("rustup: {refused}; Debian: {error:#}"), &remedy)
    })?;
    let told = fs::write(&pointer, format!("{}\n", library.display()));
    told.context("cannot write rust-src.path").or_fail(what, &remedy)
}

fn of_rustup(toolchain: &Toolchain) -> Result<(), String> {
    if toolchain.rust_src().is_dir() {
        return Ok(());
    }
    let shown = progress::step("adding rustup's component rust-src");
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "rust-src"]).current_dir(workspace::root());
    process::output(&mut rustup).map_err(|error| format!("{error:#}"))?;
    drop(shown);
    if toolchain.rust_src().is_dir() {
        return Ok(());
    }
    Err(format!("it put no sources into {}", toolchain.sysroot.display()))
}

fn bpf_linker(toolchain: &Toolchain, tools: &Path) -> Result<()> {
    let what = "bpf-linker cannot be built";
    let remedy = "check that the crate registry is reachable and a C compiler is installed, then run `cargo xtask setup` again";
    let _shown = progress::step(&format!("building bpf-linker {LINKER_VERSION} (a minute or so)"));
    let prefix = link_llvm(toolchain, tools)
        .or_fail(what, "use the toolchain of rust-toolchain.toml from rustup")?;
    let version = format!("={LINKER_VERSION}");
    let mut cargo =
        process::cargo(&["install", "bpf-linker", "--version", &version, "--force", "--root"]);
    cargo.arg(tools).args(["--no-default-features", "--features", "llvm-22"]);
    cargo
        .env("LLVM_PREFIX", &prefix)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", format!("-C link-arg=-Wl,-rpath,{}", toolchain.libraries().display()));
    process::logged(&mut cargo, &tools.join("bpf-linker.log")).or_fail(what, remedy)?;
    let mut linker = Command::new(tools.join("bin/bpf-linker"));
    process::output(linker.arg("--version")).or_fail("bpf-linker does not start", remedy)?;
    Ok(())
}

/// A prefix that looks like an installation of LLVM: the compiler's own library under the usual name.
fn link_llvm(toolchain: &Toolchain, tools: &Path) -> Result<PathBuf> {
    let library = toolchain.llvm()?;
    let prefix = tools.join("llvm");
    let link = prefix.join("lib/libLLVM.so");
    fs::create_dir_all(prefix.join("lib")).context("cannot create target/tools/llvm")?;
    if link.is_symlink() {
        fs::remove_file(&link).context("cannot replace the link to LLVM")?;
    }
    symlink(library, &link).context("cannot link LLVM")?;
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_compiler_makes_the_linker_stale() {
        let directory = env::temp_dir().join(format!("outlive-stamp-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let mut stamp = Stamp::read(&directory);
        stamp.set("rustc", "1").expect("written");
        stamp.set("bpf-linker", "2").expect("written");
        let mut stamp = Stamp::read(&directory);
        assert_eq!(stamp.get("bpf-linker"), Some("2"));
        stamp.set("rustc", "1").expect("unchanged");
        assert_eq!(stamp.get("bpf-linker"), Some("2"));
        stamp.set("rustc", "3").expect("written");
        assert_eq!(Stamp::read(&directory).get("bpf-linker"), None);
        fs::remove_dir_all(&directory).expect("removed");
    }
}
