//! Debian's packages that suites need: unpacked below `target/tools`, and not installed.

use std::fs;

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::{progress, workspace};

/// The release whose libraries run on every host that tests run on.
const RELEASE: &str = "bookworm";
/// The release after it.
const NEXT_RELEASE: &str = "trixie";

/// Packages of one release of Debian, below one root directory.
struct Packages {
    /// The suite that needs them.
    suite: &'static str,
    /// Where they are, below `target/tools`.
    folder: &'static str,
    release: &'static str,
    names: &'static [&'static str],
    /// Whether what they depend on is wanted, too: to run programs with the root directory as theirs.
    with_dependencies: bool,
}

/// A system that packages can be installed in: what is essential to Debian, as far as that takes it; what reads completions and manual
/// pages; and a module that the C library loads to look up names of hosts.
const CLEAN_SYSTEM: [&str; 17] = [
    "base-files",
    "base-passwd",
    "bash",
    "bash-completion",
    "coreutils",
    "dash",
    "diffutils",
    "dpkg",
    "findutils",
    "fish",
    "grep",
    "libc-bin",
    "libnss-myhostname",
    "man-db",
    "sed",
    "tar",
    "zsh",
];

/// Servers written in Go, with what their root directory takes for them to run in it.
const SERVERS: [&str; 9] = [
    "base-files",
    "libc6",
    "libzstd1",
    "prometheus",
    "etcd-server",
    "caddy",
    "nats-server",
    "syncthing",
    "restic",
];

/// What each suite needs.
const NEEDS: [Packages; 8] = [
    Packages {
        suite: "allocators",
        folder: "allocators",
        release: RELEASE,
        names: &[
            "libjemalloc2",
            "libtcmalloc-minimal4",
            "libmimalloc2.0",
            "musl",
            "musl-dev",
            "libunwind8",
        ],
        with_dependencies: false,
    },
    Packages {
        suite: "dist",
        folder: "dist/system",
        release: NEXT_RELEASE,
        names: &CLEAN_SYSTEM,
        with_dependencies: true,
    },
    Packages {
        suite: "task_pages",
        folder: "dist/system",
        release: NEXT_RELEASE,
        names: &CLEAN_SYSTEM,
        with_dependencies: true,
    },
    Packages {
        suite: "dist",
        folder: "dist/containers",
        release: NEXT_RELEASE,
        names: &["base-files", "bash", "coreutils", "runc", "skopeo", "umoci"],
        with_dependencies: true,
    },
    Packages {
        suite: "golang_programs",
        folder: "golang_programs/bookworm",
        release: RELEASE,
        names: &SERVERS,
        with_dependencies: false,
    },
    Packages {
        suite: "golang_programs",
        folder: "golang_programs/trixie",
        release: NEXT_RELEASE,
        names: &SERVERS,
        with_dependencies: false,
    },
    Packages {
        suite: "usdt",
        folder: "usdt",
        release: RELEASE,
        names: &["systemtap-sdt-dev"],
        with_dependencies: false,
    },
    Packages {
        suite: "formats",
        folder: "formats",
        release: RELEASE,
        names: &["valgrind"],
        with_dependencies: false,
    },
];

/// Fetches what a suite needs, the first time.
pub(crate) fn fetch(suite: &str) -> Result<()> {
    NEEDS.iter().filter(|packages| packages.suite == suite).try_for_each(Packages::fetch)
}

impl Packages {
    fn fetch(&self) -> Result<()> {
        let directory = workspace::tools().join(self.folder);
        let complete = directory.join("complete");
        let wanted = self.names.join("\n");
        if fs::read_to_string(&complete).is_ok_and(|unpacked| unpacked == wanted) {
            return Ok(());
        }
        let Self { suite, release, .. } = self;
        let _shown =
            progress::step(&format!("fetching what the suite {suite} needs from Debian {release}"));
        let root = directory.join("root");
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let apt = Apt::new(&directory, release)?;
        if self.with_dependencies {
            apt.unpack_with_dependencies(self.names, &root)?;
        } else {
            apt.unpack(self.names, &root)?;
        }
        fs::write(&complete, wanted).with_context(|| format!("cannot write {}", complete.display()))
    }
}
