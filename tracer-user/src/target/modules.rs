//! The files with code that targets have mapped, each opened once and kept open.
//!
//! In: a mapping of a process. Out: a [`ModuleId`], and by it the [`Module`] and what its ELF file says.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::debug_files::DebugFiles;
use super::elf::Elf;
use super::maps::Mapping;
use super::proc_dir::ProcDir;
use super::{Module, ModuleId};

/// What makes two mappings show the same module: the file, or the name of what is no file (`[vdso]`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    File(u64, u64),
    Named(PathBuf),
}

/// All modules seen.
#[derive(Debug, Default)]
pub struct ModuleTable {
    modules: Vec<Entry>,
    ids: HashMap<Key, ModuleId>,
}

#[derive(Debug)]
struct Entry {
    module: Module,
    elf: Option<Elf>,
    debug_files: DebugFiles,
}

impl Entry {
    /// Reads what the file says; `process` is one that has it mapped.
    fn new(module: Module, process: Option<&ProcDir>) -> Self {
        let elf = module.file.as_ref().and_then(|file| Elf::read(file).ok());
        let build_id = elf.as_ref().and_then(|elf| elf.build_id.clone());
        let debug_files = match (&module.file, &elf) {
            (Some(file), Some(elf)) => DebugFiles::find(&module.path, file, elf, process),
            _ => DebugFiles::default(),
        };
        Self { module: Module { build_id, ..module }, elf, debug_files }
    }
}

impl ModuleTable {
    /// A table without modules.
    pub fn new() -> Self {
        Self::default()
    }

    /// The module that a mapping of the process shows; opened if it is new. `None` for anonymous memory.
    pub fn add(&mut self, process: &ProcDir, mapping: &Mapping) -> Option<ModuleId> {
        let key = if mapping.is_file() {
            Key::File(mapping.device, mapping.inode)
        } else if mapping.path.as_os_str().is_empty() {
            return None;
        } else {
            Key::Named(mapping.path.clone())
        };
        if let Some(id) = self.ids.get(&key) {
            return Some(*id);
        }
        let entry = describe(process, mapping);
        let id = ModuleId(u32::try_from(self.modules.len()).ok()?);
        self.modules.push(entry);
        self.ids.insert(key, id);
        Some(id)
    }

    /// A file that is already open as a module; of a program that does not run, for instance.
    pub fn add_open_file(&mut self, path: &Path, file: File) -> io::Result<ModuleId> {
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        let key = Key::File(identity.0, identity.1);
        if let Some(id) = self.ids.get(&key) {
            return Ok(*id);
        }
        let module =
            Module { path: path.to_owned(), build_id: None, file: Some(Arc::new(file)), identity };
        let id = ModuleId(u32::try_from(self.modules.len()).map_err(io::Error::other)?);
        self.modules.push(Entry::new(module, None));
        self.ids.insert(key, id);
        Ok(id)
    }

    /// The module with this id.
    pub fn get(&self, id: ModuleId) -> Option<&Module> {
        self.modules.get(id.0 as usize).map(|entry| &entry.module)
    }

    /// What the module's ELF file says; `None` when it could not be opened or is none.
    pub fn elf(&self, id: ModuleId) -> Option<&Elf> {
        self.modules.get(id.0 as usize)?.elf.as_ref()
    }

    /// Where the module's debug information is.
    pub fn debug_files(&self, id: ModuleId) -> Option<&DebugFiles> {
        self.modules.get(id.0 as usize).map(|entry| &entry.debug_files)
    }

    /// All modules, in the order found.
    pub fn iter(&self) -> impl Iterator<Item = (ModuleId, &Module)> {
        (0..).map(ModuleId).zip(self.modules.iter().map(|entry| &entry.module))
    }
}

fn describe(process: &ProcDir, mapping: &Mapping) -> Entry {
    let file = if mapping.is_file() { open(process, mapping) } else { None };
    let opened = file.is_some();
    let module = Module {
        path: mapping.path.clone(),
        file: file.map(Arc::new),
        build_id: None,
        identity: (mapping.device, mapping.inode),
    };
    let entry = Entry::new(module, Some(process));
    if mapping.is_file() && entry.elf.is_none() {
        tracing::debug!(pid = %process.pid(), path = %mapping.path.display(), opened,
            "module cannot be read");
    }
    entry
}

/// Opens the file a mapping shows.
///
/// `map_files` leads to the very file, even deleted or in another mount namespace, but needs `CAP_SYS_ADMIN` or
/// `CAP_CHECKPOINT_RESTORE`. The path as the process sees it needs neither, but the process may since have put another file there, so
/// device and inode are compared. `exe` leads to the program itself, even deleted.
fn open(process: &ProcDir, mapping: &Mapping) -> Option<File> {
    let in_map_files = format!("map_files/{:x}-{:x}", mapping.start.0, mapping.end.0);
    let candidates = [
        process.path(in_map_files),
        join_root(&process.path("root"), &mapping.path),
        process.path("exe"),
    ];
    candidates.iter().find_map(|path| open_if_same(path, (mapping.device, mapping.inode)).ok())
}

/// `root` + the absolute `path`; `Path::join` would drop `root`.
fn join_root(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Opens a regular file when it is the one expected.
///
/// It is first opened without effect on it (`O_PATH`): a hostile path can lead to a device for which being opened means something.
fn open_if_same(path: &Path, identity: (u64, u64)) -> io::Result<File> {
    let handle = OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(path)?;
    let metadata = handle.metadata()?;
    if !metadata.is_file() || (metadata.dev(), metadata.ino()) != identity {
        return Err(io::Error::new(io::ErrorKind::NotFound, "another file has its path"));
    }
    File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Pid;
    use crate::target::maps::parse_executable;

    fn own_mappings() -> (ProcDir, Vec<Mapping>) {
        let process = ProcDir::open(Pid(std::process::id())).expect("own process");
        let maps = process.read("maps").expect("maps");
        (process, parse_executable(&maps))
    }

    #[test]
    fn each_file_is_opened_once_and_named_by_its_descriptor() {
        let (process, mappings) = own_mappings();
        let mut table = ModuleTable::new();
        let first: Vec<_> = mappings.iter().map(|m| table.add(&process, m)).collect();
        let count = table.iter().count();
        let again: Vec<_> = mappings.iter().map(|m| table.add(&process, m)).collect();
        assert_eq!(first, again);
        assert_eq!(table.iter().count(), count);
        for (id, module) in table.iter().filter(|(_, m)| m.identity.1 != 0) {
            let path = module.openable_path().expect("open");
            let metadata = std::fs::metadata(path).expect("leads somewhere");
            assert_eq!((metadata.dev(), metadata.ino()), module.identity);
            assert!(table.elf(id).is_some());
        }
    }

    #[test]
    fn another_file_at_the_path_is_refused() {
        let (process, mappings) = own_mappings();
        let mut forged = mappings.iter().find(|m| m.is_file()).expect("a file").clone();
        forged.inode += 1;
        assert!(open(&process, &forged).is_none());
        let device = Path::new("/dev/null");
        let metadata = device.metadata().expect("there");
        assert!(open_if_same(device, (metadata.dev(), metadata.ino())).is_err());
    }
}
