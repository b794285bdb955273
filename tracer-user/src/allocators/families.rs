//! What allocators offer: the C interface, and the functions of their own beside it.
//!
//! Out: the families of names that one allocator defines together, under its prefix. Sources: `jemalloc.h` 5.3, `mimalloc.h`
//! 2.0 and 2.1, gperftools' `tcmalloc.h` 2.10.

use tracer_common::function::Shape;

use super::{Known, forwarding, known, of_heap, throwing};

/// The C allocation interface, standard and historical names alike; C23 brought the sized frees.
pub const C: [Known; 13] = [
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

const JEMALLOC: [Known; 5] = [
    known("mallocx", Shape::Size),
    known("rallocx", Shape::Resize),
    known("xallocx", Shape::ResizeInPlace),
    forwarding("dallocx", Shape::Release),
    forwarding("sdallocx", Shape::Release),
];

const TCMALLOC: [Known; 5] = [
    throwing("new", Shape::Size),
    throwing("new_aligned", Shape::Size),
    known("new_nothrow", Shape::Size),
    known("new_aligned_nothrow", Shape::Size),
    known("malloc_skip_new_handler", Shape::Size),
];

/// `mi_new_reallocn` is a call of `mi_new_realloc`.
const MIMALLOC: [Known; 57] = [
    known("zalloc", Shape::Size),
    known("mallocn", Shape::CountSize),
    known("reallocn", Shape::ResizeCount),
    known("recalloc", Shape::ResizeCount),
    known("rezalloc", Shape::Resize),
    forwarding("reallocf", Shape::Resize),
    known("expand", Shape::Resize),
    known("malloc_small", Shape::Size),
    known("zalloc_small", Shape::Size),
    known("malloc_aligned", Shape::Size),
    known("malloc_aligned_at", Shape::Size),
    known("zalloc_aligned", Shape::Size),
    known("zalloc_aligned_at", Shape::Size),
    known("calloc_aligned", Shape::CountSize),
    known("calloc_aligned_at", Shape::CountSize),
    known("realloc_aligned", Shape::Resize),
    known("realloc_aligned_at", Shape::Resize),
    known("rezalloc_aligned", Shape::Resize),
    known("rezalloc_aligned_at", Shape::Resize),
    known("recalloc_aligned", Shape::ResizeCount),
    known("recalloc_aligned_at", Shape::ResizeCount),
    forwarding("aligned_recalloc", Shape::ResizeCount),
    forwarding("aligned_offset_recalloc", Shape::ResizeCount),
    forwarding("free_size", Shape::Release),
    forwarding("free_aligned", Shape::Release),
    forwarding("free_size_aligned", Shape::Release),
    throwing("new", Shape::Size),
    throwing("new_aligned", Shape::Size),
    throwing("new_n", Shape::CountSize),
    known("new_nothrow", Shape::Size),
    known("new_aligned_nothrow", Shape::Size),
    throwing("new_realloc", Shape::Resize),
    of_heap(known("heap_malloc", Shape::Size)),
    of_heap(known("heap_zalloc", Shape::Size)),
    of_heap(known("heap_malloc_small", Shape::Size)),
    of_heap(known("heap_malloc_aligned", Shape::Size)),
    of_heap(known("heap_malloc_aligned_at", Shape::Size)),
    of_heap(known("heap_zalloc_aligned", Shape::Size)),
    of_heap(known("heap_zalloc_aligned_at", Shape::Size)),
    of_heap(known("heap_calloc", Shape::CountSize)),
    of_heap(known("heap_mallocn", Shape::CountSize)),
    of_heap(known("heap_calloc_aligned", Shape::CountSize)),
    of_heap(known("heap_calloc_aligned_at", Shape::CountSize)),
    of_heap(known("heap_realloc", Shape::Resize)),
    of_heap(forwarding("heap_reallocf", Shape::Resize)),
    of_heap(known("heap_realloc_aligned", Shape::Resize)),
    of_heap(known("heap_realloc_aligned_at", Shape::Resize)),
    of_heap(known("heap_rezalloc", Shape::Resize)),
    of_heap(known("heap_rezalloc_aligned", Shape::Resize)),
    of_heap(known("heap_rezalloc_aligned_at", Shape::Resize)),
    of_heap(known("heap_reallocn", Shape::ResizeCount)),
    of_heap(known("heap_recalloc", Shape::ResizeCount)),
    of_heap(known("heap_recalloc_aligned", Shape::ResizeCount)),
    of_heap(known("heap_recalloc_aligned_at", Shape::ResizeCount)),
    of_heap(throwing("heap_alloc_new", Shape::Size)),
    of_heap(throwing("heap_alloc_new_n", Shape::CountSize)),
    known("heap_destroy", Shape::ReleaseHeap),
];

/// Functions that one allocator defines together.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// What is before their names when they are not to replace the C library's.
    pub prefix: &'static str,
    own: &'static [Known],
}

/// All families. The C library's own names come first; names such as `zalloc` and `free_size` mean nothing without a
/// prefix.
pub const FAMILIES: [Family; 5] = [
    Family { prefix: "", own: &JEMALLOC },
    Family { prefix: "je_", own: &JEMALLOC },
    Family { prefix: "_rjem_", own: &JEMALLOC },
    Family { prefix: "mi_", own: &MIMALLOC },
    Family { prefix: "tc_", own: &TCMALLOC },
];

impl Family {
    /// Its functions, by their names without the prefix.
    pub fn functions(&self) -> impl Iterator<Item = Known> {
        C.into_iter().chain(self.own.iter().copied())
    }

    /// Whether a name is one of its functions.
    pub fn has(&self, name: &str) -> bool {
        let plain = name.strip_prefix(self.prefix);
        plain.is_some_and(|plain| self.functions().any(|known| known.name == plain))
    }
}
