//! Lines of source files, by their numbers.
//!
//! In: the path of a file, and which of its lines are wanted. Out: these lines, as text that is safe to show. Paths are a target's or a
//! profile's choice: only regular files are opened, and what is read of one is limited.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::OFlag;

use super::text::printable;

/// Bytes of a file that are read at most to come to a line.
const MAX_BYTES: u64 = 16 << 20;
/// Characters of a line that are kept.
const MAX_COLUMNS: usize = 240;

/// Numbered lines.
pub(crate) type Excerpt = Vec<(u32, String)>;

/// What was read of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The lines that were wanted, as far as the file has them.
    pub(crate) lines: Excerpt,
    /// When the file was changed last.
    pub(crate) modified: Option<SystemTime>,
    /// Whether it ended, or could not be read on, before the last line that was wanted.
    pub(crate) is_short: bool,
    /// Whether what was wanted is no text.
    pub(crate) is_binary: bool,
}

/// Reads the lines in these ranges, which ascend and do not overlap; nothing when there is no such file.
pub(crate) fn read(path: &Path, wanted: &[RangeInclusive<u32>]) -> Option<Source> {
    let file = open(path)?;
    let modified = file.metadata().ok().and_then(|metadata| metadata.modified().ok());
    let mut source = Source { lines: Vec::new(), modified, is_short: false, is_binary: false };
    let last = wanted.last().map_or(0, |range| *range.end());
    let mut ranges = wanted.iter().peekable();
    let lines = BufReader::new(file.take(MAX_BYTES)).split(b'\n').map_while(Result::ok);
    let mut reached = 0;
    for (number, bytes) in (1..=last).zip(lines) {
        reached = number;
        while ranges.next_if(|range| *range.end() < number).is_some() {}
        if ranges.peek().is_some_and(|range| range.contains(&number)) {
            source.is_binary |= bytes.contains(&0);
            source.lines.push((number, shown(&bytes)));
        }
    }
    source.is_short = reached < last;
    Some(source)
}

/// Opens a regular file. To open a device can do something to it.
fn open(path: &Path) -> Option<File> {
    if !is_file(path) {
        return None;
    }
    let file =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// Whether it is there and regular.
pub(crate) fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn shown(bytes: &[u8]) -> String {
    // No character has more than four bytes.
    let start = &bytes[..bytes.len().min(4 * MAX_COLUMNS)];
    let text = String::from_utf8_lossy(start).replace('\t', "    ");
    printable(text.trim_end()).chars().take(MAX_COLUMNS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path, wanted: &[RangeInclusive<u32>]) -> Vec<(u32, String)> {
        read(path, wanted).expect("a file").lines
    }

    #[test]
    fn lines_are_found_by_their_numbers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.c");
        fs::write(&path, "one\n\ttwo\r\nthree\u{1b}[2J\nfour\nfive").expect("written");
        let line = |number: u32, text: &str| (number, text.to_owned());
        assert_eq!(lines(&path, &[1..=2]), [line(1, "one"), line(2, "    two")]);
        let found = lines(&path, &[1..=1, 3..=3, 5..=9]);
        assert_eq!(found, [line(1, "one"), line(3, "three\u{fffd}[2J"), line(5, "five")]);
        let is_short = |wanted| read(&path, wanted).is_some_and(|source| source.is_short);
        assert!(is_short(&[2..=6]) && is_short(&[u32::MAX..=u32::MAX]));
        assert!(!is_short(&[2..=5]) && !is_short(&[]));
    }

    #[test]
    fn endless_lines_and_other_than_text_are_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.c");
        fs::write(&path, vec![b'x'; 1 << 20]).expect("written");
        let source = read(&path, &[1..=2]).expect("a file");
        assert_eq!(source.lines, [(1, "x".repeat(MAX_COLUMNS))]);
        assert!(source.is_short && !source.is_binary);
        fs::write(&path, b"\x7fELF\0\xff\n").expect("written");
        assert!(read(&path, &[1..=1]).expect("a file").is_binary);
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero"), Path::new("absent")] {
            assert_eq!(read(path, &[1..=1]), None, "{}", path.display());
        }
    }
}
