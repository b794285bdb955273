//! Static probe points by which a program's own sampler tells of its allocations.
//!
//! Nothing is chosen here: what the program tells is recorded. The arguments lie where the compiler left them, in a
//! register, in memory or in the note itself.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_common::counter::Counter;
use tracer_common::event::{EventKind, ReportedEvent};
use tracer_common::usdt::{ArgumentPlace, NO_REGISTER, ProbePoint, kind};

use crate::call::{Registers, Thread, read_register, read_user};
use crate::counters::{add, count};
use crate::maps::{PROBE_POINTS, TARGETS};
use crate::process_row::{count_told_allocation, count_told_release, current_probe, now_ns};
use crate::stack::{WITH_LOOP, WITHOUT_LOOP};
use crate::{emit, private_stack, stack};

/// `alloc(block, size, weighted bytes)`.
#[uprobe]
pub fn report_allocation(context: ProbeContext) -> u32 {
    private_stack::decline();
    tell_allocation::<WITH_LOOP>(&context)
}

/// As [`report_allocation`], for kernels before 5.17.
#[uprobe]
pub fn report_allocation_early(context: ProbeContext) -> u32 {
    tell_allocation::<WITHOUT_LOOP>(&context)
}

#[inline(always)]
fn tell_allocation<const LOOP: bool>(context: &ProbeContext) -> u32 {
    let (probe, start_ns) = (current_probe(context), now_ns());
    record_allocation::<LOOP>(context, probe.row);
    count_told_allocation(probe.process, start_ns, 0);
    0
}

#[inline(always)]
fn record_allocation<const LOOP: bool>(context: &ProbeContext, row: u32) {
    let thread = Thread::current();
    let Some(point) = traced_point(row, thread) else { return };
    let [address, size, weight] = &point.arguments;
    let (Some(address), Some(size_bytes), Some(weighted_bytes)) =
        (argument(context, address), argument(context, size), argument(context, weight))
    else {
        count(Counter::UnreadableArguments);
        return;
    };
    let stack_id = stack::capture_before::<LOOP>(thread, &Registers::read(context));
    let header = emit::header(EventKind::Reported, thread, 0);
    let event = ReportedEvent { header, address, size_bytes, stack_id, weighted_bytes };
    if emit::report(event).is_err() {
        count(Counter::LostAllocations);
        add(Counter::LostAllocatedBytes, weighted_bytes);
    }
}

/// `free(block)`.
#[uprobe]
pub fn report_release(context: ProbeContext) -> u32 {
    private_stack::decline();
    let (probe, start_ns) = (current_probe(&context), now_ns());
    record_release(&context, probe.row);
    count_told_release(probe.process, start_ns, 0);
    0
}

#[inline(always)]
fn record_release(context: &ProbeContext, row: u32) {
    let thread = Thread::current();
    let Some(point) = traced_point(row, thread) else { return };
    let [address, ..] = &point.arguments;
    let Some(address) = argument(context, address) else {
        count(Counter::UnreadableArguments);
        return;
    };
    if emit::release(EventKind::Freed, thread, address).is_err() {
        count(Counter::LostFrees);
    }
}

/// The probe point that was hit in a traced process.
#[inline(always)]
fn traced_point(row: u32, thread: Thread) -> Option<&'static ProbePoint> {
    TARGETS.get_ptr(thread.tgid)?;
    let point = PROBE_POINTS.get(row);
    if point.is_none() {
        count(Counter::UnknownFunctions);
    }
    point
}

/// An argument, fetched from its place.
#[inline(always)]
fn argument(context: &ProbeContext, place: &ArgumentPlace) -> Option<u64> {
    let found = match place.kind {
        kind::CONSTANT => return Some(place.value),
        kind::REGISTER => read_register(context, place.register_offset)?,
        kind::MEMORY => {
            let base = optional_register(context, place.register_offset)?;
            let index = optional_register(context, place.index_offset)?;
            let scaled = index << (place.index_shift & 3);
            read_user(base.wrapping_add(scaled).wrapping_add(place.value))?
        }
        _ => return None,
    };
    Some(place.cut(found))
}

#[inline(always)]
fn optional_register(context: &ProbeContext, offset: u32) -> Option<u64> {
    if offset == NO_REGISTER { Some(0) } else { read_register(context, offset) }
}
