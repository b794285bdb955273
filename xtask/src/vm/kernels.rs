//! Which kernels are tested, and getting them from Debian.
//!
//! In: names. Out: a kernel's file and its release, kept under `target/vm`; remove the directory to get newer ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::failure::failure;
use crate::{progress, workspace};

/// A kernel to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    /// The suite of Debian that has it.
    pub(crate) suite: &'static str,
}

/// The oldest that works, those of the stable releases, the newest.
pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", suite: "bullseye" },
    Kernel { name: "6.1", suite: "bookworm" },
    Kernel { name: "6.12", suite: "trixie" },
    Kernel { name: "newest", suite: "sid" },
];

/// Debian's package that depends on the newest kernel of a suite for virtual machines.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel on this host.
pub(crate) struct Fetched {
    /// Its release, such as `6.1.0-50-cloud-amd64`.
    pub(crate) release: String,
    /// Its file.
    pub(crate) vmlinuz: PathBuf,
}

/// The kernels asked for; all without a name.
pub(crate) fn choose(names: &[String]) -> Result<Vec<Kernel>> {
    if names.is_empty() {
        return Ok(KERNELS.to_vec());
    }
    let known = KERNELS.map(|kernel| kernel.name).join(" ");
    let find = |name: &String| {
        let kernel = KERNELS.iter().find(|kernel| kernel.name == name).copied();
        kernel.ok_or_else(|| {
            let remedy = format!("name some of: {known}");
            failure(&format!("there is no kernel {name}"), "it is not among the tested", &remedy)
        })
    };
    names.iter().map(find).collect()
}

/// Gets a kernel, once.
pub(crate) fn fetch(kernel: &Kernel) -> Result<Fetched> {
    let directory = workspace::virtual_machines().join(kernel.name);
    if let Some(fetched) = known(&directory) {
        return Ok(fetched);
    }
    let _shown = progress::step(&format!("fetching the kernel of Debian {}", kernel.suite));
    let unpacked = directory.join("unpacked");
    fs::create_dir_all(&unpacked)
        .with_context(|| format!("cannot create {}", unpacked.display()))?;
    let apt = Apt::new(&directory, kernel.suite)?;
    let depends = apt.depends(PACKAGE)?;
    let release = release(&depends)
        .with_context(|| format!("{PACKAGE} of {} depends on no kernel", kernel.suite))?;
    // Newer packages keep the kernel's file apart from its description.
    let apart = format!("linux-binary-{release}");
    let whole = format!("linux-image-{release}");
    let package = if apt.knows(&apart)? { apart } else { whole };
    apt.unpack(&[&package], &unpacked)?;
    let places = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    let file = places.iter().map(|place| unpacked.join(place)).find(|place| place.exists());
    let file = file.with_context(|| format!("{package} holds no kernel"))?;
    fs::copy(&file, directory.join("vmlinuz")).context("cannot copy the kernel")?;
    fs::remove_dir_all(&unpacked).context("cannot remove what was unpacked")?;
    fs::write(directory.join("release"), release).context("cannot write the release")?;
    known(&directory).context("the kernel is not where it was put")
}

fn known(directory: &Path) -> Option<Fetched> {
    // Written last.
    let release = fs::read_to_string(directory.join("release")).ok()?;
    Some(Fetched { release, vmlinuz: directory.join("vmlinuz") })
}

/// The release of the kernel that is depended on.
fn release(depends: &str) -> Option<&str> {
    let mut packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.find_map(|package| package.strip_prefix("linux-image-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_that_of_the_image() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-base-cloud-amd64\n  \
            Depends: linux-image-7.2.13+deb14-cloud-amd64\n";
        assert_eq!(release(depends), Some("7.2.13+deb14-cloud-amd64"));
        assert_eq!(release("linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn no_name_means_all() {
        assert_eq!(choose(&[]).expect("all").len(), KERNELS.len());
        assert_eq!(choose(&["6.1".to_owned()]).expect("one")[0].suite, "bookworm");
        assert!(choose(&["2.4".to_owned()]).is_err());
    }
}
