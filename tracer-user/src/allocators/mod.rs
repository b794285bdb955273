//! Which functions of a module give out blocks and take them back.
//!
//! In: the names a module defines. Out: [`Hook`]s, one for each function, by what the function does and not by which
//! allocator it belongs to: malloc is malloc in glibc, musl and whatever replaces them.

pub mod code;
pub mod discover;
pub mod glibc;

use tracer_common::function::Shape;

use crate::target::ElfAddr;
use crate::target::symbols::Symbol;

/// A function to hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Name of the function.
    pub name: &'static str,
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

/// The C allocation interface, standard and historical names alike.
pub const KNOWN: [Known; 11] = [
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
];

/// Hooks for a module that defines these functions: none unless it can both give out blocks and take them back.
///
/// Aliases (free and cfree, memalign and `aligned_alloc` in glibc) start at one address and are hooked once, by the
/// first name of [`KNOWN`].
pub fn hooks(defined: &[Symbol]) -> Vec<Hook> {
    let mut hooks: Vec<Hook> = Vec::new();
    for known in KNOWN {
        let function =
            defined.iter().find(|function| function.name == known.name && !function.indirect);
        let Some(function) = function else {
            continue;
        };
        if hooks.iter().any(|hook| hook.address == function.address) {
            continue;
        }
        hooks.push(Hook {
            name: known.name,
            shape: known.shape,
            address: function.address,
            size_bytes: function.size,
        });
    }
    let gives = hooks.iter().any(|hook| hook.name == "malloc");
    let takes = hooks.iter().any(|hook| hook.shape == Shape::Release);
    if gives && takes { hooks } else { Vec::new() }
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
        let names: Vec<_> = hooks(&defined).iter().map(|hook| hook.name).collect();
        assert_eq!(names, ["malloc", "aligned_alloc", "free"]);
    }

    #[test]
    fn a_module_that_cannot_free_is_no_allocator() {
        assert_eq!(hooks(&[function("malloc", 1), function("calloc", 2)]), []);
        assert_eq!(hooks(&[function("free", 1)]), []);
    }
}
