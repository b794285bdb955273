//! Decoding records of the ring buffer.

use tracer_common::event::{
    AllocationEvent, EventHeader, EventKind, GoSampledEvent, GoSweptEvent, ReleaseEvent,
    ReportedEvent, flags,
};
use tracer_common::golang::MARK_WORDS;
use tracer_common::limits::MAX_FRAMES;
use tracer_common::stack::StackEnd;
use zerocopy::FromBytes as _;

use crate::collector::mapping::{self, MappingChange};
use crate::target::{Pid, VirtAddr};
use crate::unwind::walk::StackCopy;

/// What happened, where, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Process.
    pub pid: Pid,
    /// Thread.
    pub tid: u32,
    /// `CLOCK_MONOTONIC`, nanoseconds; 0 for a stack.
    pub at_ns: u64,
    /// What happened.
    pub what: Happening,
}

/// What an event tells; see [`EventKind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A block was given out.
    Allocated(Allocation),
    /// A block was given back.
    Freed(VirtAddr),
    /// realloc was entered with this block.
    Withdrawn(VirtAddr),
    /// realloc returned.
    Resized {
        /// The block handed to it.
        old: VirtAddr,
        /// How it ended.
        outcome: ResizeOutcome,
    },
    /// A call that had withdrawn this block will never return.
    Abandoned(VirtAddr),
    /// A stack is published.
    Stack(Stack),
    /// Memory of a stack that was just published, for userspace to walk on.
    StackCopy(CopiedStack),
    /// The process runs another program.
    Executed,
    /// The process has a child.
    Forked(Pid),
    /// Something was mapped, unmapped or moved.
    Mapping(MappingChange),
    /// A Go runtime's sampler chose an object.
    GoSampled(GoObject),
    /// An object that it had chosen was swept.
    GoFreed(VirtAddr),
    /// A Go runtime begins to sweep a span.
    GoSwept(Box<SweptSpan>),
}

/// An object that a Go runtime's sampler chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoObject {
    /// Where it is.
    pub address: VirtAddr,
    /// The runtime's record of its call site.
    pub bucket: VirtAddr,
    /// Size of its slot.
    pub size_bytes: u64,
    /// Collections of the heap before it was allocated.
    pub cycle: u32,
    /// The runtime's processor that allocated it.
    pub processor: u64,
}

/// A span of a Go heap whose unmarked objects end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweptSpan {
    /// Its first slot.
    pub start: VirtAddr,
    /// The size of a slot.
    pub slot_bytes: u64,
    /// How many there are.
    pub slots: u64,
    /// A bit for each: set when its object lives on.
    pub marks: [u64; MARK_WORDS],
}

/// A block given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The block.
    pub address: VirtAddr,
    /// Bytes requested.
    pub size_bytes: u64,
    /// Identifier of the call stack; [`tracer_common::stack::NO_STACK`] when it was not kept.
    pub stack_id: u64,
    /// Whether its free will be told; without it the block is never live.
    pub tracked: bool,
    /// Bytes that it stands for, when the process's own sampler says so.
    pub weighted_bytes: Option<u64>,
    /// How often the sampling mean had been doubled when it was recorded.
    pub doublings: u8,
}

/// How a realloc ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeOutcome {
    /// It failed: the old block stays.
    Failed,
    /// The old block is gone, and there is no new one that is recorded.
    Freed,
    /// The old block is gone, the new one is recorded.
    Moved(Allocation),
}

/// A call stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its identifier.
    pub id: u64,
    /// Why it has no further frame.
    pub end: StackEnd,
    /// Leaf first, see [`tracer_common::stack::frame_in_file`]: the probed instruction, then return addresses.
    pub frames: Vec<u64>,
}

/// A piece of a stack, from its first frame in code that the kernel side had not been told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedStack {
    /// Identifier that the stack was published with.
    pub id: u64,
    /// Frames of the stack up to and with the one that the copy starts in.
    pub depth: usize,
    /// Registers and memory of that frame.
    pub copy: StackCopy,
}

/// Decodes a record; `None` for one that is not of this version.
pub fn decode(record: &[u8]) -> Option<Event> {
    let kind = EventKind::from_number(word(record, 0)?)?;
    if kind == EventKind::Stack {
        return decode_stack(record);
    }
    if kind == EventKind::StackCopy {
        return decode_stack_copy(record);
    }
    let (header, _) = EventHeader::read_from_prefix(record).ok()?;
    let what = match kind {
        EventKind::Allocated => Happening::Allocated(allocation(&allocation_event(record)?)),
        EventKind::Reported => Happening::Allocated(reported(record)?),
        EventKind::Resized => resize(&allocation_event(record)?),
        EventKind::Freed => Happening::Freed(released(record)?),
        EventKind::Withdrawn => Happening::Withdrawn(released(record)?),
        EventKind::Abandoned => Happening::Abandoned(released(record)?),
        EventKind::Executed => Happening::Executed,
        EventKind::Forked => Happening::Forked(Pid(header.tid)),
        EventKind::Stack | EventKind::StackCopy => return None,
        EventKind::GoSampled => Happening::GoSampled(go_object(record)?),
        EventKind::GoSwept => Happening::GoSwept(Box::new(swept(record)?)),
        EventKind::GoFreed => Happening::GoFreed(released(record)?),
        EventKind::Mapped
        | EventKind::Unmapping
        | EventKind::UnmappingFailed
        | EventKind::Remapping
        | EventKind::Remapped
        | EventKind::BreakMoved => Happening::Mapping(mapping::decode(kind, record)?),
    };
    Some(Event { pid: Pid(header.tgid), tid: header.tid, at_ns: header.at_ns, what })
}

fn allocation_event(record: &[u8]) -> Option<AllocationEvent> {
    AllocationEvent::read_from_prefix(record).ok().map(|(event, _)| event)
}

fn released(record: &[u8]) -> Option<VirtAddr> {
    ReleaseEvent::read_from_prefix(record).ok().map(|(event, _)| VirtAddr(event.address))
}

fn allocation(event: &AllocationEvent) -> Allocation {
    Allocation {
        address: VirtAddr(event.address),
        size_bytes: event.size_bytes,
        stack_id: event.stack_id,
        tracked: event.header.flags & flags::UNTRACKED == 0,
        weighted_bytes: None,
        doublings: flags::doublings(event.header.flags),
    }
}

fn go_object(record: &[u8]) -> Option<GoObject> {
    let (event, _) = GoSampledEvent::read_from_prefix(record).ok()?;
    Some(GoObject {
        address: VirtAddr(event.address),
        bucket: VirtAddr(event.bucket),
        size_bytes: event.size_bytes,
        cycle: event.cycle as u32,
        processor: event.processor,
    })
}

fn swept(record: &[u8]) -> Option<SweptSpan> {
    let (event, _) = GoSweptEvent::read_from_prefix(record).ok()?;
    let GoSweptEvent { start, slot_bytes, slots, marks, .. } = event;
    Some(SweptSpan { start: VirtAddr(start), slot_bytes, slots, marks })
}

fn reported(record: &[u8]) -> Option<Allocation> {
    let (event, _) = ReportedEvent::read_from_prefix(record).ok()?;
    Some(Allocation {
        address: VirtAddr(event.address),
        size_bytes: event.size_bytes,
        stack_id: event.stack_id,
        tracked: true,
        weighted_bytes: Some(event.weighted_bytes),
        doublings: 0,
    })
}

fn resize(event: &AllocationEvent) -> Happening {
    let outcome = if event.address == 0 && event.size_bytes != 0 {
        ResizeOutcome::Failed
    } else if event.address != 0 && event.header.flags & flags::RECORDED != 0 {
        ResizeOutcome::Moved(allocation(event))
    } else {
        ResizeOutcome::Freed
    };
    Happening::Resized { old: VirtAddr(event.old_address), outcome }
}

/// Layout: [`tracer_common::stack::StackRecord`], as many frames as it counts.
fn decode_stack(record: &[u8]) -> Option<Event> {
    let frame_count = word(record, 16)? as usize;
    let frames = record.get(24..24 + 8 * frame_count.min(MAX_FRAMES))?;
    let frames =
        frames.chunks_exact(8).filter_map(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let stack = Stack {
        id: long(record, 8)?,
        end: StackEnd::from_number(word(record, 20)?)?,
        frames: frames.collect(),
    };
    Some(Event { pid: Pid(word(record, 4)?), tid: 0, at_ns: 0, what: Happening::Stack(stack) })
}

/// Layout: [`tracer_common::stack::StackCopyRecord`], as many bytes as it counts.
fn decode_stack_copy(record: &[u8]) -> Option<Event> {
    let byte_count = word(record, 44)? as usize;
    let bytes = record.get(48..)?.get(..byte_count)?;
    let sp = long(record, 24)?;
    let copy = StackCopy {
        ip: long(record, 16)?,
        sp,
        fp: long(record, 32)?,
        start: sp,
        bytes: bytes.to_vec(),
    };
    let copied = CopiedStack { id: long(record, 8)?, depth: word(record, 40)? as usize, copy };
    let what = Happening::StackCopy(copied);
    Some(Event { pid: Pid(word(record, 4)?), tid: 0, at_ns: 0, what })
}

fn long(record: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?))
}

fn word(record: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack_record(frame_count: u32, frames: &[u64]) -> Vec<u8> {
        let mut record = Vec::new();
        record.extend((EventKind::Stack as u32).to_le_bytes());
        record.extend(7_u32.to_le_bytes());
        record.extend(99_u64.to_le_bytes());
        record.extend(frame_count.to_le_bytes());
        record.extend((StackEnd::Root as u32).to_le_bytes());
        for frame in frames {
            record.extend(frame.to_le_bytes());
        }
        record
    }

    #[test]
    fn a_stack_is_decoded() {
        let event = decode(&stack_record(2, &[10, 20])).expect("decoded");
        assert_eq!(event.pid, Pid(7));
        let Happening::Stack(stack) = event.what else { panic!("not a stack") };
        assert_eq!((stack.id, stack.end), (99, StackEnd::Root));
        assert_eq!(stack.frames, [10, 20]);
    }

    #[test]
    fn a_copied_stack_is_decoded_and_a_cut_one_refused() {
        let mut record = Vec::new();
        record.extend((EventKind::StackCopy as u32).to_le_bytes());
        record.extend(7_u32.to_le_bytes());
        for number in [99_u64, 0x400, 0x7000, 0x7040] {
            record.extend(number.to_le_bytes());
        }
        record.extend(3_u32.to_le_bytes());
        record.extend(8_u32.to_le_bytes());
        record.extend([1; 8]);
        for length in 0..record.len() {
            assert_eq!(decode(&record[..length]), None, "{length}");
        }
        record.extend([2; 100]);
        let Some(Event { pid: Pid(7), what: Happening::StackCopy(copied), .. }) = decode(&record)
        else {
            panic!("not a copied stack")
        };
        let copy =
            StackCopy { ip: 0x400, sp: 0x7000, fp: 0x7040, start: 0x7000, bytes: vec![1; 8] };
        assert_eq!(copied, CopiedStack { id: 99, depth: 3, copy });
    }

    #[test]
    fn a_cut_record_is_refused_at_every_length() {
        let record = stack_record(2, &[10, 20]);
        for length in 0..record.len() {
            assert_eq!(decode(&record[..length]), None, "{length}");
        }
        assert_eq!(decode(&stack_record(u32::MAX, &[10])), None);
        assert_eq!(decode(&[0xff; 64]), None);
    }
}
