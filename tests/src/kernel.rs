//! What the running kernel offers by its version: what `outlive` finds out by asking is compared with it.

use std::fs;

/// Kinds of link, the worst first, with the kernel's version that brought them.
const LINKS: [(&str, (u32, u32)); 3] =
    [("single", (5, 8)), ("multi", (6, 6)), ("session", (6, 13))];

/// Kinds of link that this kernel has, the best last.
pub fn links() -> Vec<&'static str> {
    let version = version();
    LINKS.iter().filter(|(_, since)| version >= *since).map(|(kind, _)| *kind).collect()
}

/// Kinds of link that came after this kernel.
pub fn missing_links() -> Vec<&'static str> {
    let version = version();
    LINKS.iter().filter(|(_, since)| version < *since).map(|(kind, _)| *kind).collect()
}

/// The kind that this kernel gives without being asked.
pub fn best_link() -> &'static str {
    links().pop().expect("the kernel has a kind of link")
}

fn version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => panic!("{release:?} is no version of Linux"),
    }
}
