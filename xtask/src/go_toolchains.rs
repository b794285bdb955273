//! Releases of Go: each as the Go module proxy serves it, under `target/tools/go`, ready to build with.
//!
//! In: the host's `go` command of any release, and the module proxy that it is configured for. Out: one `GOROOT` for
//! each release. Releases before 1.21 refuse to work inside a module cache, so each is moved out of it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::failure::{OrFail as _, failure};
use crate::{process, progress, workspace};

/// Every supported release, oldest first.
pub(crate) const RELEASES: [Release; 9] = [
    Release { first: Toolchain("1.19"), last: Toolchain("1.19.13") },
    Release { first: Toolchain("1.20"), last: Toolchain("1.20.14") },
    Release { first: Toolchain("1.21.0"), last: Toolchain("1.21.13") },
    Release { first: Toolchain("1.22.0"), last: Toolchain("1.22.12") },
    Release { first: Toolchain("1.23.0"), last: Toolchain("1.23.12") },
    Release { first: Toolchain("1.24.0"), last: Toolchain("1.24.13") },
    Release { first: Toolchain("1.25.0"), last: Toolchain("1.25.14") },
    Release { first: Toolchain("1.26.0"), last: Toolchain("1.26.11") },
    Release { first: Toolchain("1.27.0"), last: Toolchain("1.27.4") },
];

/// What tests use when not asked for all: the oldest release, the newest, the last whose runtime keeps 32 frames of a
/// stack, and the first with Swiss maps.
const FEW: [Toolchain; 4] =
    [Toolchain("1.19.13"), Toolchain("1.22.12"), Toolchain("1.24.13"), Toolchain("1.27.4")];

const MODULE: &str = "golang.org/toolchain";

/// A release of Go, which its patches mend without much change.
#[derive(Clone, Copy)]
pub(crate) struct Release {
    /// As it was released.
    pub(crate) first: Toolchain,
    /// With all patches.
    pub(crate) last: Toolchain,
}

/// A toolchain, by its version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Toolchain(&'static str);

impl Toolchain {
    /// Such as `go1.22.12`.
    fn version(self) -> String {
        format!("go{}", self.0)
    }

    /// Where it is, fetched or not.
    pub(crate) fn root(self) -> PathBuf {
        folder().join(self.version())
    }

    /// Its `go` command, which asks no network and reads no settings of the user.
    pub(crate) fn go(self) -> Command {
        let mut go = Command::new(self.root().join("bin/go"));
        go.envs(self.environment());
        go
    }

    /// What its `go` command is to be run with.
    pub(crate) fn environment(self) -> [(&'static str, OsString); 6] {
        [
            ("GOROOT", self.root().into()),
            ("GOCACHE", folder().join("cache").into()),
            ("GOENV", "off".into()),
            ("GOFLAGS", "".into()),
            ("GOPROXY", "off".into()),
            ("GOTOOLCHAIN", "local".into()),
        ]
    }

    /// Fetches it the first time.
    pub(crate) fn fetch(self) -> Result<()> {
        if self.root().exists() {
            return Ok(());
        }
        let version = self.version();
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
        let module = format!("{MODULE}@v0.0.1-{}.linux-amd64", self.version());
        let mut go = Command::new("go");
        go.args(["mod", "download", "-json", &module]).current_dir(&cache);
        // The cache has to be writable: what is in it is moved away.
        go.envs([("GOFLAGS", "-modcacherw"), ("GO111MODULE", "on")]).env("GOMODCACHE", &cache);
        let told = process::output(&mut go)?;
        let module: Module = serde_json::from_str(&told).context("cannot read what go says")?;
        finish(&module.dir)?;
        let root = self.root();
        fs::rename(&module.dir, &root)
            .with_context(|| format!("cannot make {}", root.display()))?;
        fs::remove_dir_all(&cache).with_context(|| format!("cannot remove {}", cache.display()))
    }
}

/// The newest release.
pub(crate) fn newest() -> Toolchain {
    RELEASES[RELEASES.len() - 1].last
}

/// Fetches what tests use, and gives the names for the variable that tells the tests.
pub(crate) fn fetch_for_tests(all: bool) -> Result<String> {
    let chosen = for_tests(all);
    chosen.iter().try_for_each(|toolchain| toolchain.fetch())?;
    Ok(chosen.iter().map(|toolchain| toolchain.version()).collect::<Vec<_>>().join(","))
}

fn for_tests(all: bool) -> Vec<Toolchain> {
    if all { RELEASES.map(|release| release.last).to_vec() } else { FEW.to_vec() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_releases_are_some_of_all() {
        assert!(FEW.iter().all(|toolchain| for_tests(true).contains(toolchain)));
    }
}
