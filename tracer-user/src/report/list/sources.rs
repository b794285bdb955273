//! The source of functions: found, read, and what is to be said of it.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::locate::find;
use crate::report::profile::Profile;
use crate::report::source::{self, Excerpt, Source};

/// Lines shown before and after one that has numbers.
const AROUND: u32 = 3;
/// Most files of which each is told the same.
const MAX_NAMED: usize = 5;

/// Where to look, and what was noticed.
pub(super) struct Sources<'s> {
    folders: &'s [PathBuf],
    /// When the profile was taken.
    taken: Option<SystemTime>,
    missing: BTreeSet<String>,
    changed: BTreeSet<PathBuf>,
    short: BTreeSet<PathBuf>,
    binary: BTreeSet<PathBuf>,
}

impl<'s> Sources<'s> {
    pub(super) fn new(profile: &Profile, folders: &'s [PathBuf]) -> Self {
        let taken = UNIX_EPOCH + Duration::from_nanos(profile.end_ns);
        Self {
            folders,
            taken: (profile.end_ns > 0).then_some(taken),
            missing: BTreeSet::new(),
            changed: BTreeSet::new(),
            short: BTreeSet::new(),
            binary: BTreeSet::new(),
        }
    }

    /// The file of this name, and these lines of it with those around them.
    pub(super) fn read(
        &mut self,
        name: &str,
        module: Option<&str>,
        lines: &[u32],
    ) -> Option<(PathBuf, Excerpt)> {
        let found = find(name, self.folders);
        let found = found.and_then(|path| Some((source::read(&path, &ranges(lines))?, path)));
        let Some((source, path)) = found else {
            self.missing.insert(name.to_owned());
            return None;
        };
        if source.is_binary {
            self.binary.insert(path);
            return None;
        }
        self.examine(&source, &path, module, lines);
        Some((path, source.lines))
    }

    /// Notes what makes it doubtful that it is the source that the program was made of.
    fn examine(&mut self, source: &Source, path: &Path, module: Option<&str>, lines: &[u32]) {
        let last_read = source.lines.last().map_or(0, |(number, _)| *number);
        if lines.last().is_some_and(|last| *last > last_read) {
            self.short.insert(path.to_owned());
        }
        let built = module.and_then(|module| fs::metadata(module).ok()?.modified().ok());
        let made = [built, self.taken].into_iter().flatten().min();
        if source.modified.zip(made).is_some_and(|(modified, made)| modified > made) {
            self.changed.insert(path.to_owned());
        }
    }

    /// What a reader must know of the sources, a line each.
    pub(super) fn notices(&self) -> Vec<String> {
        let looked = self.folders.iter().map(|folder| folder.display().to_string());
        let looked = looked.collect::<Vec<_>>().join(", ");
        let missing = self.missing.iter().cloned();
        let shown = |paths: &BTreeSet<PathBuf>| -> Vec<String> {
            paths.iter().map(|path| path.display().to_string()).collect()
        };
        let not_found = format!(
            "not found, neither there nor by the end of its name below {looked}: --source-path DIR says where to look"
        );
        let mut notices = Vec::new();
        for (files, what) in [
            (missing.collect(), not_found.as_str()),
            (shown(&self.binary), "is no text, and is not shown"),
            (
                shown(&self.changed),
                "was changed after the program was built or the profile taken: lines may have moved",
            ),
            (shown(&self.short), "has fewer lines than the profile names: it is another version"),
        ] {
            notices.extend(files.iter().take(MAX_NAMED).map(|file| format!("{file}: {what}")));
            if files.len() > MAX_NAMED {
                notices.push(format!("the same of {} more files", files.len() - MAX_NAMED));
            }
        }
        notices
    }
}

/// The lines with those around them, in ascending order.
fn ranges(lines: &[u32]) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for line in lines {
        let (first, last) = (line.saturating_sub(AROUND).max(1), line.saturating_add(AROUND));
        match ranges.last_mut() {
            Some(range) if *range.end() >= first.saturating_sub(1) => {
                *range = *range.start()..=last;
            }
            _ => ranges.push(first..=last),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(ranges(&[2, 9, 20, u32::MAX]), [1..=12, 17..=23, u32::MAX - 3..=u32::MAX]);
        assert_eq!(ranges(&[]), []);
    }

    #[test]
    fn doubts_are_told_of_a_few_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = [folder.path().to_owned()];
        let profile = Profile { end_ns: 1, ..Profile::default() };
        let mut sources = Sources::new(&profile, &folders);
        fs::write(folder.path().join("a.c"), "one\ntwo\n").expect("written");
        let (path, excerpt) = sources.read("/build/a.c", None, &[2]).expect("found");
        assert_eq!((path, excerpt.len()), (folder.path().join("a.c"), 2));
        assert!(sources.notices()[0].contains("was changed after"), "{:?}", sources.notices());
        sources.read("/build/a.c", None, &[3]).expect("found");
        assert!(sources.notices()[1].contains("fewer lines"), "{:?}", sources.notices());
        for number in 0..8 {
            assert_eq!(sources.read(&format!("/build/absent{number}.c"), None, &[1]), None);
        }
        let notices = sources.notices();
        assert_eq!(notices.len(), 2 + MAX_NAMED + 1, "{notices:?}");
        assert!(
            notices[0].contains("--source-path") && notices[5].contains("3 more"),
            "{notices:?}"
        );
    }
}
