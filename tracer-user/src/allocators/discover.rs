//! Finding the allocator in a module, and its name for the report.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use tracer_common::function::Shape;

use crate::allocators::named::NamedFunction;
use crate::allocators::{Hook, glibc, hooks, is_known};
use crate::target::Module;
use crate::target::symbols::select_functions;

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
pub fn discover(module: &Module, named: &[NamedFunction]) -> Option<Allocator> {
    let file = module.file.as_ref()?;
    let mut wanted =
        |name: &str| is_known(name) || named.iter().any(|function| function.name == name);
    let defined = select_functions(file, &mut wanted).ok()?;
    let mut hooks = hooks(&defined, named);
    if hooks.is_empty() {
        return None;
    }
    let file_name = module.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = library_name(file).unwrap_or_else(|| name_of(&hooks, &file_name));
    if name.starts_with("glibc") || name == "musl" {
        // It is a call of realloc (glibc's malloc/reallocarray.c since 2.26, musl's src/malloc/reallocarray.c), which is
        // hooked, and in glibc 2.36 it has no instruction that the kernel emulates.
        hooks.retain(|hook| hook.shape != Shape::ResizeCount);
    }
    Some(Allocator { name, hooks })
}

/// What the C library's own words in a file's contents say.
fn library_name(file: &File) -> Option<String> {
    let length = file.metadata().ok()?.len().min(MAX_READ_BYTES);
    let mut contents = vec![0; length as usize];
    file.read_exact_at(&mut contents, 0).ok()?;
    glibc::name(&contents).or_else(|| is_musl(&contents).then(|| "musl".to_owned()))
}

/// musl's library is its loader, too, and says so when it is run by hand (ldso/dynlink.c, since 0.8).
fn is_musl(contents: &[u8]) -> bool {
    const BANNER: &[u8] = b"musl libc (";
    contents.windows(BANNER.len()).any(|window| window == BANNER)
}

fn name_of(hooks: &[Hook], file_name: &str) -> String {
    let has = |prefix: &str| hooks.iter().any(|hook| hook.name.starts_with(prefix));
    let by_prefix =
        [("_rjem_", "jemalloc"), ("je_", "jemalloc"), ("mi_", "mimalloc"), ("tc_", "tcmalloc")];
    let in_name = ["jemalloc", "tcmalloc", "mimalloc", "musl"]
        .into_iter()
        .find(|known| file_name.contains(known));
    let known =
        in_name.or_else(|| by_prefix.iter().find(|(prefix, _)| has(prefix)).map(|(_, name)| *name));
    known.map_or_else(|| format!("malloc of {file_name}"), str::to_owned)
}
