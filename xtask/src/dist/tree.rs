//! Files and directories as a tar archive that only depends on them.
//!
//! In: paths, modes, contents. Out: bytes, the same for the same tree: sorted, owned by root, of one time.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// What an archive holds, by path; a directory's ends with a slash.
#[derive(Default)]
pub(super) struct Tree {
    entries: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Tree {
    /// Adds a file, with the directories it is in.
    pub(super) fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        for (slash, _) in path.match_indices('/') {
            self.directory(&path[..slash], 0o755);
        }
        self.entries.insert(path.to_owned(), (mode, content.into()));
    }

    /// Adds a directory, unless it is there.
    pub(super) fn directory(&mut self, path: &str, mode: u32) {
        self.entries.entry(format!("{path}/")).or_insert((mode, Vec::new()));
    }

    /// Bytes in its files.
    pub(super) fn size_bytes(&self) -> usize {
        self.entries.values().map(|(_, content)| content.len()).sum()
    }

    /// The archive.
    pub(super) fn tar(&self, time: u64) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, (mode, content)) in &self.entries {
            let mut header = Header::new_gnu();
            let is_directory = path.ends_with('/');
            header.set_entry_type(if is_directory {
                EntryType::Directory
            } else {
                EntryType::Regular
            });
            header.set_mode(*mode);
            header.set_mtime(time);
            header.set_uid(0);
            header.set_gid(0);
            header.set_username("root").and_then(|()| header.set_groupname("root"))?;
            header.set_size(content.len() as u64);
            archive
                .append_data(&mut header, path, content.as_slice())
                .with_context(|| format!("cannot pack {path}"))?;
        }
        archive.into_inner().context("cannot end the archive")
    }
}

/// Compressed, with neither a name nor a time.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    out.write_all(bytes).and_then(|()| out.finish()).context("cannot compress")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_depends_on_its_tree_only() {
        let mut one = Tree::default();
        one.file("usr/bin/b", 0o755, "b");
        one.file("usr/a", 0o644, "a");
        let mut other = Tree::default();
        other.file("usr/a", 0o644, "a");
        other.file("usr/bin/b", 0o755, "b");
        let archive = one.tar(7).expect("an archive");
        assert_eq!(archive, other.tar(7).expect("an archive"));
        let mut read = tar::Archive::new(archive.as_slice());
        let entries = read.entries().expect("entries").map(|entry| {
            let entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            (path, entry.header().mode().expect("a mode"), entry.size())
        });
        let expected = [
            ("usr/", 0o755, 0),
            ("usr/a", 0o644, 1),
            ("usr/bin/", 0o755, 0),
            ("usr/bin/b", 0o755, 1),
        ];
        let expected = expected.map(|(path, mode, size)| (path.to_owned(), mode, size));
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }
}
