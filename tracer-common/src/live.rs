//! The kernel's table of sampled blocks that are outstanding.

/// A block: its process and address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LiveKey {
    /// Process.
    pub tgid: u32,
    /// Unused, zero.
    pub reserved: u32,
    /// Address of the block.
    pub address: u64,
}

/// What is known of a block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveBlock {
    /// Bytes requested.
    pub size_bytes: u64,
    /// Stack of the allocation, or [`crate::stack::NO_STACK`].
    pub stack_id: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
    /// How often the sampling mean had been doubled.
    pub doublings: u32,
    /// Unused, zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<LiveKey>() == 16);
const _: () = assert!(size_of::<LiveBlock>() == 32);
