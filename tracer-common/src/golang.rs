//! Hooks in a Go runtime: where its own sampler tells of the objects that it chose, and of their end.
//!
//! `runtime.setprofilebucket(p, b)` ties a sampled object to its call site, `runtime.freeSpecial(s, p, size)` ends what the
//! runtime keeps beside an object (runtime/mheap.go, Go 1.19 to 1.27). Both are probed behind their stack check, with their arguments
//! still in the registers of Go's own calling convention. Userspace reads from the runtime's layout what kernel programs need.

/// What kernel programs must know of one module with a Go runtime.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoRuntime {
    /// Bytes from a record beside an object (`special`) to the byte that tells its kind.
    pub kind_offset: u32,
    /// The kind that the profiler's records have.
    pub kind_profile: u32,
    /// Bytes from a call site (`bucket`) to the size of its objects.
    pub object_size_offset: u32,
    /// Bytes from a goroutine's record (`g`) to the address of its thread's (`m`).
    pub thread_offset: u32,
    /// Bytes from a thread's record to the address of its processor's (`p`).
    pub processor_offset: u32,
    /// 1 when the kernel must single-step the instruction where samples are seen.
    pub sampled_stepped: u16,
    /// The same of the instruction where ends are seen.
    pub freed_stepped: u16,
    /// Bytes from the probed instruction of `setprofilebucket` to the heap's `sweepgen`, wrapping: wherever the module is loaded.
    pub sweepgen_distance: u64,
}

impl GoRuntime {
    /// The collection cycle that a value of `sweepgen` belongs to: it moves on by two with each (runtime/mheap.go).
    #[inline]
    pub const fn cycle(sweepgen: u64) -> u32 {
        (sweepgen as u32) / 2
    }
}

const _: () = assert!(size_of::<GoRuntime>() == 32);

/// A return instruction of one of a Go runtime's allocating functions: the object is in its result.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoAllocated {
    /// Bytes from the probed instruction to the function that calls the others (`mallocgc`), wrapping: what it calls is told by itself.
    pub outer_distance: u64,
    /// Bytes of that function's code.
    pub outer_bytes: u64,
    /// Bytes from the probed instruction to the address of the heap's table of arenas, wrapping.
    pub arenas_distance: u64,
    /// Bytes from an arena's record to its table of spans.
    pub spans_offset: u32,
    /// Bytes from a span's record to the address of its first slot.
    pub start_offset: u32,
    /// Bytes from a span's record to the size of its slots.
    pub object_bytes_offset: u32,
    /// Not used.
    pub reserved: u32,
}

const _: () = assert!(size_of::<GoAllocated>() == 40);

/// Where a Go runtime begins to sweep a span: where its record has what is needed to tell which objects go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoSweep {
    /// Bytes from a span's record to the address of its first slot.
    pub start_offset: u32,
    /// To the size of its slots.
    pub object_bytes_offset: u32,
    /// To how many there are.
    pub objects_offset: u32,
    /// To the address of the bits of its marked objects.
    pub marks_offset: u32,
    /// Numbers of slots that are kept in: 2 or 8 bytes.
    pub objects_bytes: u32,
    /// 1 when the bits of small objects are in their span itself.
    pub has_inline_marks: u32,
    /// 1 when the kernel must single-step the instruction.
    pub single_stepped: u32,
    /// Not used.
    pub reserved: u32,
}

const _: () = assert!(size_of::<GoSweep>() == 32);

/// Bytes of a page of the Go heap, and of a span of small objects.
pub const PAGE_BYTES: u64 = 8192;
/// Most slots of a span.
pub const MAX_SLOTS: u64 = 1024;
/// Words of the bits of a span's marked objects.
pub const MARK_WORDS: usize = MAX_SLOTS as usize / 64;
/// Bytes of the marks that are kept at the end of a span of small objects.
const INLINE_MARKS_BYTES: u64 = 64;
/// Bytes of an arena.
const ARENA_BYTES: u64 = 64 << 20;
/// Where arenas are counted from: the lowest address that a processor knows (`arenaBaseOffset`, runtime/malloc.go).
const LOWEST_ADDRESS: u64 = 0xffff_8000_0000_0000;

/// Of an address, its arena's place in the table of arenas, and its page's in the arena.
#[inline]
pub const fn arena_and_page(address: u64) -> (u64, u64) {
    let arena = address.wrapping_sub(LOWEST_ADDRESS) / ARENA_BYTES;
    (arena, address % ARENA_BYTES / PAGE_BYTES)
}

/// Whether an address lies where the module with this instruction has its variables: what has no bytes is not in the heap but there.
#[inline]
pub const fn is_near(address: u64, instruction: u64) -> bool {
    const REACH: u64 = 1 << 31;
    address.wrapping_sub(instruction).wrapping_add(REACH) < 2 * REACH
}

/// Bytes of a slot that an object stands for. The first object in a slot has all of it; what is allocated into the rest of one for objects
/// without addresses below 16 bytes has none. Since Go 1.22 some slots begin with a word that tells the type.
#[inline]
pub const fn bytes_in_slot(address: u64, span_start: u64, slot_bytes: u64) -> u64 {
    const SMALLEST: u64 = 16;
    if slot_bytes == SMALLEST && !address.wrapping_sub(span_start).is_multiple_of(SMALLEST) {
        0
    } else {
        slot_bytes
    }
}

impl GoSweep {
    /// Where the marks of a span are when it keeps them itself.
    #[inline]
    pub const fn inline_marks(&self, span_start: u64, slot_bytes: u64) -> Option<u64> {
        let is_small = slot_bytes >= 16 && slot_bytes <= 512;
        if self.has_inline_marks != 0 && is_small {
            Some(span_start.wrapping_add(PAGE_BYTES - INLINE_MARKS_BYTES))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_brought_to_their_arena_and_page() {
        // The first arena of a Go heap on amd64, and its third page.
        assert_eq!(arena_and_page(0xc0_0000_4000), ((0x8000_0000_0000 + 0xc0_0000_0000) >> 26, 2));
        assert_eq!(arena_and_page(LOWEST_ADDRESS), (0, 0));
    }

    #[test]
    fn what_has_no_bytes_is_near_the_code() {
        assert!(is_near(0x58_b3a0, 0x46_7ffb) && is_near(0x40_0000, 0x50_0000));
        assert!(!is_near(0xc0_0000_4000, 0x46_7ffb) && !is_near(0xc0_0000_4000, 0x55aa_0000_0000));
    }

    #[test]
    fn a_slot_counts_once() {
        assert_eq!(bytes_in_slot(0x1000, 0x1000, 48), 48);
        assert_eq!((bytes_in_slot(0x1010, 0x1000, 16), bytes_in_slot(0x1018, 0x1000, 16)), (16, 0));
        assert_eq!(bytes_in_slot(0x1008, 0x1000, 1024), 1024);
    }

    #[test]
    fn marks_are_in_the_span_of_small_objects_only() {
        let sweep = GoSweep { has_inline_marks: 1, ..GoSweep::default() };
        assert_eq!(sweep.inline_marks(0x4000, 16), Some(0x4000 + 8192 - 64));
        assert_eq!((sweep.inline_marks(0x4000, 8), sweep.inline_marks(0x4000, 576)), (None, None));
        assert_eq!(GoSweep::default().inline_marks(0x4000, 16), None);
    }

    #[test]
    fn a_cycle_is_two_steps_of_the_low_word() {
        assert_eq!(GoRuntime::cycle(0xffff_ffff_0000_0007), 3);
    }
}
