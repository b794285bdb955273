//! What a hooked function does with its arguments: the meaning of a probe's cookie.
//!
//! Userspace fills the kernel's table of [`FunctionInfo`], indexed by cookie; kernel programs read the arguments by
//! [`Shape`].

/// How a function takes its size and gives its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Shape {
    /// `f(size) -> block`: malloc, valloc, pvalloc.
    Size = 1,
    /// `f(count, size) -> block`: calloc.
    CountSize = 2,
    /// `f(alignment, size) -> block`: memalign, `aligned_alloc`.
    AlignmentSize = 3,
    /// `f(&mut block, alignment, size) -> status`: `posix_memalign`.
    OutAlignmentSize = 4,
    /// `f(block, size) -> block`: realloc.
    Resize = 5,
    /// `f(block, count, size) -> block`: reallocarray.
    ResizeCount = 6,
    /// `f(block)`: free.
    Release = 7,
    /// `f(block, size) -> bytes`: xallocx, which leaves the block where it is and gives the bytes it has now.
    ResizeInPlace = 8,
    /// `f(heap)`: `mi_heap_destroy`, which takes back every block of a heap at once.
    ReleaseHeap = 9,
}

impl Shape {
    /// The shape with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Size),
            2 => Some(Self::CountSize),
            3 => Some(Self::AlignmentSize),
            4 => Some(Self::OutAlignmentSize),
            5 => Some(Self::Resize),
            6 => Some(Self::ResizeCount),
            7 => Some(Self::Release),
            8 => Some(Self::ResizeInPlace),
            9 => Some(Self::ReleaseHeap),
            _ => None,
        }
    }

    /// Whether the call takes blocks back, and gives none.
    pub const fn releases(self) -> bool {
        matches!(self, Self::Release | Self::ReleaseHeap)
    }

    /// Whether the first argument is a block that the call may give back.
    pub const fn resizes(self) -> bool {
        matches!(self, Self::Resize | Self::ResizeCount | Self::ResizeInPlace)
    }
}

/// Bits of [`FunctionInfo::traits`].
pub mod traits {
    /// It may throw, so its return is never trapped: it is seen to leave by [`crate::exit::ExitInfo`] rows.
    pub const LEAVES_BY_EXITS: u32 = 1;
    /// Calls of it can pass such exits: what an exception has left behind is forgotten at its entry.
    pub const MEETS_EXITS: u32 = 2;
    /// The kernel must single-step the probed instruction.
    pub const SINGLE_STEPPED: u32 = 4;
    /// Its first argument is a heap to allocate in: those of its [`super::Shape`] follow.
    pub const IN_HEAP: u32 = 8;
}

/// One row of the kernel's function table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionInfo {
    /// A [`Shape`]'s number; 0 is an empty row.
    pub shape: u32,
    /// [`traits`] of the function.
    pub traits: u32,
    /// Bytes from the start of the executable mapping to the probed instruction.
    pub text_before: u64,
    /// Bytes from the probed instruction to the end of the executable mapping.
    pub text_after: u64,
    /// Bytes from the start of the function to the probed instruction.
    pub body_before: u64,
    /// Bytes from the probed instruction to the end of the function.
    pub body_after: u64,
}

const _: () = assert!(size_of::<FunctionInfo>() == 40);

impl FunctionInfo {
    /// 1 when the kernel must single-step the probed instruction, else 0: a number to add, without a branch.
    #[inline]
    pub const fn stepped(&self) -> u64 {
        ((self.traits / traits::SINGLE_STEPPED) & 1) as u64
    }

    /// All bits when the first argument is a heap, else none.
    #[inline]
    pub const fn after_heap(&self) -> u64 {
        0_u64.wrapping_sub(((self.traits / traits::IN_HEAP) & 1) as u64)
    }
}

/// Sizes from here on cannot be had from any allocator: the call is going to fail, whatever it is.
pub const IMPOSSIBLE_SIZE_BYTES: u64 = 1 << 47;
