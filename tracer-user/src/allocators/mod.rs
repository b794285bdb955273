//! Which functions of a module give out blocks and take them back.
//!
//! In: the names a module defines, and names that the user adds. Out: [`Hook`]s, one for each function, by what the function
//! does and not by which allocator it belongs to: malloc is malloc in glibc, musl and whatever replaces them.

pub mod code;
pub mod cxx;
pub mod discover;
pub mod families;
pub mod glibc;
pub mod named;
pub mod usdt;

use tracer_common::function::Shape;

use self::families::FAMILIES;
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
    /// Its first argument is a heap to allocate in, and the others follow.
    pub in_heap: bool,
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
    /// Its first argument is a heap to allocate in, and the others follow.
    pub in_heap: bool,
}

const fn known(name: &'static str, shape: Shape) -> Known {
    Known { name, shape, manner: Manner::Returns, in_heap: false }
}

/// A function that throws when there is no memory.
const fn throwing(name: &'static str, shape: Shape) -> Known {
    Known { manner: Manner::Throws, ..known(name, shape) }
}

/// A function that may do no more than hand the call on.
const fn forwarding(name: &'static str, shape: Shape) -> Known {
    Known { manner: Manner::MayForward, ..known(name, shape) }
}

/// A function whose first argument is a heap to allocate in.
const fn of_heap(known: Known) -> Known {
    Known { in_heap: true, ..known }
}

/// Whether a name is one of an allocator's functions.
pub fn is_known(name: &str) -> bool {
    cxx::FUNCTIONS.iter().any(|known| known.name == name)
        || FAMILIES.iter().any(|family| family.has(name))
}

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
    for family in FAMILIES {
        let mut found = Vec::new();
        for known in family.functions() {
            add(&mut found, defined, &format!("{}{}", family.prefix, known.name), known);
        }
        let takes = found.iter().any(|hook| hook.shape == Shape::Release);
        let gives = found.iter().any(|hook| hook.shape == Shape::Size);
        if gives && takes {
            let is_new = |hook: &Hook| hooks.iter().all(|other| other.address != hook.address);
            let new: Vec<Hook> = found.into_iter().filter(is_new).collect();
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
            in_heap: known.in_heap,
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
