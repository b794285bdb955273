//! Lines of source files around the places that a stack passes through.
//!
//! In: a file and a line, as the debug information of a target names them. Out: that line and its neighbours, when this host has the file.

use std::collections::HashMap;
use std::path::Path;

use crate::report::source::{self, Excerpt};
use crate::symbolise::Frame;

/// Lines before and after the one that is looked for.
const AROUND: u32 = 1;
/// Places whose lines are kept.
const MAX_PLACES: usize = 4096;

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
    if line == 0 || !path.is_absolute() {
        return None;
    }
    let first = line.saturating_sub(AROUND).max(1);
    let lines = source::read(path, &[first..=line.saturating_add(AROUND)])?.lines;
    lines.iter().any(|(number, _)| *number == line).then_some(lines)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_around_a_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.c");
        fs::write(&path, "one\n\ttwo\nthree\nfour").expect("written");
        let numbered = |line| excerpt(&path, line);
        let (two, three) = ((2, "    two".to_owned()), (3, "three".to_owned()));
        assert_eq!(numbered(1), Some(vec![(1, "one".to_owned()), two.clone()]));
        assert_eq!(numbered(3), Some(vec![two, three.clone(), (4, "four".to_owned())]));
        assert_eq!(numbered(4), Some(vec![three, (4, "four".to_owned())]));
        for line in [0, 5, u32::MAX] {
            assert_eq!(numbered(line), None, "{line}");
        }
        assert_eq!(excerpt(Path::new("Cargo.toml"), 1), None, "found by chance only");
    }
}
