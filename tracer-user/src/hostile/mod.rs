//! Every parser of what a target chose, as a function of bytes: for `cargo xtask fuzz`, and for tests that cut and change what is well formed.
//!
//! In: bytes in place of a file, of a process's memory, or of a text. Out: nothing; that the function comes back is what matters. Only
//! built for tests, and with the feature `fuzzing`.

mod executable;
mod go_file;
mod go_memory;
mod remote_image;
mod seeds;
#[cfg(test)]
mod survival;
mod text;

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

pub use executable::{code, elf, notes, stack_walk, unwind, unwind_table};
pub use go_file::{debug_info, go_program, moduledata, pclntab};
pub use go_memory::{buckets, goroutines, specials};
pub use seeds::seeds;
pub use text::{arguments, proc_files, records, worker};

/// A parser, fed with bytes.
pub type Parser = fn(&[u8]);

/// All of them, by name.
pub const PARSERS: [(&str, Parser); 17] = [
    ("elf", elf),
    ("notes", notes),
    ("unwind", unwind),
    ("unwind_table", unwind_table),
    ("stack_walk", stack_walk),
    ("code", code),
    ("debug_info", debug_info),
    ("pclntab", pclntab),
    ("go_program", go_program),
    ("moduledata", moduledata),
    ("buckets", buckets),
    ("specials", specials),
    ("goroutines", goroutines),
    ("proc_files", proc_files),
    ("arguments", arguments),
    ("worker", worker),
    ("records", records),
];

/// A file with these contents, in memory; `None` when the system has no more.
fn file(bytes: &[u8]) -> Option<Arc<File>> {
    let mut file = File::from(memfd_create("hostile", MFdFlags::MFD_CLOEXEC).ok()?);
    file.write_all(bytes).ok()?;
    Some(Arc::new(file))
}

/// A number out of bytes, without a choice of what lies behind their end.
fn word(bytes: &[u8], number: usize) -> u64 {
    let at = bytes.get(8 * number..).and_then(|rest| rest.first_chunk());
    at.copied().map_or(0, u64::from_le_bytes)
}
