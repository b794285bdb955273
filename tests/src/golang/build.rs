//! Builds the programs of `tests/workloads/go`, cached by content, release and flags under `target/go-workloads`.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::toolchains::Toolchain;
use crate::compiler::{sources, target_folder};

/// How a Go program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Build {
    /// As `go build` does it, without C.
    Plain,
    /// Without symbols, debug information and paths.
    Stripped,
    /// Position-independent.
    Pie,
    /// Position-independent, without symbols.
    PieStripped,
    /// With C, and its libraries.
    Cgo,
    /// With C, by the system's linker.
    External,
    /// With C, position-independent, by the system's linker, without symbols: sections of Go's own are merged away.
    ExternalPieStripped,
}

impl Build {
    /// All ways.
    pub const ALL: [Self; 7] = [
        Self::Plain,
        Self::Stripped,
        Self::Pie,
        Self::PieStripped,
        Self::Cgo,
        Self::External,
        Self::ExternalPieStripped,
    ];

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::Cgo => &[],
            Self::Stripped => &["-trimpath", "-ldflags=-s -w"],
            Self::Pie => &["-buildmode=pie"],
            Self::PieStripped => &["-buildmode=pie", "-ldflags=-s -w"],
            Self::External => &["-ldflags=-linkmode=external"],
            Self::ExternalPieStripped => &["-buildmode=pie", "-ldflags=-linkmode=external -s -w"],
        }
    }

    fn has_c(self) -> bool {
        matches!(self, Self::Cgo | Self::External | Self::ExternalPieStripped)
    }
}

/// Whether a program has the memory profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profiler {
    /// It serves its profiles, so the linker leaves the profiler on.
    Served,
    /// Nothing in it mentions profiles, so the linker turns the profiler off.
    Off,
}

/// A text of the runtime that is put in the place of another.
#[derive(Clone, Copy, Debug, Hash)]
pub struct RuntimeChange {
    /// In `src/runtime`.
    pub file: &'static str,
    /// What stands there once.
    pub from: &'static str,
    /// What stands there in the program's runtime.
    pub to: &'static str,
}

/// Builds a program, named by its folder.
pub fn build(name: &str, toolchain: &Toolchain, build: Build, profiler: Profiler) -> PathBuf {
    build_with(name, toolchain, build, profiler, &[])
}

/// Builds a program with the profiler and a runtime of its own.
pub fn build_changed(
    name: &str,
    toolchain: &Toolchain,
    build: Build,
    changes: &[RuntimeChange],
) -> PathBuf {
    assert!(!changes.is_empty(), "nothing is changed");
    build_with(name, toolchain, build, Profiler::Served, changes)
}

fn build_with(
    name: &str,
    toolchain: &Toolchain,
    build: Build,
    profiler: Profiler,
    changes: &[RuntimeChange],
) -> PathBuf {
    let folder = sources().join("go");
    let key = key(&folder, &(name, toolchain, build, profiler, changes));
    let cache = target_folder().join("go-workloads").join(format!("{key:016x}"));
    let program = cache.join(name);
    if program.exists() {
        return program.canonicalize().unwrap();
    }
    fs::create_dir_all(&cache).unwrap();
    // As in `compiler::build_with`: tests that run side by side do not see each other's unfinished work.
    let workshop = tempfile::tempdir_in(&cache).unwrap();
    let unfinished = workshop.path().canonicalize().unwrap().join(name);
    let mut go = toolchain.go();
    go.current_dir(folder).arg("build").arg("-buildvcs=false").args(build.flags());
    if !changes.is_empty() {
        go.arg("-overlay").arg(overlay(workshop.path(), toolchain, changes));
    }
    if profiler == Profiler::Served {
        go.arg("-tags=pprof");
    }
    go.env("CGO_ENABLED", if build.has_c() { "1" } else { "0" });
    go.arg("-o").arg(&unfinished).arg(format!("./{name}"));
    let output = go.output().unwrap_or_else(|error| panic!("{go:?} cannot run: {error}"));
    assert!(output.status.success(), "{go:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&unfinished, &program).unwrap();
    program.canonicalize().unwrap()
}

/// Writes the changed files, and the list of them that `go build -overlay` takes.
fn overlay(workshop: &Path, toolchain: &Toolchain, changes: &[RuntimeChange]) -> PathBuf {
    let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
    for RuntimeChange { file, from, to } in changes {
        let path = toolchain.root().join("src/runtime").join(file);
        let text = texts.entry(path).or_insert_with_key(|path| fs::read_to_string(path).unwrap());
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {file} of {}", toolchain.version);
        *text = text.replace(from, to);
    }
    let replace: BTreeMap<&PathBuf, PathBuf> = (0..)
        .zip(&texts)
        .map(|(number, (path, text))| {
            let copy = workshop.join(format!("{number}.go"));
            fs::write(&copy, text).unwrap();
            (path, copy)
        })
        .collect();
    let list = workshop.join("overlay.json");
    fs::write(&list, serde_json::json!({ "Replace": replace }).to_string()).unwrap();
    list
}

/// Names a build by the sources of all programs, since they share packages, and by how it is built.
fn key(folder: &Path, how: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    how.hash(&mut hasher);
    let mut files = Vec::new();
    collect(folder, &mut files);
    files.sort();
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file).unwrap().hash(&mut hasher);
    }
    hasher.finish()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}
