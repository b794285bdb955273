//! Tables kept on disk by build id: the second time a large program is traced, nothing is compiled.
//!
//! In: a build id. Out: the table that was made for it. What is read back is checked like anything else; what cannot be read
//! or written is compiled anew. The folder is bounded: the tables that were not used for longest go first.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::SystemTime;

use nix::unistd::geteuid;
use tracer_common::limits::{MAX_UNWIND_PAGES, MAX_UNWIND_ROWS, MAX_UNWIND_RULES};
use tracer_common::unwind::{Rule, row_rule};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::unwind::pack::PackedTable;

/// Changes with the layout, and with what a rule means.
const MAGIC: [u8; 16] = *b"outlive unwind 1";
/// Most that the folder may hold, bytes.
const MAX_BYTES: u64 = 256 << 20;
/// Tables with fewer rows are compiled faster than a file is opened.
const WORTH_KEEPING_ROWS: usize = 20_000;

/// The folder of tables.
#[derive(Debug)]
pub struct TableCache {
    folder: Option<PathBuf>,
}

impl TableCache {
    /// The user's: `$XDG_CACHE_HOME/outlive/unwind`, or below `$HOME/.cache`. Without either, or if the folder is another
    /// user's, nothing is kept.
    pub fn of_user() -> Self {
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .filter(|base| base.is_absolute());
        Self { folder: base.map(|base| base.join("outlive/unwind")) }
    }

    /// The table of a file with this build id.
    pub fn load(&self, build_id: &str) -> Option<PackedTable> {
        let path = self.path(build_id)?;
        let mut file = File::open(&path).ok().filter(is_own)?;
        let mut bytes = Vec::new();
        file.by_ref().take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let table = decode(&bytes);
        if table.is_none() {
            tracing::debug!("{} is no unwind table", path.display());
        } else if let Err(error) = file.set_modified(SystemTime::now()) {
            // What was used last is removed last.
            tracing::debug!("{}: {error}", path.display());
        }
        table
    }

    /// Keeps a table.
    pub fn store(&self, build_id: &str, table: &PackedTable) {
        if table.rows.len() < WORTH_KEEPING_ROWS {
            return;
        }
        if let Some(path) = self.path(build_id)
            && let Err(error) = self.write(&path, &encode(table))
        {
            tracing::debug!("{} is not kept: {error}", path.display());
        }
    }

    fn path(&self, build_id: &str) -> Option<PathBuf> {
        let is_plain = build_id.len() >= 8 && build_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(self.folder.as_ref().filter(|_| is_plain)?.join(build_id))
    }

    fn write(&self, path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if fs::metadata(folder)?.uid() != geteuid().as_raw() {
            return Err(io::Error::other("the folder belongs to another user"));
        }
        make_room(folder, bytes.len() as u64)?;
        let mut draft = tempfile::NamedTempFile::new_in(folder)?;
        io::Write::write_all(&mut draft, bytes)?;
        draft.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

fn is_own(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| {
        metadata.is_file() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o022 == 0
    })
}

/// Removes tables, the longest unused first, until there is room.
fn make_room(folder: &std::path::Path, needed_bytes: u64) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            kept.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    kept.sort();
    let mut total_bytes: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in kept {
        if total_bytes + needed_bytes <= MAX_BYTES {
            break;
        }
        fs::remove_file(path)?;
        total_bytes -= bytes;
    }
    Ok(())
}

/// Magic, number of pages, rows, rules, base; then each of them; little-endian.
pub(crate) fn encode(table: &PackedTable) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for length in [table.pages.len(), table.rows.len(), table.rules.len()] {
        bytes.extend((length as u64).to_le_bytes());
    }
    bytes.extend(table.base.to_le_bytes());
    bytes.extend(table.pages.as_bytes());
    bytes.extend(table.rows.as_bytes());
    bytes.extend(table.rules.as_bytes());
    bytes
}

/// `None` unless it is a table whose every number leads to something.
pub(crate) fn decode(bytes: &[u8]) -> Option<PackedTable> {
    let mut rest = bytes.strip_prefix(&MAGIC)?;
    let mut number = || {
        let (first, others) = rest.split_first_chunk::<8>()?;
        rest = others;
        Some(u64::from_le_bytes(*first))
    };
    let (pages, rows, rules, base) = (number()?, number()?, number()?, number()?);
    let plausible = pages <= u64::from(MAX_UNWIND_PAGES)
        && rows <= u64::from(MAX_UNWIND_ROWS)
        && rules <= u64::from(MAX_UNWIND_RULES);
    if !plausible {
        return None;
    }
    let (pages, rest) = split_words(rest, pages as usize)?;
    let (rows, rest) = split_words(rest, rows as usize)?;
    let rules = read_rules(rest, rules as usize)?;
    let sound = pages.is_sorted()
        && pages.last().is_none_or(|last| (*last as usize) < rows.len())
        && rows.iter().all(|row| (row_rule(*row) as usize) < rules.len());
    sound.then_some(PackedTable { base, pages, rows, rules })
}

fn split_words(bytes: &[u8], count: usize) -> Option<(Vec<u32>, &[u8])> {
    let (words, rest) = bytes.split_at_checked(count.checked_mul(4)?)?;
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
    Some((words.chunks_exact(4).filter_map(word).collect(), rest))
}

fn read_rules(bytes: &[u8], count: usize) -> Option<Vec<Rule>> {
    if bytes.len() != count.checked_mul(size_of::<Rule>())? {
        return None;
    }
    bytes.chunks_exact(size_of::<Rule>()).map(|bytes| Rule::read_from_bytes(bytes).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::ElfAddr;
    use crate::unwind::compile::Row;
    use crate::unwind::pack::pack;
    use tracer_common::unwind::CfaKind;

    fn table(rows: u64) -> PackedTable {
        let rule = |offset| Rule {
            cfa_kind: CfaKind::StackPointer as u32,
            cfa_offset: offset,
            ..Rule::default()
        };
        let rows: Vec<Row> = (0..rows)
            .map(|index| Row {
                address: ElfAddr(0x1000 + 16 * index),
                rule: rule(index as i32 & 7),
            })
            .collect();
        pack(&rows).expect("packed")
    }

    fn cache() -> (tempfile::TempDir, TableCache) {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = TableCache { folder: Some(folder.path().join("unwind")) };
        (folder, cache)
    }

    #[test]
    fn a_large_table_comes_back_and_a_small_one_is_not_kept() {
        let (_folder, cache) = cache();
        let (large, small) = (table(30_000), table(10));
        cache.store("0123456789abcdef", &large);
        cache.store("fedcba9876543210", &small);
        assert_eq!(cache.load("0123456789abcdef"), Some(large));
        assert_eq!(cache.load("fedcba9876543210"), None);
        assert_eq!(cache.load("../../../etc/passwd"), None);
    }

    #[test]
    fn a_cut_or_changed_file_is_a_miss_or_a_sound_table() {
        let bytes = encode(&table(100));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            if let Some(table) = decode(&changed) {
                for address in (0..0x3000).step_by(64) {
                    let _ = table.rule_at(ElfAddr(address));
                }
            }
        }
    }

    #[test]
    fn the_longest_unused_goes_when_the_folder_is_full() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, age_s) in [("old", 100), ("new", 10)] {
            let file = File::create(folder.path().join(name)).expect("created");
            file.set_len(MAX_BYTES / 2).expect("sparse");
            let at = SystemTime::now() - std::time::Duration::from_secs(age_s);
            file.set_modified(at).expect("set");
        }
        make_room(folder.path(), 1).expect("room");
        assert!(!folder.path().join("old").exists());
        assert!(folder.path().join("new").exists());
    }
}
