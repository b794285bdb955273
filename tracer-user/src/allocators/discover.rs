//! Finding the allocator in a module, and its name for the report.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use tracer_common::function::Shape;

use crate::allocators::{Hook, KNOWN, glibc, hooks};
use crate::target::Module;
use crate::target::symbols::find_functions;

/// An allocator found in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// Name for people, such as `glibc 2.36`.
    pub name: String,
    /// Its functions.
    pub hooks: Vec<Hook>,
}

/// Most that is read of a file to tell which allocator it holds, bytes.
const MAX_READ_BYTES: u64 = 64 << 20;

/// The allocator in a module; `None` if there is none, or its file cannot be read.
pub fn discover(module: &Module) -> Option<Allocator> {
    let file = module.file.as_ref()?;
    let names = KNOWN.map(|known| known.name);
    let mut hooks = hooks(&find_functions(file, &names).ok()?);
    if hooks.is_empty() {
        return None;
    }
    let file_name = module.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = glibc_name(file).unwrap_or_else(|| name_by_file(&file_name));
    if name.starts_with("glibc") || name == "musl" {
        // It is a call of realloc (glibc's malloc/reallocarray.c since 2.26, musl's src/malloc/reallocarray.c), which is
        // hooked, and in glibc 2.36 it has no instruction that the kernel emulates.
        hooks.retain(|hook| hook.shape != Shape::ResizeCount);
    }
    Some(Allocator { name, hooks })
}

fn glibc_name(file: &File) -> Option<String> {
    let length = file.metadata().ok()?.len().min(MAX_READ_BYTES);
    let mut contents = vec![0; length as usize];
    file.read_exact_at(&mut contents, 0).ok()?;
    glibc::name(&contents)
}

fn name_by_file(file_name: &str) -> String {
    ["jemalloc", "tcmalloc", "mimalloc", "musl"]
        .into_iter()
        .find(|known| file_name.contains(known))
        .map_or_else(|| format!("malloc of {file_name}"), str::to_owned)
}
