//! Decoding what a process maps and unmaps.

use tracer_common::event::EventKind;
use tracer_common::mapping::{MappingEvent, flags};
use zerocopy::FromBytes as _;

use crate::target::VirtAddr;
use crate::target::page_range::{PAGE_BYTES, PageRange};

/// Flags and protections of the system calls (include/uapi/linux/mman.h, include/uapi/asm-generic/mman-common.h).
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_HUGETLB: u32 = 0x4_0000;
const MAP_HUGE_SHIFT: u32 = 26;
const MREMAP_DONTUNMAP: u32 = 4;
const PROT_WRITE: u32 = 2;
/// The power of two of a huge page that mmap's flags leave to the kernel, on x86-64.
const HUGE_PAGE_SHIFT: u32 = 21;

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backing {
    /// Nothing but memory and swap.
    Anonymous,
    /// A file that can be written to, or copied on write: pages of it can become this process's own memory.
    WritableFile,
    /// A file that is only read (or executed): its pages are the page cache's, shared with everybody.
    ReadOnlyFile,
}

/// Who made a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Identifier of the call stack; [`tracer_common::stack::NO_STACK`] when it was not kept.
    pub stack_id: u64,
    /// An allocating function that was being recorded.
    pub by_allocator: bool,
}

/// A change of what is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingChange {
    /// mmap gave this range, in place of whatever was there.
    Mapped {
        /// The range.
        range: PageRange,
        /// What is behind it.
        backing: Backing,
        /// Who made it.
        origin: Origin,
    },
    /// munmap was entered.
    Unmapping(PageRange),
    /// The thread's munmap failed.
    UnmappingFailed,
    /// mremap was entered with this range; `None` for the empty one that duplicates a mapping.
    Remapping(Option<PageRange>),
    /// mremap returned.
    Remapped {
        /// The range handed to it.
        old: Option<PageRange>,
        /// The range it gave; `None` when it failed.
        new: Option<PageRange>,
        /// The old range stays mapped.
        keeps_old: bool,
        /// Who called it.
        origin: Origin,
    },
    /// brk returned.
    BreakMoved {
        /// The break now.
        to: VirtAddr,
        /// Who moved it; `None` for a call that did not.
        origin: Option<Origin>,
    },
    /// A call with arguments that the kernel refuses: nothing has changed.
    Nothing,
}

impl MappingChange {
    /// Who made it, where that is told.
    pub fn origin_mut(&mut self) -> Option<&mut Origin> {
        match self {
            Self::Mapped { origin, .. } | Self::Remapped { origin, .. } => Some(origin),
            Self::BreakMoved { origin, .. } => origin.as_mut(),
            _ => None,
        }
    }
}

/// Decodes a record of one of the kinds that tell of mappings.
pub fn decode(kind: EventKind, record: &[u8]) -> Option<MappingChange> {
    let (event, _) = MappingEvent::read_from_prefix(record).ok()?;
    let address = VirtAddr(event.address);
    let range = PageRange::of_call(address, event.length, PAGE_BYTES);
    match kind {
        EventKind::Mapped => Some(mapped(&event)),
        EventKind::Unmapping => {
            Some(range.map_or(MappingChange::Nothing, MappingChange::Unmapping))
        }
        EventKind::UnmappingFailed => Some(MappingChange::UnmappingFailed),
        EventKind::Remapping => Some(MappingChange::Remapping(range)),
        EventKind::Remapped => Some(MappingChange::Remapped {
            old: PageRange::of_call(VirtAddr(event.old_address), event.old_length, PAGE_BYTES),
            new: if event.header.flags & flags::FAILED == 0 { range } else { None },
            keeps_old: event.call_flags & MREMAP_DONTUNMAP != 0,
            origin: origin(&event),
        }),
        EventKind::BreakMoved => Some(MappingChange::BreakMoved {
            to: address,
            origin: (event.header.flags & flags::MOVED != 0).then(|| origin(&event)),
        }),
        _ => None,
    }
}

fn origin(event: &MappingEvent) -> Origin {
    let by_allocator = event.header.flags & flags::BY_ALLOCATOR != 0;
    Origin { stack_id: event.stack_id, by_allocator }
}

fn mapped(event: &MappingEvent) -> MappingChange {
    let backing = if event.call_flags & MAP_ANONYMOUS != 0 {
        Backing::Anonymous
    } else if event.protection & PROT_WRITE != 0 {
        Backing::WritableFile
    } else {
        Backing::ReadOnlyFile
    };
    let page_bytes = page_bytes(event.call_flags);
    match PageRange::of_call(VirtAddr(event.address), event.length, page_bytes) {
        Some(range) => MappingChange::Mapped { range, backing, origin: origin(event) },
        None => MappingChange::Nothing,
    }
}

/// Bytes of the pages that mmap hands out: a length is rounded up to whole ones.
fn page_bytes(call_flags: u32) -> u64 {
    if call_flags & MAP_HUGETLB == 0 {
        return PAGE_BYTES;
    }
    match call_flags >> MAP_HUGE_SHIFT {
        0 => 1 << HUGE_PAGE_SHIFT,
        shift => 1 << shift,
    }
}
