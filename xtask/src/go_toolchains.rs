//! Releases of Go: each as the Go module proxy serves it, under `target/tools/go/MINOR`, ready to build with.
//!
//! In: the host's `go` command of any release, and the module proxy that it is configured for. Out: one `GOROOT` for
//! each release. Releases before 1.21 refuse to work inside a module cache, so each is moved out of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::failure::{OrFail as _, failure};
use crate::{process, progress, workspace};

/// Every supported minor release at its last patch, oldest first.
pub(crate) const RELEASES: [Release; 9] = [
    Release { minor: "1.19", patch: 13 },
    Release { minor: "1.20", patch: 14 },
    Release { minor: "1.21", patch: 13 },
    Release { minor: "1.22", patch: 12 },
    Release { minor: "1.23", patch: 12 },
    Release { minor: "1.24", patch: 13 },
    Release { minor: "1.25", patch: 14 },
    Release { minor: "1.26", patch: 11 },
    Release { minor: "1.27", patch: 4 },
];

/// The releases that tests use when not asked for all: the oldest, the newest, the last whose runtime keeps 32 frames
/// of a stack, and the first with Swiss maps.
pub(crate) const FEW: [&str; 4] = ["1.19", "1.22", "1.24", "1.27"];

const NAME: &str = "golang.org/toolchain";

/// A release of Go.
#[derive(Clone, Copy)]
pub(crate) struct Release {
    /// Such as `1.22`.
    pub(crate) minor: &'static str,
    patch: u32,
}

impl Release {
    /// Such as `go1.22.12`.
    fn version(self) -> String {
        format!("go{}.{}", self.minor, self.patch)
    }

    /// Where it is, fetched or not.
    pub(crate) fn root(self) -> PathBuf {
        folder().join(self.minor)
    }

    /// Its `go` command, which neither asks a network nor heeds the user's settings.
    pub(crate) fn go(self) -> Command {
        let mut go = Command::new(self.root().join("bin/go"));
        go.env("GOROOT", self.root()).env("GOCACHE", folder().join("cache"));
        go.envs([("GOENV", "off"), ("GOFLAGS", ""), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
        go
    }

    /// Fetches it the first time.
    pub(crate) fn fetch(self) -> Result<()> {
        let version = self.version();
        if version_of(&self.root()).as_deref() == Some(version.as_str()) {
            return Ok(());
        }
        if !process::found("go") {
            let remedy = "install any release: `apt-get install golang-go` (Debian, Ubuntu) or `dnf install golang` (Fedora)";
            let what = format!("{version} cannot be fetched");
            return Err(failure(&what, "there is no `go` in PATH", remedy));
        }
        let _shown = progress::step(&format!("fetching {version} from the Go module proxy"));
        self.fetch_by_go().or_fail(
            &format!("{version} cannot be fetched"),
            "check that `go env GOPROXY` names a proxy that is reachable",
        )
    }

    fn fetch_by_go(self) -> Result<()> {
        let cache = folder().join("download");
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let module = format!("{NAME}@v0.0.1-{}.linux-amd64", self.version());
        let mut go = Command::new("go");
        go.args(["mod", "download", "-json", &module]).current_dir(&cache);
        // The cache has to be writable: what is in it is moved away.
        go.envs([("GOFLAGS", "-modcacherw"), ("GO111MODULE", "on")]).env("GOMODCACHE", &cache);
        let told = process::output(&mut go)?;
        let module: Module = serde_json::from_str(&told).context("cannot read what go says")?;
        finish(&module.dir)?;
        let told = version_of(&module.dir);
        ensure!(told.as_deref() == Some(self.version().as_str()), "the proxy serves {told:?}");
        let root = self.root();
        if root.exists() {
            fs::remove_dir_all(&root)
                .with_context(|| format!("cannot replace {}", root.display()))?;
        }
        fs::rename(&module.dir, &root)
            .with_context(|| format!("cannot make {}", root.display()))?;
        fs::remove_dir_all(&cache).with_context(|| format!("cannot remove {}", cache.display()))
    }
}

/// Fetches every release, or few.
pub(crate) fn fetch(all: bool) -> Result<()> {
    chosen(all).try_for_each(Release::fetch)
}

/// The minor releases that tests use, for the variable that tells the tests.
pub(crate) fn names(all: bool) -> String {
    chosen(all).map(|release| release.minor).collect::<Vec<_>>().join(",")
}

fn chosen(all: bool) -> impl Iterator<Item = Release> {
    RELEASES.into_iter().filter(move |release| all || FEW.contains(&release.minor))
}

fn folder() -> PathBuf {
    workspace::tools().join("go")
}

/// What `go mod download -json` says of a module.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Module {
    dir: PathBuf,
}

/// Makes of a module's files a toolchain: modules have no executable files, and none of other modules.
fn finish(root: &Path) -> Result<()> {
    for modules in ["src", "src/cmd"] {
        let (from, to) = (root.join(modules).join("_go.mod"), root.join(modules).join("go.mod"));
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    for programs in ["bin", "pkg/tool/linux_amd64"] {
        let programs = root.join(programs);
        let entries = fs::read_dir(&programs)
            .with_context(|| format!("cannot list {}", programs.display()))?;
        for program in entries.flatten() {
            let path = program.path();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("cannot make {} executable", path.display()))?;
        }
    }
    Ok(())
}

/// What a toolchain says it is.
fn version_of(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("VERSION")).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_releases_are_some_of_all() {
        assert_eq!(names(false), FEW.join(","));
        assert_eq!(names(true).split(',').count(), RELEASES.len());
    }
}
