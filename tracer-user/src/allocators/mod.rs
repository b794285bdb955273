//! Which functions of a module give out blocks and take them back.
//!
//! In: the names a module defines, and names that the user adds. Out: [`Hook`]s, one for each function, by what the function
//! does and not by which allocator it belongs to: malloc is malloc in glibc, musl and whatever replaces them.

pub mod code;
pub mod cxx;
pub mod discover;
pub mod glibc;
pub mod named;
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
    /// How it ends.
    pub manner: Manner,
    /// Where it starts.
    pub address: ElfAddr,
    /// Its length, bytes; 0 when the symbol does not tell.
    pub size_bytes: u64,
}

/// How a function ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// It returns: so do all of the C interface.
    #[default]
    Returns,
    /// It returns; it may do no more than hand the call on to another hooked function.
    MayForward,
    /// The same, and it throws an exception when there is no memory.
    Throws,
}

/// A name that a module may define, and what a function of that name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name.
    pub name: &'static str,
    /// What it does.
    pub shape: Shape,
    /// How it ends.
    pub manner: Manner,
}

const fn known(name: &'static str, shape: Shape) -> Known {
    Known { name, shape, manner: Manner::Returns }
}

/// A function that throws when there is no memory.
const fn throwing(name: &'static str, shape: Shape) -> Known {
    Known { manner: Manner::Throws, ..known(name, shape) }
}

/// A function that may do no more than hand the call on.
const fn forwarding(name: &'static str, shape: Shape) -> Known {
    Known { manner: Manner::MayForward, ..known(name, shape) }
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
    forwarding("free_sized", Shape::Release),
    forwarding("free_aligned_sized", Shape::Release),
];

/// What allocators offer beside it: jemalloc's (`jemalloc.h`, 5.3), then mimalloc's (`mimalloc.h`, 2.0).
const FURTHER: [Known; 21] = [
    known("mallocx", Shape::Size),
    known("rallocx", Shape::Resize),
    known("xallocx", Shape::ResizeInPlace),
    forwarding("dallocx", Shape::Release),
    forwarding("sdallocx", Shape::Release),
    known("zalloc", Shape::Size),
    known("mallocn", Shape::CountSize),
    known("reallocn", Shape::ResizeCount),
    known("rezalloc", Shape::Resize),
    known("malloc_small", Shape::Size),
    known("zalloc_small", Shape::Size),
    known("malloc_aligned", Shape::Size),
    known("zalloc_aligned", Shape::Size),
    known("realloc_aligned", Shape::Resize),
    forwarding("free_size", Shape::Release),
    forwarding("free_aligned", Shape::Release),
    throwing("new", Shape::Size),
    throwing("new_aligned", Shape::Size),
    throwing("new_n", Shape::CountSize),
    known("new_nothrow", Shape::Size),
    known("new_aligned_nothrow", Shape::Size),
];

/// What allocators put before these names when they are not to replace the C library's: jemalloc, its Rust crate, mimalloc,
/// tcmalloc.
const PREFIXES: [&str; 5] = ["", "je_", "_rjem_", "mi_", "tc_"];

/// Whether a name is one of an allocator's functions.
pub fn is_known(name: &str) -> bool {
    let is_operator = cxx::FUNCTIONS.iter().any(|known| known.name == name);
    is_operator
        || PREFIXES.iter().any(|prefix| {
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
const JEMALLOC: usize = 5;

/// Hooks for a module that defines these functions: none unless it can both give out blocks and take them back. What the
/// user names is hooked in any case.
///
/// Aliases (free and cfree, memalign and `aligned_alloc` in glibc) start at one address and are hooked once, by the
/// first name.
pub fn hooks(defined: &[Symbol], named: &[NamedFunction]) -> Vec<Hook> {
    let mut hooks: Vec<Hook> = Vec::new();
    for function in named {
        add(&mut hooks, defined, &function.name, known("", function.shape));
    }
    for prefix in PREFIXES {
        let mut family = Vec::new();
        for known in functions(prefix) {
            add(&mut family, defined, &format!("{prefix}{}", known.name), known);
        }
        let takes = family.iter().any(|hook| hook.shape == Shape::Release);
        let gives = family.iter().any(|hook| hook.shape == Shape::Size);
        if gives && takes {
            let is_new = |hook: &Hook| hooks.iter().all(|other| other.address != hook.address);
            let new: Vec<Hook> = family.into_iter().filter(is_new).collect();
            hooks.extend(new);
        }
    }
    if !hooks.is_empty() {
        for operator in cxx::FUNCTIONS {
            add(&mut hooks, defined, operator.name, operator);
        }
    }
    hooks
}

fn add(hooks: &mut Vec<Hook>, defined: &[Symbol], name: &str, known: Known) {
    let function = defined.iter().find(|function| function.name == name && !function.indirect);
    let Some(function) = function else { return };
    if hooks.iter().all(|hook| hook.address != function.address) {
        hooks.push(Hook {
            name: name.to_owned(),
            shape: known.shape,
            manner: known.manner,
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
