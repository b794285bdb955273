//! Builds the programs of `tests/workloads`, cached by content and flags under `target/workloads`.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Flags for every C and C++ workload: stacks by frame pointers, and every call of an allocator really made.
const COMMON: [&str; 7] = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pthread",
    "-fno-builtin",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
];

/// How a workload is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Build {
    /// With debug information, not optimised.
    Debug,
    /// With debug information, optimised: functions are inlined.
    Optimised,
    /// With debug information, optimised, without frame pointers: as distributions build.
    NoFramePointers,
    /// The same, statically linked.
    NoFramePointersStatic,
    /// Without symbols.
    Stripped,
    /// With debug information, statically linked.
    Static,
    /// Statically linked, without symbols: nothing says where the allocator is.
    StaticStripped,
    /// Without any library.
    Bare,
    /// Without any library, 32 bits wide.
    Bare32,
    /// A shared library.
    Library,
    /// A shared library as distributions build it: optimised, without frame pointers.
    LibraryNoFramePointers,
}

impl Build {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Debug => &["-g", "-O0"],
            Self::Optimised => &["-g", "-O2"],
            Self::NoFramePointers => &["-g", "-O2", "-fomit-frame-pointer"],
            Self::NoFramePointersStatic => &["-g", "-O2", "-fomit-frame-pointer", "-static"],
            Self::Stripped => &["-O1", "-s"],
            Self::Static => &["-g", "-O0", "-static"],
            Self::StaticStripped => &["-O1", "-static", "-s"],
            Self::Bare => &["-nostdlib", "-static", "-no-pie"],
            Self::Bare32 => &["-m32", "-nostdlib", "-static", "-no-pie"],
            Self::Library => &["-g", "-O0", "-shared", "-fPIC"],
            Self::LibraryNoFramePointers => {
                &["-g", "-O2", "-fomit-frame-pointer", "-shared", "-fPIC"]
            }
        }
    }
}

/// The folder of the workloads' sources.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads")
}

/// The workspace's `target` folder.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
}

/// Builds a workload, named by its path in the folder of sources.
pub fn build(source: &str, build: Build) -> PathBuf {
    build_with(source, build, &[])
}

/// Builds a workload with further arguments for the compiler.
pub fn build_with(source: &str, build: Build, further: &[&str]) -> PathBuf {
    let source_path = sources().join(source);
    let mut command = match source_path.extension().and_then(|e| e.to_str()) {
        Some("c") => c_compiler("gcc", "-std=gnu11", build),
        Some("cpp") => c_compiler("g++", "-std=gnu++17", build),
        Some("rs") => rust_compiler(build),
        _ => panic!("{source}: no compiler for this kind of source"),
    };
    command.arg(&source_path).args(further);

    let stem = source_path.file_stem().unwrap().to_str().unwrap();
    let is_library = matches!(build, Build::Library | Build::LibraryNoFramePointers);
    let name = if is_library { format!("lib{stem}.so") } else { stem.to_owned() };
    let folder =
        target_folder().join("workloads").join(format!("{:016x}", key(&source_path, &command)));
    let program = folder.join(&name);
    if program.exists() {
        return program.canonicalize().unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    // Tests run side by side: each builds in a folder of its own, and the last rename wins with the same content.
    let workshop = tempfile::tempdir_in(&folder).unwrap();
    let unfinished = workshop.path().join(&name);
    let output = command.arg("-o").arg(&unfinished).output().unwrap_or_else(|error| {
        panic!("{command:?} cannot run: {error}; the end-to-end tests need gcc, g++ and rustc")
    });
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&unfinished, &program).unwrap();
    program.canonicalize().unwrap()
}

fn c_compiler(name: &str, standard: &str, build: Build) -> Command {
    let mut command = Command::new(name);
    command.arg(standard).args(COMMON).args(build.flags());
    command
}

fn rust_compiler(build: Build) -> Command {
    let optimisation = match build {
        Build::Debug => "opt-level=0",
        Build::Optimised => "opt-level=2",
        other => panic!("Rust workloads are not built as {other:?}"),
    };
    let mut command = Command::new("rustc");
    command
        .args(["--edition", "2024", "-g", "-C", "force-frame-pointers=yes", "-C", optimisation])
        .args(["--cap-lints", "warn"]);
    command
}

/// Names a build by the source, what sources share, and the whole command.
fn key(source: &Path, command: &Command) -> u64 {
    let mut hasher = DefaultHasher::new();
    fs::read(source)
        .unwrap_or_else(|error| panic!("{}: {error}", source.display()))
        .hash(&mut hasher);
    for shared in ["c/protocol.h", "rust/protocol.rs"] {
        fs::read(sources().join(shared)).unwrap().hash(&mut hasher);
    }
    format!("{command:?}").hash(&mut hasher);
    hasher.finish()
}

/// The line of a source that carries the remark `SITE name`.
pub fn line_of(source: &str, site: &str) -> u64 {
    let text = fs::read_to_string(sources().join(source)).unwrap();
    let remark = format!("SITE {site}");
    let is_it = |line: &str| {
        line.split_once(&remark)
            .is_some_and(|(_, rest)| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let lines: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| is_it(line))
        .map(|(index, _)| index + 1)
        .collect();
    assert_eq!(lines.len(), 1, "{source} has the remark {remark:?} on lines {lines:?}");
    lines[0] as u64
}

/// The GNU build id of a program, as `readelf` reads it.
pub fn build_id(program: &Path) -> String {
    let output = Command::new("readelf").arg("-n").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Build ID: "))
        .unwrap_or_else(|| panic!("{} has no build id:\n{text}", program.display()))
        .to_owned()
}
