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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_two_steps_of_the_low_word() {
        assert_eq!(GoRuntime::cycle(0xffff_ffff_0000_0007), 3);
    }
}
