//! Records that kernel programs write to the ring buffer. All start with an [`EventHeader`]'s kind and process.

use crate::golang::MARK_WORDS;

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum EventKind {
    /// A block was given out: [`AllocationEvent`].
    Allocated = 1,
    /// A block was given back: [`ReleaseEvent`].
    Freed = 2,
    /// realloc was entered with this block; whether it is freed, the matching `Resized` tells: [`ReleaseEvent`].
    Withdrawn = 3,
    /// realloc returned: [`AllocationEvent`] with `old_address`, and `address` 0 when it failed and the old block stays.
    Resized = 4,
    /// A call stack seen for the first time: [`crate::stack::StackRecord`].
    Stack = 5,
    /// The process replaced its program; its blocks are gone: [`EventHeader`].
    Executed = 6,
    /// A process was forked; `tid` of the header is the child's process: [`EventHeader`].
    Forked = 7,
    /// A thread ended inside a hooked function: [`ReleaseEvent`] with the block it had withdrawn, or 0.
    Abandoned = 8,
    /// Memory of a stack that went through unknown code: [`crate::stack::StackCopyRecord`], right after its `Stack`.
    StackCopy = 9,
    /// The process's own sampler tells of a block given out: [`ReportedEvent`].
    Reported = 10,
    /// mmap returned a range: [`crate::mapping::MappingEvent`].
    Mapped = 16,
    /// munmap was entered with this range; told before another thread can be given it: [`crate::mapping::MappingEvent`].
    Unmapping = 17,
    /// munmap failed: the range of the thread's last `Unmapping` stays: [`crate::mapping::MappingEvent`].
    UnmappingFailed = 18,
    /// mremap was entered with this range: [`crate::mapping::MappingEvent`].
    Remapping = 19,
    /// mremap returned: [`crate::mapping::MappingEvent`].
    Remapped = 20,
    /// brk returned: [`crate::mapping::MappingEvent`].
    BreakMoved = 21,
    /// A Go runtime's sampler chose an object: [`GoSampledEvent`].
    GoSampled = 24,
    /// An object that a Go runtime's sampler had chosen was swept: [`ReleaseEvent`].
    GoFreed = 25,
    /// A Go runtime begins to sweep a span: [`GoSweptEvent`].
    GoSwept = 26,
}

impl EventKind {
    /// The kind with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Allocated),
            2 => Some(Self::Freed),
            3 => Some(Self::Withdrawn),
            4 => Some(Self::Resized),
            5 => Some(Self::Stack),
            6 => Some(Self::Executed),
            7 => Some(Self::Forked),
            8 => Some(Self::Abandoned),
            9 => Some(Self::StackCopy),
            10 => Some(Self::Reported),
            16 => Some(Self::Mapped),
            17 => Some(Self::Unmapping),
            18 => Some(Self::UnmappingFailed),
            19 => Some(Self::Remapping),
            20 => Some(Self::Remapped),
            21 => Some(Self::BreakMoved),
            24 => Some(Self::GoSampled),
            25 => Some(Self::GoFreed),
            26 => Some(Self::GoSwept),
            _ => None,
        }
    }
}

/// Start of every record but those of stacks, which share its first two fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct EventHeader {
    /// An [`EventKind`]'s number.
    pub kind: u32,
    /// Process, as the initial PID namespace numbers it.
    pub tgid: u32,
    /// Thread, likewise.
    pub tid: u32,
    /// [`flags`] of the event.
    pub flags: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
}

/// Bits of [`EventHeader::flags`].
pub mod flags {
    /// The block is not followed (the kernel's table of sampled blocks was full): it counts as allocated, never as live.
    pub const UNTRACKED: u32 = 1;
    /// The new block of a `Resized` is recorded; without it only the fate of the old one is told.
    pub const RECORDED: u32 = 2;
    /// First of the eight bits that hold how often the sampling mean had been doubled.
    pub const DOUBLINGS_SHIFT: u32 = 8;

    /// The bits for so many doublings.
    pub const fn of_doublings(doublings: u32) -> u32 {
        (doublings & 0xff) << DOUBLINGS_SHIFT
    }

    /// How often the sampling mean had been doubled.
    pub const fn doublings(flags: u32) -> u8 {
        (flags >> DOUBLINGS_SHIFT) as u8
    }
}

/// A block given out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct AllocationEvent {
    /// Kind, process, thread, time.
    pub header: EventHeader,
    /// The block; 0 in a `Resized` that failed.
    pub address: u64,
    /// Bytes the program asked for.
    pub size_bytes: u64,
    /// Identifier of the call stack, or [`crate::stack::NO_STACK`].
    pub stack_id: u64,
    /// The block handed to realloc, or 0.
    pub old_address: u64,
}

/// A block that the process's own sampler tells of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct ReportedEvent {
    /// Kind, process, thread, time.
    pub header: EventHeader,
    /// The block.
    pub address: u64,
    /// Bytes of the block.
    pub size_bytes: u64,
    /// Identifier of the call stack, or [`crate::stack::NO_STACK`].
    pub stack_id: u64,
    /// Bytes that the block stands for.
    pub weighted_bytes: u64,
}

/// A block given back.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct ReleaseEvent {
    /// Kind, process, thread, time.
    pub header: EventHeader,
    /// The block.
    pub address: u64,
}

/// An object that a Go runtime's sampler chose.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct GoSampledEvent {
    /// Kind, process, thread, time.
    pub header: EventHeader,
    /// The object.
    pub address: u64,
    /// The runtime's record of its call site.
    pub bucket: u64,
    /// Size of the slot that the object takes.
    pub size_bytes: u64,
    /// Collections of the heap so far.
    pub cycle: u64,
    /// The runtime's processor that allocated it; 0 when that could not be read.
    pub processor: u64,
}

/// A span of a Go heap whose unmarked objects end now.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct GoSweptEvent {
    /// Kind, process, thread, time.
    pub header: EventHeader,
    /// Its first slot.
    pub start: u64,
    /// The size of a slot.
    pub slot_bytes: u64,
    /// How many there are.
    pub slots: u64,
    /// A bit for each: set when its object lives on.
    pub marks: [u64; MARK_WORDS],
}

const _: () = assert!(size_of::<EventHeader>() == 24);
const _: () = assert!(size_of::<AllocationEvent>() == 56);
const _: () = assert!(size_of::<ReportedEvent>() == 56);
const _: () = assert!(size_of::<ReleaseEvent>() == 32);
const _: () = assert!(size_of::<GoSampledEvent>() == 64);
const _: () = assert!(size_of::<GoSweptEvent>() == 176);
