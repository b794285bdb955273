//! Programs whose debug information is in another file, as distributions ship them.
//!
//! In: a program with debug information. Out: a stripped copy in a folder of its own, and its debug file, put where a test wants it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::compiler::{build_id, target_folder};

/// A stripped program, and beside it nothing.
pub struct Split {
    folder: TempDir,
    whole: PathBuf,
    /// The stripped program.
    pub program: PathBuf,
}

impl Split {
    /// Strips a copy of a program.
    pub fn new(whole: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(whole.file_name().unwrap());
        binutil("objcopy", &["--strip-all"], &[whole, &program]);
        Self { folder, whole: whole.to_owned(), program }
    }

    /// The folder of the program.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the debug file.
    pub fn write_debug_file(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        binutil("objcopy", &["--only-keep-debug"], &[&self.whole, path]);
    }

    /// Makes the program name a debug file, with its checksum.
    pub fn link(&self, debug_file: &Path) {
        let option = format!("--add-gnu-debuglink={}", debug_file.display());
        binutil("objcopy", &[&option], &[&self.program]);
    }

    /// Gives the program a compressed symbol table of what `strip` removed, the way Fedora's packages are made.
    pub fn add_mini_debug_info(&self) {
        let [debug, mini, list] = ["whole.debug", "mini", "keep"].map(|n| self.folder().join(n));
        self.write_debug_file(&debug);
        let dynamic = functions(&self.whole, &["--dynamic"]);
        let hidden: Vec<String> =
            functions(&self.whole, &[]).difference(&dynamic).cloned().collect();
        assert!(!hidden.is_empty(), "nothing to hide");
        fs::write(&list, hidden.join("\n") + "\n").unwrap();
        let keep = format!("--keep-symbols={}", list.display());
        binutil("objcopy", &["-S", "--remove-section=.comment", &keep], &[&debug, &mini]);
        run(Command::new(tool("xz")).arg(&mini));
        let add = format!("--add-section=.gnu_debugdata={}", mini.with_extension("xz").display());
        binutil("objcopy", &[&add], &[&self.program]);
        fs::remove_file(debug).unwrap();
    }

    /// Where a debug file with the program's build id lies, from a directory of debug files.
    pub fn by_build_id(&self) -> PathBuf {
        let id = build_id(&self.program);
        Path::new(".build-id").join(&id[..2]).join(format!("{}.debug", &id[2..]))
    }
}

/// Moves what two debug files share into a third one, named by this path, as Debian's packages are made.
pub fn share(debug_files: [&Path; 2], shared: &Path) {
    let mut dwz = Command::new(tool("dwz"));
    dwz.arg("-m").arg(shared).arg("-M").arg(shared).args(debug_files);
    run(&mut dwz);
    let output = Command::new("readelf").arg("-SW").arg(debug_files[0]).output().unwrap();
    let sections = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(sections.contains(".gnu_debugaltlink"), "dwz has moved nothing:\n{sections}");
}

/// A program that `cargo xtask test symbols` has fetched.
pub fn tool(name: &str) -> PathBuf {
    let path = target_folder().join("tools/debug/bin").join(name);
    assert!(path.exists(), "there is no {}: run `cargo xtask test symbols`", path.display());
    path.canonicalize().unwrap()
}

/// The names of the functions that a program defines.
fn functions(program: &Path, further: &[&str]) -> BTreeSet<String> {
    let mut nm = Command::new("nm");
    let output = nm.args(["--format=posix", "--defined-only"]).args(further).arg(program).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let functions = words.filter(|words| matches!(words[1], "T" | "t" | "W" | "w"));
    functions.map(|words| words[0].to_owned()).collect()
}

fn binutil(name: &str, options: &[&str], files: &[&Path]) {
    run(Command::new(name).args(options).args(files));
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{errors}");
}
