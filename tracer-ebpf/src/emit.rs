//! Records into the ring buffer. A record that does not fit is counted by the caller, who knows what it was.

use aya_ebpf::bindings::{
    BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE,
};
use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use tracer_common::event::{
    AllocationEvent, EventHeader, EventKind, GoSampledEvent, GoSweptEvent, ReleaseEvent,
    ReportedEvent,
};
use tracer_common::golang::MARK_WORDS;

use crate::call::Thread;
use crate::maps::EVENTS;

/// Why a record was not sent.
pub enum Lost {
    /// The ring buffer is full.
    Full,
    /// The target's memory could not be read.
    Unreadable,
}

/// The ring buffer is full.
pub struct RingFull;

/// Whether to wake userspace: it looks by itself every few milliseconds, so only when the buffer fills up. Waking it for
/// every event would cost the target more than the event.
#[inline(always)]
pub fn wakeup() -> u64 {
    if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) * 4 < EVENTS.query(u64::from(BPF_RB_RING_SIZE)) {
        u64::from(BPF_RB_NO_WAKEUP)
    } else {
        u64::from(BPF_RB_FORCE_WAKEUP)
    }
}

/// The header of an event that happens now.
#[inline(always)]
pub fn header(kind: EventKind, thread: Thread, flags: u32) -> EventHeader {
    // SAFETY: the helper has no precondition.
    header_at(kind, thread, flags, unsafe { bpf_ktime_get_ns() })
}

/// The header of an event that happened a moment ago.
#[inline(always)]
pub fn header_at(kind: EventKind, thread: Thread, flags: u32, at_ns: u64) -> EventHeader {
    EventHeader { kind: kind as u32, tgid: thread.tgid, tid: thread.tid, flags, at_ns }
}

/// Tells that a block was given out.
#[inline(always)]
pub fn allocation(event: AllocationEvent) -> Result<(), RingFull> {
    let mut entry = EVENTS.reserve::<AllocationEvent>(0).ok_or(RingFull)?;
    entry.write(event);
    entry.submit(wakeup());
    Ok(())
}

/// Tells that a Go runtime's sampler chose an object.
#[inline(always)]
pub fn go_sampled(event: GoSampledEvent) -> Result<(), RingFull> {
    let mut entry = EVENTS.reserve::<GoSampledEvent>(0).ok_or(RingFull)?;
    entry.write(event);
    entry.submit(wakeup());
    Ok(())
}

/// Tells that a span of a Go heap is swept.
#[inline(always)]
pub fn go_swept(
    header: EventHeader,
    span: [u64; 3],
    marks: u64,
    mark_bytes: u32,
) -> Result<(), Lost> {
    let mut entry = EVENTS.reserve::<GoSweptEvent>(0).ok_or(Lost::Full)?;
    let event = entry.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted; every byte of it is written.
    let read = unsafe {
        let [start, slot_bytes, slots] = span;
        event.write(GoSweptEvent { header, start, slot_bytes, slots, marks: [0; MARK_WORDS] });
        bpf_probe_read_user((&raw mut (*event).marks).cast(), mark_bytes, marks as *const c_void)
    };
    if read != 0 {
        entry.discard(u64::from(BPF_RB_NO_WAKEUP));
        return Err(Lost::Unreadable);
    }
    entry.submit(wakeup());
    Ok(())
}

/// Tells what the process's own sampler says of a block.
#[inline(always)]
pub fn report(event: ReportedEvent) -> Result<(), RingFull> {
    let mut entry = EVENTS.reserve::<ReportedEvent>(0).ok_or(RingFull)?;
    entry.write(event);
    entry.submit(wakeup());
    Ok(())
}

/// Tells what became of a block that was outstanding.
#[inline(always)]
pub fn release(kind: EventKind, thread: Thread, address: u64) -> Result<(), RingFull> {
    let mut entry = EVENTS.reserve::<ReleaseEvent>(0).ok_or(RingFull)?;
    entry.write(ReleaseEvent { header: header(kind, thread, 0), address });
    entry.submit(wakeup());
    Ok(())
}

/// Tells what a process did.
#[inline(always)]
pub fn process(kind: EventKind, thread: Thread) -> Result<(), RingFull> {
    let mut entry = EVENTS.reserve::<EventHeader>(0).ok_or(RingFull)?;
    entry.write(header(kind, thread, 0));
    entry.submit(wakeup());
    Ok(())
}
