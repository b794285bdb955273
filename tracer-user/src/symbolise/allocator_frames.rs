//! Which frames of a stack are the allocator's own: every allocation has them, so they tell nothing about its site.
//!
//! Names are compared as blazesym demangles them. Only what allocates is matched, not what calls it: `std::vector::push_back` or
//! `strdup` stay, since a reader wants to see them.

use super::Frame;

/// C functions that give a block, without the prefixes that libraries put before them.
const C_FUNCTIONS: [&str; 13] = [
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "reallocf",
    "zalloc",
    "memalign",
    "posix_memalign",
    "aligned_alloc",
    "valloc",
    "pvalloc",
    "mallocx",
    "rallocx",
];

/// What libraries put before the names of [`C_FUNCTIONS`], longer ones first: glibc's internal and exported aliases, jemalloc,
/// tcmalloc, mimalloc.
const C_PREFIXES: [&str; 14] = [
    "__GI___libc_",
    "__libc_",
    "__GI___",
    "__GI_",
    "_int_",
    "_mid_",
    "_rjem_je_",
    "_rjem_",
    "__je_",
    "je_",
    "tc_",
    "mi_",
    "__",
    "",
];

/// Names that begin like this are the allocator's.
const PREFIXES: [&str; 17] = [
    "operator new(",
    "operator new[](",
    "__rust_alloc",
    "__rust_realloc",
    "__rdl_alloc",
    "__rdl_realloc",
    "__rg_alloc",
    "__rg_realloc",
    "alloc::alloc::",
    "<alloc::alloc::Global",
    "alloc::raw_vec::",
    "<alloc::raw_vec::",
    "std::alloc::",
    "<std::alloc::System",
    "std::sys::alloc::",
    "<alloc::boxed::Box<T> as alloc::boxed::BoxNew",
    "alloc::boxed::box_new",
];

/// Namespaces of the C++ library whose allocating members are the allocator's.
const CXX_NAMESPACES: [&str; 2] = ["std::", "__gnu_cxx::"];

/// Members that allocate, of the classes in [`CXX_NAMESPACES`].
const CXX_MEMBERS: [&str; 5] =
    ["allocate", "_M_allocate", "_S_allocate", "_M_allocate_node", "_M_allocate_map"];

/// The frames without those of the allocator at the leaf; never none, when there were any.
pub fn strip_allocator_frames(frames: &[Frame]) -> &[Frame] {
    let own = frames.iter().take_while(|frame| is_allocator(&frame.function)).count();
    // A stack that ends inside the allocator still names where it ends.
    let own = own.min(frames.len().saturating_sub(1));
    &frames[own..]
}

fn is_allocator(function: &str) -> bool {
    // The Rust compiler's own shims are in a crate of the name, with a hash in newer manglings: `__rustc[1a2b]::__rust_alloc`.
    let function = match function.split_once("::") {
        Some((root, rest)) if root == "__rustc" || root.starts_with("__rustc[") => rest,
        _ => function,
    };
    is_c_allocator(function)
        || PREFIXES.iter().any(|prefix| function.starts_with(prefix))
        || is_cxx_allocator(function)
}

fn is_c_allocator(function: &str) -> bool {
    // A symbol's version or a compiler's clone: `malloc@@GLIBC_2.2.5`, `_int_malloc.constprop.0`.
    let end = function.find(['@', '.']).unwrap_or(function.len());
    let name = &function[..end];
    C_PREFIXES
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|name| C_FUNCTIONS.contains(&name))
}

fn is_cxx_allocator(function: &str) -> bool {
    CXX_NAMESPACES.iter().any(|namespace| function.starts_with(namespace))
        && CXX_MEMBERS.contains(&member(function))
}

/// The last part of a qualified C++ name, without parameters and template arguments: `allocate` of
/// `std::allocator<char>::allocate(unsigned long)`.
fn member(function: &str) -> &str {
    let mut depth = 0_usize;
    let (mut start, mut end) = (0, function.len());
    for (at, character) in function.char_indices() {
        match character {
            // `(anonymous namespace)` is part of the name; nothing follows parameters but ` const`.
            '<' | '(' if depth == 0 && !function[at..].starts_with("(anonymous") => {
                end = at;
                depth = 1;
            }
            '<' | '(' => depth += 1,
            '>' | ')' => depth = depth.saturating_sub(1),
            ':' if depth == 0 => {
                start = at + 1;
                end = function.len();
            }
            _ => {}
        }
    }
    function.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(functions: &[&str]) -> Vec<Frame> {
        functions.iter().map(|function| Frame::of_name(*function)).collect()
    }

    fn first(functions: &[&str]) -> String {
        strip_allocator_frames(&stack(functions))[0].function.clone()
    }

    #[test]
    fn names_of_allocators_in_every_form() {
        for name in [
            "malloc",
            "calloc",
            "__libc_malloc",
            "__GI___libc_realloc",
            "_int_malloc.constprop.0",
            "_int_memalign",
            "_mid_memalign",
            "__libc_memalign",
            "__posix_memalign",
            "malloc@@GLIBC_2.2.5",
            "je_malloc",
            "_rjem_calloc",
            "tc_malloc",
            "mi_zalloc",
            "operator new(unsigned long)",
            "operator new[](unsigned long, std::align_val_t)",
            "__rust_alloc_zeroed",
            "__rustc::__rust_alloc",
            "__rustc[4425a7e20b4c9619]::__rdl_alloc",
            "alloc::alloc::exchange_malloc",
            "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
            "alloc::raw_vec::RawVecInner<A>::try_allocate_in",
            "<alloc::raw_vec::RawVec<T,A>>::grow_one",
            "std::sys::alloc::unix::<impl core::alloc::global::GlobalAlloc for std::alloc::System>::alloc",
            "std::allocator_traits<std::allocator<int> >::allocate(std::allocator<int>&, unsigned long)",
            "__gnu_cxx::new_allocator<std::pair<int const, char> >::allocate(unsigned long, void const*)",
            "std::__new_allocator<int>::allocate(unsigned long, void const*)",
            "std::_Vector_base<int, std::allocator<int> >::_M_allocate(unsigned long)",
        ] {
            assert!(is_allocator(name), "{name}");
        }
    }

    #[test]
    fn names_that_only_look_like_it() {
        for name in [
            "my_malloc",
            "malloc_cache_insert",
            "xmalloc",
            "strdup",
            "operator newspaper",
            "app::allocate(unsigned long)",
            "std::vector<int, std::allocator<int> >::push_back(int&&)",
            "std::function<void (int)>::operator()(int) const",
            "alloc::vec::Vec<T,A>::push",
            "allocate",
            "libc.so.6+0x1234",
            "",
            "::",
            ">>>)))::<((",
        ] {
            assert!(!is_allocator(name), "{name}");
        }
    }

    #[test]
    fn only_the_leaf_is_stripped_and_never_all() {
        let new = "operator new(unsigned long)";
        assert_eq!(first(&["malloc", new, "make", "malloc", "main"]), "make");
        assert_eq!(first(&["make", "malloc"]), "make");
        assert_eq!(first(&["malloc", new]), new);
        assert!(strip_allocator_frames(&[]).is_empty());
    }
}
