//! The versions of what is measured.
//!
//! In: the tracers. Out: one line of text, without paths. What does not tell its version is named as such.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::program::PYTHON;
use crate::tracer::Tracers;

/// Where Debian's package tells its version, beside the script that runs memleak.
const CHANGELOG: &str = "root/usr/share/doc/libbpf-tools/changelog.Debian.gz";

/// Tracers, compiler and allocator.
pub(crate) fn describe(tracers: &Tracers) -> String {
    let outlive = first_line(&tracers.outlive, &["--version"]);
    let memleak = tracers.memleak.as_deref().map_or("no memleak".to_owned(), memleak);
    let compiler = first_line("g++", &["-dumpfullversion"]);
    let launchers = ["heaptrack", "valgrind"].map(|name| launcher(tracers, name));
    let python = first_line(PYTHON, &["--version"]);
    let libc = first_line("getconf", &["GNU_LIBC_VERSION"]);
    [
        outlive.unwrap_or("outlive of unknown version".to_owned()),
        memleak,
        launchers.join(", "),
        format!("g++ {}", compiler.as_deref().unwrap_or("of unknown version")),
        python.unwrap_or("Python of unknown version".to_owned()),
        libc.unwrap_or("C library of unknown version".to_owned()),
    ]
    .join(", ")
}

fn memleak(program: &Path) -> String {
    let changelog = program.parent().map(|directory| directory.join(CHANGELOG));
    let newest = changelog.and_then(|file| first_line("zcat", &[file.as_os_str()]));
    match newest.as_deref().and_then(package_version) {
        Some(version) => format!("memleak of libbpf-tools {version}"),
        None => first_line(program, &["--version"]).unwrap_or("memleak of unknown version".into()),
    }
}

fn launcher(tracers: &Tracers, name: &str) -> String {
    let changelogs = tracers.launchers.as_ref().map(|root| root.join("usr/share/doc"));
    // The library of heaptrack is a package of its own.
    let newest = changelogs.and_then(|documents| {
        [name.to_owned(), format!("lib{name}")].into_iter().find_map(|package| {
            let file = documents.join(package).join("changelog.Debian.gz");
            first_line("zcat", &[file.as_os_str()])
        })
    });
    match newest.as_deref().and_then(package_version) {
        Some(version) => format!("{name} {version}"),
        None => format!("{name} of unknown version"),
    }
}

/// `bpfcc (0.31.0+ds-7) unstable; urgency=medium`: what is in parentheses.
fn package_version(entry: &str) -> Option<&str> {
    let (_, rest) = entry.split_once('(')?;
    rest.split_once(')').map(|(version, _)| version)
}

fn first_line(program: impl AsRef<OsStr>, words: &[impl AsRef<OsStr>]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_package_is_in_its_changelog() {
        let entry = "bpfcc (0.31.0+ds-7) unstable; urgency=medium";
        assert_eq!(package_version(entry), Some("0.31.0+ds-7"));
        assert_eq!(package_version("nothing"), None);
    }

    #[test]
    fn what_cannot_be_asked_has_no_version() {
        assert_eq!(first_line("false", &["--version"]), None);
        assert_eq!(first_line("echo", &["tool 1.2"]).as_deref(), Some("tool 1.2"));
    }
}
