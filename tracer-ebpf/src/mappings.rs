//! What traced processes map and unmap: mmap, munmap, mremap, brk, whoever makes the system call.
//!
//! An unmapping is told at entry, before another thread can be given the range; a mapping at return. A call made inside
//! a recorded allocating function is the allocator's: it needs no stack, and has none that leads further, since the
//! allocator's return address is the kernel's trampoline.
//!
//! Every system call of the host runs these programs while they are attached: they look at its number first, and leave.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::counter::Counter;
use tracer_common::event::EventKind;
use tracer_common::mapping::{MappingEvent, flags};
use tracer_common::stack::NO_STACK;

use crate::call::{Registers, Thread, is_alive};
use crate::counters::{add, count};
use crate::maps::{EVENTS, IN_FLIGHT, TARGETS};
use crate::process_row::{count_mapping_work_since, now_ns};
use crate::{emit, stack};

/// System call numbers (arch/x86/entry/syscalls/syscall_64.tbl).
const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const BRK: u64 = 12;
const MREMAP: u64 = 25;

/// System calls return an error as a number from here on.
const FIRST_ERROR: u64 = -4095_i64 as u64;

/// `sys_enter`: a range is about to be unmapped or moved.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn mapping_call_enters(context: RawTracePointContext) -> u32 {
    let number: u64 = context.arg(1);
    if number != MUNMAP && number != MREMAP {
        return 0;
    }
    let thread = Thread::current();
    if TARGETS.get_ptr(thread.tgid).is_none() {
        return 0;
    }
    let Some(registers) = read_registers(context.arg(0)) else { return 0 };
    count(Counter::MappingHits);
    let kind = if number == MUNMAP { EventKind::Unmapping } else { EventKind::Remapping };
    if tell(range_event(kind, thread, &registers)).is_err() {
        count(Counter::LostUnmappings);
    }
    0
}

/// `sys_exit`: a range was mapped or moved, or an unmapping has failed.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn mapping_call_leaves(context: RawTracePointContext) -> u32 {
    let at: *const pt_regs = context.arg(0);
    // SAFETY: the helper checks the address; the number is read alone, since most calls are others.
    let number = unsafe { bpf_probe_read_kernel(&raw const (*at).orig_rax) };
    let Ok(number @ (MMAP | MUNMAP | MREMAP | BRK)) = number else { return 0 };
    let thread = Thread::current();
    // SAFETY: the value is plain numbers.
    let Some(row) = (unsafe { TARGETS.get(thread.tgid) }).copied() else { return 0 };
    let Some(registers) = read_registers(at) else { return 0 };
    let start_ns = now_ns();
    let result: u64 = context.arg(1);
    if number == MUNMAP {
        if result >= FIRST_ERROR {
            unmapping_failed(thread, &registers);
        }
    } else {
        mapped(thread, number, &registers, result);
    }
    count_mapping_work_since(row.process, start_ns);
    0
}

/// Registers of a thread in a system call are those it had in user mode, but for the result.
#[inline(always)]
fn read_registers(at: *const pt_regs) -> Option<pt_regs> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(at) }.ok()
}

/// An event about the range that munmap or mremap was handed.
#[inline(always)]
fn range_event(kind: EventKind, thread: Thread, registers: &pt_regs) -> MappingEvent {
    MappingEvent {
        header: emit::header(kind, thread, 0),
        address: registers.rdi,
        length: registers.rsi,
        old_address: 0,
        old_length: 0,
        stack_id: NO_STACK,
        call_flags: 0,
        protection: 0,
    }
}

/// The range is taken to be unmapped: when this is lost, what is lost is a mapping.
#[inline(always)]
fn unmapping_failed(thread: Thread, registers: &pt_regs) {
    if tell(range_event(EventKind::UnmappingFailed, thread, registers)).is_err() {
        count(Counter::LostMappings);
        add(Counter::LostMappedBytes, registers.rsi);
    }
}

/// mmap, mremap and brk: told with who made the call.
#[inline(always)]
fn mapped(thread: Thread, number: u64, registers: &pt_regs, result: u64) {
    let failed = result >= FIRST_ERROR;
    let (kind, has_mapped) = match number {
        MMAP => (EventKind::Mapped, !failed),
        MREMAP => (EventKind::Remapped, !failed),
        _ => (EventKind::BreakMoved, result == registers.rdi),
    };
    if failed && number != MREMAP {
        return;
    }
    let mut event = MappingEvent {
        header: emit::header(kind, thread, 0),
        address: result,
        length: registers.rsi,
        old_address: registers.rdi,
        old_length: registers.rsi,
        stack_id: NO_STACK,
        call_flags: registers.r10 as u32,
        protection: registers.rdx as u32,
    };
    if number == MREMAP {
        event.length = registers.rdx;
        event.protection = 0;
    } else {
        count(Counter::MappingHits);
    }
    event.header.flags = if failed { flags::FAILED } else { 0 };
    if has_mapped {
        event.header.flags |= flags::MOVED;
        name_caller(thread, registers, &mut event);
    }
    if tell(event).is_err() {
        count(Counter::LostMappings);
        if number != BRK {
            add(Counter::LostMappedBytes, event.length);
        }
    }
}

#[inline(always)]
fn name_caller(thread: Thread, registers: &pt_regs, event: &mut MappingEvent) {
    if is_inside_allocator(thread, registers.rsp) {
        event.header.flags |= flags::BY_ALLOCATOR;
        return;
    }
    let registers = Registers {
        arguments: [0; 4],
        result: 0,
        ip: registers.rip,
        sp: registers.rsp,
        fp: registers.rbp,
        flags: registers.eflags,
    };
    event.stack_id = stack::capture_inside(thread, &registers);
}

/// Whether a recorded allocating function is under way further up this thread's stack. One that a longjmp has left
/// behind does not count: its return address is gone from the stack as soon as the place is used again.
#[inline(always)]
fn is_inside_allocator(thread: Thread, sp: u64) -> bool {
    // SAFETY: the element belongs to this thread.
    let Some(call) = (unsafe { IN_FLIGHT.get(thread.tid) }) else { return false };
    sp <= call.sp && is_alive(call)
}

#[inline(always)]
fn tell(event: MappingEvent) -> Result<(), emit::RingFull> {
    let mut entry = EVENTS.reserve::<MappingEvent>(0).ok_or(emit::RingFull)?;
    entry.write(event);
    entry.submit(emit::wakeup());
    Ok(())
}
