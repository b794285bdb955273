//! Records of what a process maps and unmaps.

use crate::event::EventHeader;

/// Bits of [`EventHeader::flags`] in a [`MappingEvent`].
pub mod flags {
    /// The call was made inside a hooked allocating function that is recorded: the memory is the allocator's stock.
    pub const BY_ALLOCATOR: u32 = 1;
    /// The call failed: nothing was mapped, moved or unmapped.
    pub const FAILED: u32 = 2;
    /// A `BreakMoved` that did what was asked; without it the call only tells where the break is.
    pub const MOVED: u32 = 4;
}

/// A call of mmap, munmap, mremap or brk. Which fields are used, the kind tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct MappingEvent {
    /// Kind, process, thread, time; [`flags`].
    pub header: EventHeader,
    /// Start of the range that is mapped now or about to be unmapped; the break.
    pub address: u64,
    /// Bytes of it, as the program passed them.
    pub length: u64,
    /// Start of the range handed to mremap.
    pub old_address: u64,
    /// Bytes of it.
    pub old_length: u64,
    /// Identifier of the call stack, or [`crate::stack::NO_STACK`].
    pub stack_id: u64,
    /// The flags of mmap or mremap.
    pub call_flags: u32,
    /// The protection passed to mmap.
    pub protection: u32,
}

const _: () = assert!(size_of::<MappingEvent>() == 72);
