//! Records into the ring buffer. A record that does not fit is counted by the caller, who knows what it was.

use aya_ebpf::bindings::{
    BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE,
};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use tracer_common::event::{
    AllocationEvent, EventHeader, EventKind, GoSampledEvent, ReleaseEvent, ReportedEvent,
};

use crate::call::Thread;
use crate::maps::EVENTS;

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
