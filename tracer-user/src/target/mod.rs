//! Processes to trace: found, checked, and described from `/proc`; never touched.
//!
//! In: a PID. Out: a [`Target`] with its executable [`Module`]s held open, so that they can be probed and symbolised
//! when their paths lead elsewhere (another mount namespace), were deleted, or the process has ended.

pub mod address_space;
pub(crate) mod container;
pub mod debug_files;
mod debug_links;
pub mod elf;
pub(crate) mod file_bytes;
pub mod hold;
pub mod image;
pub mod imports;
pub mod mapped;
pub mod maps;
pub mod memory;
pub mod modules;
pub mod notes;
mod open;
pub mod page_range;
pub mod proc_dir;
pub mod registers;
pub mod remote_memory;
pub mod rest;
pub(crate) mod status;
pub mod successor;
pub mod symbols;
pub mod vdso;

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

pub use address_space::AddressSpace;
pub use image::Image;
pub use modules::ModuleTable;
pub use open::{Kind, Target};
pub use page_range::PageRange;
pub use remote_memory::RemoteMemory;

/// A process (thread group) as the initial PID namespace numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address in a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtAddr(pub u64);

/// An address as an ELF file's program headers give it (before relocation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElfAddr(pub u64);

/// A position in a file, bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileOffset(pub u64);

/// Index of a [`Module`] in its [`ModuleTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(pub u32);

/// A file with code that some target has mapped. Held open: `/proc/self/fd/N` of `file` names it whatever becomes of
/// its path.
#[derive(Clone, Debug)]
pub struct Module {
    /// The path as the target sees it, without ` (deleted)`; `[vdso]` and the like for what is no file.
    pub path: PathBuf,
    /// The open file; `None` for what is no file or could not be opened.
    pub file: Option<Arc<File>>,
    /// GNU build id, lower-case hexadecimal.
    pub build_id: Option<String>,
    /// Device and inode, which tell files apart.
    pub identity: (u64, u64),
}

impl Module {
    /// A path by which this process, and the kernel on its behalf, can open the file, whatever became of its name.
    pub fn openable_path(&self) -> Option<PathBuf> {
        let file = self.file.as_ref()?;
        Some(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
    }
}

/// Where an address lies: independent of where the module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CodeLocation {
    /// In a file: its module and the address there.
    InModule(ModuleId, ElfAddr),
    /// In no file: code generated at run time, or an unmapped address.
    Unknown(VirtAddr),
}
