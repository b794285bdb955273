//! Every object of a Go heap: told where the runtime's allocating functions return, and where it sweeps.
//!
//! The address of an object is known only when its function is about to return. Its return is not trapped, which a Go program does not survive:
//! the return instruction itself is probed, like any other, and the kernel single-steps it. The slot's size is read from the heap's own tables. That objects end is told by the marks that
//! the last collection left: those of a span that have none are gone when it is swept.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_common::counter::Counter;
use tracer_common::event::{AllocationEvent, EventKind, flags};
use tracer_common::golang::{
    GoAllocated, GoSweep, MAX_SLOTS, arena_and_page, bytes_in_slot, is_near,
};

use crate::call::{Registers, Thread, read_user};
use crate::counters::{add, count};
use crate::maps::{GO_EXITS, GO_SWEEPS, TARGETS};
use crate::process_row::{count_told_allocation, count_told_release, current_probe, now_ns};
use crate::stack::{WITH_LOOP, WITHOUT_LOOP};
use crate::{emit, private_stack, stack};

/// An allocating function is about to return.
#[uprobe]
pub fn go_allocated(context: ProbeContext) -> u32 {
    private_stack::decline();
    tell_allocation::<WITH_LOOP>(&context)
}

/// As [`go_allocated`], for kernels before 5.17.
#[uprobe]
pub fn go_allocated_early(context: ProbeContext) -> u32 {
    tell_allocation::<WITHOUT_LOOP>(&context)
}

#[inline(always)]
fn tell_allocation<const LOOP: bool>(context: &ProbeContext) -> u32 {
    let (probe, start_ns) = (current_probe(context), now_ns());
    let Some(place) = GO_EXITS.get(probe.row) else {
        count(Counter::UnknownFunctions);
        return 0;
    };
    record_allocation::<LOOP>(context, place);
    count_told_allocation(probe.process, start_ns, 1);
    0
}

#[inline(always)]
fn record_allocation<const LOOP: bool>(context: &ProbeContext, place: &GoAllocated) {
    let thread = Thread::current();
    let mut registers = Registers::read(context);
    if TARGETS.get_ptr(thread.tgid).is_none() {
        return;
    }
    let Some(back) = read_user(registers.sp) else {
        count(Counter::UnreadableArguments);
        return;
    };
    let outer = registers.ip.wrapping_add(place.outer_distance);
    if back.wrapping_sub(outer) < place.outer_bytes {
        return;
    }
    let address = registers.result;
    if is_near(address, registers.ip) {
        return;
    }
    let Some((span_start, slot_bytes)) = slot(address, registers.ip, place) else {
        count(Counter::LostAllocations);
        return;
    };
    let size_bytes = bytes_in_slot(address, span_start, slot_bytes);
    // The caller, as it is after the return: by which of its returns a function left is nobody's call site.
    registers.ip = back;
    registers.sp = registers.sp.wrapping_add(8);
    let stack_id = stack::capture_returned::<LOOP>(thread, &registers);
    let event = AllocationEvent {
        header: emit::header(EventKind::Allocated, thread, flags::RECORDED),
        address,
        size_bytes,
        stack_id,
        old_address: 0,
    };
    if emit::allocation(event).is_err() {
        count(Counter::LostAllocations);
        add(Counter::LostAllocatedBytes, size_bytes);
    }
}

/// The start of the span that an object is in, and the size of its slots; `None` when it is not in the heap.
#[inline(always)]
fn slot(address: u64, ip: u64, place: &GoAllocated) -> Option<(u64, u64)> {
    let (arena, page) = arena_and_page(address);
    let arenas = read_user(ip.wrapping_add(place.arenas_distance))?;
    let arena = read_user(arenas.wrapping_add(8 * arena)).filter(|arena| *arena != 0)?;
    let spans = arena.wrapping_add(u64::from(place.spans_offset));
    let span = read_user(spans.wrapping_add(8 * page)).filter(|span| *span != 0)?;
    let start = read_user(span.wrapping_add(u64::from(place.start_offset)))?;
    let slot_bytes = read_user(span.wrapping_add(u64::from(place.object_bytes_offset)))?;
    Some((start, slot_bytes))
}

/// `(*sweepLocked).sweep(preserve)`.
#[uprobe]
pub fn go_swept(context: ProbeContext) -> u32 {
    private_stack::decline();
    let (probe, start_ns) = (current_probe(&context), now_ns());
    let Some(place) = GO_SWEEPS.get(probe.row) else {
        count(Counter::UnknownFunctions);
        return 0;
    };
    record_sweep(&context, place);
    count_told_release(probe.process, start_ns, u64::from(place.single_stepped));
    0
}

#[inline(always)]
fn record_sweep(context: &ProbeContext, place: &GoSweep) {
    let thread = Thread::current();
    if TARGETS.get_ptr(thread.tgid).is_none() {
        return;
    }
    // SAFETY: the context of a uprobe program is the probed thread's registers.
    let locked = unsafe { (*context.as_ptr().cast::<pt_regs>()).rax };
    let Some(([start, slot_bytes, slots], marks)) = span(locked, place) else {
        count(Counter::UnreadableArguments);
        return;
    };
    let slots = if slots > MAX_SLOTS { MAX_SLOTS } else { slots };
    let mark_bytes = (slots as u32).div_ceil(8);
    let header = emit::header(EventKind::GoSwept, thread, 0);
    match emit::go_swept(header, [start, slot_bytes, slots], marks, mark_bytes) {
        Ok(()) => {}
        Err(emit::Lost::Full) => count(Counter::LostFrees),
        Err(emit::Lost::Unreadable) => count(Counter::UnreadableArguments),
    }
}

/// A span that is swept: its start, the size of its slots and how many there are; and where their marks are.
#[inline(always)]
fn span(locked: u64, place: &GoSweep) -> Option<([u64; 3], u64)> {
    let span = read_user(locked)?;
    let field = |offset: u32| read_user(span.wrapping_add(u64::from(offset)));
    let (start, slot_bytes) = (field(place.start_offset)?, field(place.object_bytes_offset)?);
    let slots = field(place.objects_offset)?;
    let slots = if place.objects_bytes == 2 { slots & 0xffff } else { slots };
    let marks = match place.inline_marks(start, slot_bytes) {
        Some(marks) => marks,
        None => field(place.marks_offset)?,
    };
    Some(([start, slot_bytes, slots], marks))
}
