//! Telling glibc and its version from a file's contents: dynamic or linked into a program, it carries its banner.

/// `GNU C Library (...) stable release version 2.36.` (version.c of every release since 2.0).
const BANNER: &[u8] = b"GNU C Library ";
const RELEASE: &[u8] = b"release version ";
/// Longest stretch from the banner's start to the version's end.
const BANNER_BYTES: usize = 200;

/// A message of glibc's malloc.c that no other allocator has (since 2.3). A static program has it and not the banner.
const MALLOC_MESSAGE: &[u8] = b"malloc_consolidate(): ";

/// `glibc 2.36`, or `glibc` where the version does not show; `None` if a file's bytes are not glibc's.
pub fn name(contents: &[u8]) -> Option<String> {
    match version(contents) {
        Some(version) => Some(format!("glibc {version}")),
        None => find(contents, MALLOC_MESSAGE).map(|_| "glibc".to_owned()),
    }
}

/// The version in a file's bytes, such as `2.36`.
fn version(contents: &[u8]) -> Option<String> {
    let start = find(contents, BANNER)?;
    let banner = contents.get(start..contents.len().min(start + BANNER_BYTES))?;
    let at = find(banner, RELEASE)? + RELEASE.len();
    let version: String = banner
        .get(at..)?
        .iter()
        .map(|byte| char::from(*byte))
        .take_while(|character| character.is_ascii_digit() || *character == '.')
        .collect();
    let version = version.trim_end_matches('.');
    (!version.is_empty()).then(|| version.to_owned())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_gives_the_version() {
        let file = b"\x7fELF...GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\nCopyright";
        assert_eq!(version(file).as_deref(), Some("2.36"));
        assert_eq!(version(b"musl libc"), None);
        assert_eq!(version(b"GNU C Library cut"), None);
        assert_eq!(name(file).as_deref(), Some("glibc 2.36"));
    }

    #[test]
    fn a_static_program_is_known_by_its_messages() {
        assert_eq!(name(b"..malloc_consolidate(): invalid chunk size..").as_deref(), Some("glibc"));
        assert_eq!(name(b"malloc"), None);
    }
}
