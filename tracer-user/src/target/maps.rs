//! The executable mappings of a process: `/proc/PID/maps`, parsed.
//!
//! In: the text of the file. Out: [`Mapping`]s in the order given, which is by address. A target chooses the names of its files, so
//! no line is trusted: what cannot be understood is left out.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::sys::stat::makedev;

use super::{FileOffset, VirtAddr};

/// What follows the path of a file that has been deleted.
const DELETED: &[u8] = b" (deleted)";

/// One executable mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: VirtAddr,
    /// First address after it; above `start`.
    pub end: VirtAddr,
    /// Position in the file that `start` shows; 0 for what is no file.
    pub file_offset: FileOffset,
    /// Device of the file, as `stat` numbers devices; 0 for what is no file.
    pub device: u64,
    /// Inode of the file; 0 for what is no file.
    pub inode: u64,
    /// Path as the target sees it, without ` (deleted)`; `[vdso]` and the like, or empty, for what is no file.
    pub path: PathBuf,
    /// The path leads to the file no more.
    pub deleted: bool,
}

impl Mapping {
    /// Whether a file is mapped here.
    pub fn is_file(&self) -> bool {
        self.inode != 0
    }

    /// Bytes mapped.
    pub fn size(&self) -> u64 {
        self.end.0 - self.start.0
    }
}

/// The executable mappings in the text of a `/proc/PID/maps`.
pub fn parse_executable(text: &[u8]) -> Vec<Mapping> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `start-end perms offset major:minor inode   path`; `None` when it is not executable or not understood.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    // The path may hold spaces, so only the five fields before it are split off.
    let (range, rest) = field(line)?;
    let (permissions, rest) = field(rest)?;
    if permissions.get(2) != Some(&b'x') {
        return None;
    }
    let (offset, rest) = field(rest)?;
    let (device, rest) = field(rest)?;
    let (inode, rest) = field(rest).unwrap_or((rest, b""));
    let (start, end) = pair(range, '-')?;
    let (major, minor) = pair(device, ':')?;
    if start >= end {
        return None;
    }
    let path = rest.trim_ascii_start();
    let inode = text(inode)?.parse().ok()?;
    let deleted = inode != 0 && path.ends_with(DELETED);
    let path = if deleted { &path[..path.len() - DELETED.len()] } else { path };
    Some(Mapping {
        start: VirtAddr(start),
        end: VirtAddr(end),
        file_offset: FileOffset(hexadecimal(offset)?),
        device: makedev(major, minor),
        inode,
        path: PathBuf::from(OsString::from_vec(unescape(path))),
        deleted,
    })
}

/// The first word, and what follows the space after it.
pub(super) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    (end > 0).then(|| (&line[..end], &line[end + 1..]))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn hexadecimal(bytes: &[u8]) -> Option<u64> {
    u64::from_str_radix(text(bytes)?, 16).ok()
}

pub(super) fn pair(bytes: &[u8], separator: char) -> Option<(u64, u64)> {
    let (first, second) = text(bytes)?.split_once(separator)?;
    Some((hexadecimal(first.as_bytes())?, hexadecimal(second.as_bytes())?))
}

/// The kernel writes a line feed in a path as `\012`, and escapes nothing else.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            out.push(b'\n');
            rest = tail;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
55d0c0a00000-55d0c0a02000 r--p 00000000 fe:00 247026                     /usr/bin/cat
55d0c0a02000-55d0c0a07000 r-xp 00002000 fe:00 247026                     /usr/bin/cat
0041f000-006d2000 r-xp 0001f000 103:02 9                                 /opt/my app/python (deleted)
7ffd7a000000-7ffd7a021000 rw-p 00000000 00:00 0                          [stack]
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 
7ffd7a1f1000-7ffd7a1f3000 r-xp 00000000 00:00 0                          [vdso]
7f0000005000-7f0000006000 r-xs 00001000 00:01 77                         /memfd:a\\012b (deleted)
";

    #[test]
    fn keeps_executable_mappings_with_their_files() {
        let mappings = parse_executable(TEXT.as_bytes());
        let paths: Vec<_> = mappings.iter().map(|m| m.path.to_str().unwrap_or("?")).collect();
        assert_eq!(paths, ["/usr/bin/cat", "/opt/my app/python", "", "[vdso]", "/memfd:a\nb"]);
        assert_eq!(mappings[0].start, VirtAddr(0x55d0_c0a0_2000));
        assert_eq!(mappings[0].size(), 0x5000);
        assert_eq!(mappings[0].file_offset, FileOffset(0x2000));
        assert_eq!((mappings[0].device, mappings[0].inode), (makedev(0xfe, 0), 247_026));
        assert_eq!(mappings[1].device, makedev(0x103, 2));
        assert!(mappings[1].deleted && !mappings[0].deleted);
        assert!(!mappings[2].is_file() && !mappings[3].is_file() && mappings[4].is_file());
    }

    #[test]
    fn what_is_cut_short_is_left_out() {
        for length in 0..TEXT.len() {
            let whole = TEXT[..length].matches('\n').count();
            assert!(parse_executable(&TEXT.as_bytes()[..length]).len() <= whole + 1);
        }
        assert!(parse_executable(b"2000-1000 r-xp 00000000 00:00 0 x").is_empty());
        assert!(parse_executable(b"1000-2000 r-xp 00000000 00:00 -1 x").is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse_executable(&bytes);
        }

        #[test]
        fn never_panics_on_almost_right_lines(line in "[0-9a-f]{1,20}[- ][0-9a-f]{1,20} r-xp [0-9a-g]{0,9} [0-9a-f:]{0,9} [0-9]{0,30} .{0,20}") {
            parse_executable(line.as_bytes());
        }
    }
}
