//! A root directory of its own for a program: the host's processes, devices and kernel are seen in it, the host's files are not.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::compiler::target_folder;
use crate::outlive::{Finished, finished};

/// Enters it. It is mounted on itself, so that a container can be started in it.
const ENTER: &str = "mount --bind \"$0\" \"$0\"
for place in dev proc sys; do mkdir -p \"$0/$place\"; mount --rbind \"/$place\" \"$0/$place\"; done
cd \"$0\"
exec chroot . \"$@\"";

/// A root directory; gone when dropped.
pub struct RootDirectory {
    folder: TempDir,
}

impl RootDirectory {
    /// With nothing in it but a place for temporary files.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Self { folder }
    }

    /// With packages of Debian, as `cargo xtask test` unpacked them: none of them is installed.
    pub fn with_packages(name: &str) -> Self {
        let packages = target_folder().join("tools").join(name).join("root");
        assert!(packages.exists(), "{} is not there: run `cargo xtask test`", packages.display());
        // Beside the original, so that copying need not cross file systems.
        let folder = tempfile::tempdir_in(packages.parent().unwrap()).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("--archive").arg(packages.join(".")).arg(folder.path());
        assert!(copy.status().unwrap().success(), "{copy:?}");
        // Who may enter is the root directory's business, and a temporary one is private.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// Where a file of it is for the host.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path.trim_start_matches('/'))
    }

    /// Copies a file of the host into it.
    pub fn take(&self, file: &Path, path: &str) {
        let place = self.outside(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(file, &place)
            .unwrap_or_else(|error| panic!("{} to {}: {error}", file.display(), place.display()));
    }

    /// A command that becomes a program of it, which has no variables of the host.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-e", "-c", ENTER]);
        command.arg(self.outside("/")).arg(program).args(arguments);
        command.env_clear().env("HOME", "/").env("LC_ALL", "C.UTF-8");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs a program of it, and insists that it ends well; gives what it printed.
    pub fn output<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> String {
        self.finished(program, arguments).with_status(0).stdout
    }

    /// Runs a program of it to its end.
    pub fn finished<S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Finished {
        finished(&mut self.command(program, arguments))
    }
}
