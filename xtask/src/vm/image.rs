//! The root file system of the machines: an archive in memory, so that no driver and no disk is needed.
//!
//! In: test programs, the product, workloads, a few programs of this host. Out: an initramfs. Files keep their paths,
//! since test programs know where their sources and workloads lie.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::outcome::MARK;
use super::programs::Program;
use crate::{process, progress, workspace};

/// What the tests and the first process of the machine call.
const TOOLS: [&str; 20] = [
    "sh", "mount", "umount", "unshare", "setpriv", "setsid", "sleep", "true", "cat", "cp", "env",
    "head", "ln", "mkdir", "rm", "tail", "touch", "readelf", "stty", "uname",
];

/// Where the suites' programs lie in the machine.
const SUITES: &str = "suites";

/// Makes the archive.
pub(crate) fn make(programs: &[Program]) -> Result<PathBuf> {
    let _shown = progress::step("packing the virtual machine's files");
    let directory = workspace::virtual_machines();
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).context("cannot remove the last root file system")?;
    }
    fill(&root, programs)?;
    let archive = directory.join("initramfs");
    pack(&root, &archive)?;
    Ok(archive)
}

fn fill(root: &Path, programs: &[Program]) -> Result<()> {
    for place in ["dev", "proc", "sys", "tmp", "etc", "usr/bin", SUITES] {
        fs::create_dir_all(root.join(place)).with_context(|| format!("cannot make {place}"))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))
        .context("cannot open /tmp for all")?;
    symlink("usr/bin", root.join("bin")).context("cannot make /bin")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/tmp:/bin/sh\n").context("cannot write")?;
    let mut needed = BTreeSet::new();
    for tool in TOOLS {
        let file = found(tool).with_context(|| format!("there is no {tool} in PATH"))?;
        copy(&file, &root.join("usr/bin").join(tool))?;
        needed.extend(libraries(&file)?);
    }
    for program in programs {
        let stripped = root.join(SUITES).join(program.suite);
        process::output(Command::new("strip").arg("-o").arg(&stripped).arg(&program.file))?;
        needed.extend(libraries(&program.file)?);
    }
    let target = workspace::root().join("target");
    let kept = [workspace::outlive(), workspace::root().join("tests/workloads")];
    for file in files(&target.join("workloads"))?.into_iter().chain(kept).flat_map(expand) {
        copy(&file, &below(root, &file))?;
        needed.extend(libraries(&file)?);
    }
    for library in needed {
        copy(&library, &below(root, &library))?;
    }
    let init = root.join("init");
    fs::write(&init, first_process()).context("cannot write the first process")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("cannot allow it to run")
}

/// The first process: mounts what is always there, runs the suites, and ends, which ends the machine.
fn first_process() -> String {
    format!(
        "#!/bin/sh
export PATH=/usr/bin HOME=/tmp OUTLIVE_BIN={outlive} OUTLIVE_TESTS_SLOWNESS=5
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tracefs tracefs /sys/kernel/tracing
mkdir -p /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /tmp
ln -s /proc/self/fd /dev/fd
cd {tests}
echo \"{MARK} release $(uname -r)\"
echo \"{MARK} doctor $({outlive} doctor --json)\"
for suite in {suites}; do
    echo \"{MARK} suite $suite\"
    /{SUITES}/$suite --test-threads=1 2>&1
    echo \"{MARK} ended $?\"
done
echo \"{MARK} done\"
# Waits until the console has said all: changing its settings does.
stty -F /dev/console -echo
echo b >/proc/sysrq-trigger
",
        outlive = workspace::outlive().display(),
        tests = workspace::root().join("tests").display(),
        suites = super::SUITES.join(" "),
    )
}

fn below(root: &Path, file: &Path) -> PathBuf {
    root.join(file.strip_prefix("/").unwrap_or(file))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// A file, or all files of a directory.
fn expand(path: PathBuf) -> Vec<PathBuf> {
    if path.is_dir() { files(&path).unwrap_or_default() } else { vec![path] }
}

/// All files below a directory.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry.context("cannot list a directory")?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn found(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|place| place.join(tool)).find(|file| file.is_file())
}

/// The libraries of a program, and its loader; none for what is not linked dynamically.
fn libraries(file: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(file).output().context("cannot run ldd")?;
    Ok(absolute_paths(&String::from_utf8_lossy(&output.stdout)))
}

fn absolute_paths(ldd: &str) -> Vec<PathBuf> {
    let words = ldd.lines().filter_map(|line| {
        line.split_whitespace().find(|word| word.starts_with('/') && !word.ends_with(':'))
    });
    words.map(PathBuf::from).collect()
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut find = Command::new("find")
        .arg(".")
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run find")?;
    let names = find.stdout.take().context("find has no output")?;
    let out = File::create(archive).context("cannot create the archive")?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--quiet", "-o", "-H", "newc", "-R", "0:0"]).current_dir(root);
    let packed = cpio.stdin(names).stdout(out).status().context("cannot run cpio")?;
    let listed = find.wait().context("cannot wait for find")?;
    if !packed.success() || !listed.success() {
        bail!("the archive was not written: find ended with {listed}, cpio with {packed}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_named_with_their_paths() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(absolute_paths(ldd), expected.map(PathBuf::from));
        assert!(absolute_paths("\tnot a dynamic executable\n").is_empty());
        assert!(absolute_paths("/some/file:\n\tstatically linked\n").is_empty());
    }
}
