//! Builds the programs of `tests/workloads/go`, cached by content, release and flags under `target/go-workloads`.

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

/// Builds a program, named by its folder.
pub fn build(name: &str, toolchain: &Toolchain, build: Build, profiler: Profiler) -> PathBuf {
    let folder = sources().join("go");
    let key = key(&folder, &(name, toolchain, build, profiler));
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
