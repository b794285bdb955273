//! Which functions of a module give out blocks and take them back.
//!
//! In: the names a module defines, and names that the user adds. Out: [`Hook`]s, one for each function, by what the function
//! does and not by which allocator it belongs to: malloc is malloc in glibc, musl and whatever replaces them.

pub mod code;
pub mod discover;
pub mod glibc;
pub mod named;
pub mod operator_new;
pub mod usdt;

use tracer_common::function::Shape;

use self::named::NamedFunction;
use crate::target::ElfAddr;
use crate::target::symbols::Symbol;

/// A function to hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the function.
    pub name: String,
    /// How it takes sizes and blocks.
    pub shape: Shape,
    /// Where it starts.
    pub address: ElfAddr,
    /// Its length, bytes; 0 when the symbol does not tell.
    pub size_bytes: u64,
}

/// A name that a module may define, and what a function of that name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name.
    pub name: &'static str,
    /// What it does.
    pub shape: Shape,
}

const fn known(name: &'static str, shape: Shape) -> Known {
    Known { name, shape }
}

/// The C allocation interface, standard and historical names alike; C23 brought the sized frees.
pub const KNOWN: [Known; 13] = [
    known("malloc", Shape::Size),
    known("calloc", Shape::CountSize),
    known("realloc", Shape::Resize),
    known("reallocarray", Shape::ResizeCount),
    known("posix_memalign", Shape::OutAlignmentSize),
    known("aligned_alloc", Shape::AlignmentSize),
    known("memalign", Shape::AlignmentSize),
    known("valloc", Shape::Size),
    known("pvalloc", Shape::Size),
    known("free", Shape::Release),
    known("cfree", Shape::Release),
    known("free_sized", Shape::Release),
    known("free_aligned_sized", Shape::Release),
];

/// What allocators offer beside it: jemalloc's (`jemalloc.h`, 5.3), then mimalloc's (`mimalloc.h`, 2.0). Functions that throw are
/// not among them: a return probe on one would end the program that they throw through.
const FURTHER: [Known; 15] = [
    known("mallocx", Shape::Size),
    known("rallocx", Shape::Resize),
    known("dallocx", Shape::Release),
    known("sdallocx", Shape::Release),
    known("zalloc", Shape::Size),
    known("mallocn", Shape::CountSize),
    known("reallocn", Shape::ResizeCount),
    known("rezalloc", Shape::Resize),
    known("malloc_small", Shape::Size),
    known("zalloc_small", Shape::Size),
    known("malloc_aligned", Shape::Size),
    known("zalloc_aligned", Shape::Size),
    known("realloc_aligned", Shape::Resize),
    known("free_size", Shape::Release),
    known("free_aligned", Shape::Release),
];

/// What allocators put before these names when they are not to replace the C library's: jemalloc, its Rust crate, mimalloc,
/// tcmalloc.
const PREFIXES: [&str; 5] = ["", "je_", "_rjem_", "mi_", "tc_"];

/// Whether a name is one of an allocator's functions.
pub fn is_known(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        let plain = name.strip_prefix(prefix);
        plain.is_some_and(|plain| functions(prefix).any(|known| known.name == plain))
    })
}

/// The functions that come with a prefix. Names such as `zalloc` and `free_size` mean nothing without one.
fn functions(prefix: &str) -> impl Iterator<Item = Known> {
    let further = if prefix.is_empty() { FURTHER.len().min(JEMALLOC) } else { FURTHER.len() };
    KNOWN.into_iter().chain(FURTHER.into_iter().take(further))
}

/// How many of [`FURTHER`] are jemalloc's, which has them without a prefix, too.
const JEMALLOC: usize = 4;

/// Hooks for a module that defines these functions: none unless it can both give out blocks and take them back. What the
/// user names is hooked in any case.
///
/// Aliases (free and cfree, memalign and `aligned_alloc` in glibc) start at one address and are hooked once, by the
/// first name.
pub fn hooks(defined: &[Symbol], named: &[NamedFunction]) -> Vec<Hook> {
    let mut hooks: Vec<Hook> = Vec::new();
    for function in named {
        add(&mut hooks, defined, &function.name, function.shape);
    }
    for prefix in PREFIXES {
        let mut family = Vec::new();
        for known in functions(prefix) {
            add(&mut family, defined, &format!("{prefix}{}", known.name), known.shape);
        }
        let takes = family.iter().any(|hook| hook.shape == Shape::Release);
        let gives = family.iter().any(|hook| hook.shape == Shape::Size);
        if gives && takes {
            let is_new = |hook: &Hook| hooks.iter().all(|other| other.address != hook.address);
            let new: Vec<Hook> = family.into_iter().filter(is_new).collect();
            hooks.extend(new);
        }
    }
    hooks
}

fn add(hooks: &mut Vec<Hook>, defined: &[Symbol], name: &str, shape: Shape) {
    let function = defined.iter().find(|function| function.name == name && !function.indirect);
    let Some(function) = function else { return };
    if hooks.iter().all(|hook| hook.address != function.address) {
        hooks.push(Hook {
            name: name.to_owned(),
            shape,
            address: function.address,
            size_bytes: function.size,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, address: u64) -> Symbol {
        Symbol { name: name.into(), address: ElfAddr(address), size: 10, indirect: false }
    }

    #[test]
    fn aliases_are_hooked_once() {
        let defined = [
            function("cfree", 2),
            function("free", 2),
            function("malloc", 1),
            function("memalign", 3),
            function("aligned_alloc", 3),
        ];
        let names: Vec<String> =
            hooks(&defined, &[]).iter().map(|hook| hook.name.clone()).collect();
        assert_eq!(names, ["malloc", "aligned_alloc", "free"]);
    }

    #[test]
    fn a_module_that_cannot_free_is_no_allocator() {
        assert_eq!(hooks(&[function("malloc", 1), function("calloc", 2)], &[]), []);
        assert_eq!(hooks(&[function("free", 1)], &[]), []);
    }

    #[test]
    fn every_family_is_hooked_under_its_prefix() {
        let defined = [
            function("_rjem_malloc", 1),
            function("_rjem_sdallocx", 2),
            function("mi_malloc", 3),
            function("zalloc", 4),
            function("malloc", 5),
            function("free", 6),
            function("tc_malloc", 5),
            function("tc_free", 6),
        ];
        let names: Vec<String> =
            hooks(&defined, &[]).iter().map(|hook| hook.name.clone()).collect();
        assert_eq!(names, ["malloc", "free", "_rjem_malloc", "_rjem_sdallocx"]);
        assert!(is_known("mi_zalloc") && is_known("mallocx"));
        assert!(!is_known("zalloc") && !is_known("my_malloc"));
    }

    #[test]
    fn what_the_user_names_is_hooked_first() {
        let of_user = NamedFunction::parse_all("malloc=get,free=put").expect("parsed");
        let hooks =
            hooks(&[function("get", 1), function("malloc", 1), function("free", 2)], &of_user);
        let names: Vec<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
        assert_eq!(names, ["get", "free"]);
    }
}
