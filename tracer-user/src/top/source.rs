//! Lines of source files around the places that a stack passes through.
//!
//! In: a file and a line, as the debug information of a target names them. Out: that line and its neighbours, when this host has the file.
//! The names are the target's choice: only regular files are opened, by absolute paths, and little of them is read.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::report::text::printable;
use crate::symbolise::Frame;

/// Lines before and after the one that is looked for.
const AROUND: u32 = 1;
/// Bytes of a file that are read at most to come to a line.
const MAX_BYTES: u64 = 8 << 20;
/// Characters of a line that are kept.
const MAX_COLUMNS: usize = 240;
/// Places whose lines are kept.
const MAX_PLACES: usize = 4096;

/// Numbered lines.
pub(super) type Excerpt = Vec<(u32, String)>;

/// What was read so far. A file is read once for each place.
#[derive(Default)]
pub(super) struct Sources {
    by_place: HashMap<(String, u32), Option<Excerpt>>,
}

impl Sources {
    /// Reads what these frames need.
    pub(super) fn read(&mut self, frames: &[Frame]) {
        for (file, line) in frames.iter().filter_map(place) {
            if self.by_place.len() >= MAX_PLACES {
                self.by_place.clear();
            }
            self.by_place
                .entry((file.to_owned(), line))
                .or_insert_with(|| excerpt(Path::new(file), line));
        }
    }

    /// The lines around a frame's place, when they could be read.
    pub(super) fn get(&self, frame: &Frame) -> Option<&Excerpt> {
        let (file, line) = place(frame)?;
        self.by_place.get(&(file.to_owned(), line))?.as_ref()
    }
}

fn place(frame: &Frame) -> Option<(&str, u32)> {
    Some((frame.file.as_deref()?, frame.line?))
}

fn excerpt(path: &Path, line: u32) -> Option<Excerpt> {
    // To open a device can do something to it.
    if line == 0 || !path.is_absolute() || !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let first = line.saturating_sub(AROUND).max(1);
    let lines = BufReader::new(file.take(MAX_BYTES)).split(b'\n').map_while(Result::ok);
    let numbered = (1_u32..).zip(lines).skip(first as usize - 1);
    let excerpt: Excerpt = numbered
        .take_while(|(number, _)| *number <= line.saturating_add(AROUND))
        .map(|(number, bytes)| (number, shown(&bytes)))
        .collect();
    excerpt.iter().any(|(number, _)| *number == line).then_some(excerpt)
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\t', "    ");
    printable(text.trim_end()).chars().take(MAX_COLUMNS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_around_a_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.c");
        fs::write(&path, "one\n\ttwo\r\nthree\u{1b}[2J\nfour").expect("written");
        let numbered = |line| excerpt(&path, line);
        let two = (2, "    two".to_owned());
        assert_eq!(numbered(1), Some(vec![(1, "one".to_owned()), two.clone()]));
        let three = (3, "three\u{fffd}[2J".to_owned());
        assert_eq!(numbered(3), Some(vec![two, three.clone(), (4, "four".to_owned())]));
        assert_eq!(numbered(4), Some(vec![three, (4, "four".to_owned())]));
        for line in [0, 5, u32::MAX] {
            assert_eq!(numbered(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero"), Path::new("Cargo.toml")]
        {
            assert_eq!(excerpt(path, 1), None, "{}", path.display());
        }
    }
}
