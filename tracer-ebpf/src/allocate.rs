//! Entry and return of functions that give out blocks.
//!
//! One body for all of them: the cookie says how a function takes its size and gives its block. As a session program
//! (kernel 6.13) entry and return are one program, and an entry that answers 1 is never told of its return; as two
//! programs (before), every return is trapped. The return of a function that may throw is never trapped: it is seen at its
//! exits.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_func_ip;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use tracer_common::counter::Counter;
use tracer_common::event::{AllocationEvent, EventKind, flags};
use tracer_common::exit::{Condition, ExitInfo};
use tracer_common::function::{FunctionInfo, IMPOSSIBLE_SIZE_BYTES, Shape, traits};
use tracer_common::live::{LiveBlock, LiveKey};
use tracer_common::stack::NO_STACK;

use crate::call::{
    Registers, Thread, forget_thrown, is_alive, is_traced_call, read_register, read_user,
};
use crate::counters::{add, count};
use crate::maps::{
    Call, EXITS, FUNCTIONS, IN_FLIGHT, LIVE, SAMPLE_MEAN_BYTES, SUSPENDED, call_flags,
};
use crate::process_row::{
    control, count_allocation, count_exit, count_return, count_work_since, current_probe, now_ns,
};
use crate::sample::{Decision, decide};
use crate::stack::{WITH_LOOP, WITHOUT_LOOP};
use crate::{emit, private_stack, stack};

/// Answer of a session program's entry: do not trap the return.
const SKIP_RETURN: u32 = 1;

/// Entry and return in one program, for session links.
#[uprobe]
pub fn allocate_both(context: ProbeContext) -> u32 {
    private_stack::decline();
    // SAFETY: the helper takes the program's own context.
    let function_ip = unsafe { bpf_get_func_ip(context.as_ptr()) };
    let registers = Registers::read(&context);
    if function_ip == registers.ip {
        u32::from(!enter::<WITH_LOOP>(&context, &registers)) * SKIP_RETURN
    } else {
        leave(&registers);
        0
    }
}

/// Entry, where entry and return are two links.
#[uprobe]
pub fn allocate_enter(context: ProbeContext) -> u32 {
    private_stack::decline();
    let registers = Registers::read(&context);
    enter::<WITH_LOOP>(&context, &registers);
    0
}

/// As [`allocate_enter`], for kernels before 5.17.
#[uprobe]
pub fn allocate_enter_early(context: ProbeContext) -> u32 {
    let registers = Registers::read(&context);
    enter::<WITHOUT_LOOP>(&context, &registers);
    0
}

/// Return, where entry and return are two links.
#[uretprobe]
pub fn allocate_leave(context: RetProbeContext) -> u32 {
    private_stack::decline();
    let registers = Registers::read(&ProbeContext::new(context.as_ptr()));
    leave(&registers);
    0
}

/// An exit of a function that may throw: an instruction on the way to a return, with the block in a register. Other
/// functions may pass it too.
#[uprobe]
pub fn allocate_exit(context: ProbeContext) -> u32 {
    private_stack::decline();
    let probe = current_probe(&context);
    let Some(exit) = EXITS.get(probe.row) else { return 0 };
    if count_exit(probe.process, exit).is_none() {
        return 0;
    }
    let thread = Thread::current();
    let registers = Registers::read(&context);
    for key in [thread.tid, thread.tid | SUSPENDED] {
        // SAFETY: the element belongs to this thread.
        let Some(call) = (unsafe { IN_FLIGHT.get(key) }) else { continue };
        if !is_leaving(call, exit, &registers) {
            continue;
        }
        let call = *call;
        let _ = IN_FLIGHT.remove(key);
        // A place that cannot be read does not exist: userspace checks it.
        end(thread, &call, read_register(&context, exit.register_offset).unwrap_or(0));
        break;
    }
    0
}

/// Whether it is this call that passes an exit: it stands where the call was entered, with the same return address.
#[inline(always)]
fn is_leaving(call: &Call, exit: &ExitInfo, registers: &Registers) -> bool {
    call.flags & call_flags::BY_EXITS != 0
        && registers.sp.wrapping_add(u64::from(exit.stack_bytes)) == call.sp
        && is_alive(call)
        && Condition(exit.condition).holds(registers.flags)
}

/// Arguments without the heap that comes before them, if one does. Without a branch: each one doubles what the verifier
/// walks.
#[inline(always)]
fn own_arguments(info: &FunctionInfo, registers: &Registers) -> [u64; 3] {
    let [first, second, third, fourth] = registers.arguments;
    let after_heap = core::hint::black_box(info.after_heap());
    [
        first ^ ((first ^ second) & after_heap),
        second ^ ((second ^ third) & after_heap),
        third ^ ((third ^ fourth) & after_heap),
    ]
}

/// The size and the block that a call passes. `None` when the size cannot be had: the call is going to fail.
#[inline(always)]
fn arguments(shape: Shape, info: &FunctionInfo, registers: &Registers) -> Option<(u64, u64)> {
    let [first, second, third] = own_arguments(info, registers);
    let (size_bytes, address) = match shape {
        Shape::Size => (first, 0),
        Shape::CountSize => (product(first, second)?, 0),
        Shape::AlignmentSize => (second, 0),
        Shape::OutAlignmentSize => (third, first),
        Shape::Resize | Shape::ResizeInPlace => (second, first),
        Shape::ResizeCount => (product(second, third)?, first),
        Shape::Release | Shape::ReleaseHeap => return None,
    };
    (size_bytes < IMPOSSIBLE_SIZE_BYTES).then_some((size_bytes, address))
}

/// Product of two sizes, `None` when it is impossible. Written without a 128-bit product, which BPF lacks.
#[inline(always)]
fn product(count: u64, size: u64) -> Option<u64> {
    const HALF: u64 = 1 << 32;
    if (count >= HALF || size >= HALF) && count != 0 && size > IMPOSSIBLE_SIZE_BYTES / count {
        return None;
    }
    Some(count.wrapping_mul(size))
}

/// Handles an entry; true when its return is wanted.
#[inline(always)]
fn enter<const LOOP: bool>(context: &ProbeContext, registers: &Registers) -> bool {
    let probe = current_probe(context);
    let row = FUNCTIONS.get(probe.row);
    let Some((info, shape)) = row.and_then(|info| Some((info, Shape::from_number(info.shape)?)))
    else {
        count(Counter::UnknownFunctions);
        return false;
    };
    if count_allocation(probe.process, info).is_none() {
        count(Counter::UnknownFunctions);
        return false;
    }
    let Some((size_bytes, address)) = arguments(shape, info, registers) else {
        count(Counter::FailedCalls);
        return false;
    };
    let thread = Thread::current();
    if info.traits & traits::MEETS_EXITS != 0 {
        forget_thrown(thread, registers);
    }
    let mut call = Call {
        sp: registers.sp,
        ip: registers.ip,
        return_address: 0,
        function: probe.row,
        process: probe.process,
        size_bytes,
        old_address: address,
        stack_id: NO_STACK,
        flags: 0,
        doublings: 0,
        old_block: LiveBlock { size_bytes: 0, stack_id: 0, at_ns: 0, doublings: 0, reserved: 0 },
    };
    if info.traits & traits::LEAVES_BY_EXITS != 0 {
        let Some(return_address) = read_user(registers.sp) else { return false };
        call.return_address = return_address;
        call.flags = call_flags::BY_EXITS;
    }
    let wanted = if SAMPLE_MEAN_BYTES.load() == 0 {
        choose_all(thread, registers, info, shape, &mut call)
    } else {
        choose_sampled(thread, registers, info, shape, &mut call)
    };
    wanted && begin::<LOOP>(thread, registers, call)
}

/// Every call of a traced process is recorded.
#[inline(always)]
fn choose_all(
    thread: Thread,
    registers: &Registers,
    info: &FunctionInfo,
    shape: Shape,
    call: &mut Call,
) -> bool {
    if !is_traced_call(thread, registers, info) {
        return false;
    }
    call.flags |= call_flags::RECORDED;
    if shape.resizes() && call.old_address != 0 {
        call.flags |= call_flags::WITHDRAWN;
    }
    true
}

/// A call is recorded when it is sampled, or when it resizes a block that was.
#[inline(always)]
fn choose_sampled(
    thread: Thread,
    registers: &Registers,
    info: &FunctionInfo,
    shape: Shape,
    call: &mut Call,
) -> bool {
    let Some(control) = control(call.process) else { return false };
    call.doublings = control.doublings;
    match decide(thread, registers, info, shape, call.size_bytes, control.doublings) {
        Decision::Sampled => call.flags |= call_flags::RECORDED,
        Decision::Unsampled => {}
        Decision::Nested => {
            count(Counter::NestedCalls);
            return false;
        }
    }
    let key = LiveKey { tgid: thread.tgid, reserved: 0, address: call.old_address };
    let old = if shape.resizes() && control.without_frees == 0 {
        // SAFETY: the block is outstanding and its owner is here, so nobody else changes the element.
        unsafe { LIVE.get(key) }.copied()
    } else {
        None
    };
    if call.flags & call_flags::RECORDED == 0 && old.is_none() {
        return false;
    }
    if !is_traced_call(thread, registers, info) {
        return false;
    }
    call.flags |= control.without_frees * call_flags::UNTRACKED;
    if let Some(block) = old {
        call.old_block = block;
        call.flags |= call_flags::WITHDRAWN;
        let _ = LIVE.remove(key);
    }
    true
}

/// Notes a call that is to be recorded; true when its return is wanted.
#[inline(always)]
fn begin<const LOOP: bool>(thread: Thread, registers: &Registers, mut call: Call) -> bool {
    let start_ns = now_ns();
    if call.flags & call_flags::RECORDED != 0 {
        call.stack_id = stack::capture::<LOOP>(thread, registers);
    }
    if IN_FLIGHT.insert(thread.tid, call, 0).is_err() {
        count(Counter::InFlightFull);
        add(Counter::InFlightFullBytes, call.size_bytes);
        return false;
    }
    if call.flags & call_flags::WITHDRAWN != 0
        && emit::release(EventKind::Withdrawn, thread, call.old_address).is_err()
    {
        count(Counter::LostResizes);
    }
    count_work_since(call.process, start_ns);
    true
}

/// Handles a return.
#[inline(always)]
fn leave(registers: &Registers) {
    let thread = Thread::current();
    // SAFETY: the element belongs to this thread.
    let Some(call) = (unsafe { IN_FLIGHT.get(thread.tid) }).copied() else { return };
    // The return address has been popped: any other stack pointer is the return of a call that was not noted.
    if registers.sp != call.sp + 8 {
        return;
    }
    let _ = IN_FLIGHT.remove(thread.tid);
    count_return(call.process);
    end(thread, &call, registers.result);
}

/// Ends a call that gave `result`.
#[inline(always)]
fn end(thread: Thread, call: &Call, result: u64) {
    let start_ns = now_ns();
    tell_end(thread, call, result, start_ns);
    count_work_since(call.process, start_ns);
}

/// Tells what a call that was recorded came to.
#[inline(always)]
fn tell_end(thread: Thread, call: &Call, result: u64, at_ns: u64) {
    let shape = FUNCTIONS.get(call.function).and_then(|info| Shape::from_number(info.shape));
    let Some(shape) = shape else { return };
    let address = match shape {
        Shape::OutAlignmentSize => out_parameter(result, call),
        // It has failed when there are fewer bytes than asked for.
        Shape::ResizeInPlace if result < call.size_bytes => 0,
        Shape::ResizeInPlace => call.old_address,
        _ => result,
    };
    if call.flags & call_flags::WITHDRAWN != 0 {
        end_resize(thread, call, address, at_ns);
    } else if address == 0 {
        count(Counter::FailedCalls);
    } else {
        end_allocation(thread, call, address, EventKind::Allocated, at_ns);
    }
}

/// The block that posix_memalign stored, 0 when it failed.
#[inline(always)]
fn out_parameter(result: u64, call: &Call) -> u64 {
    if result as u32 != 0 {
        return 0;
    }
    read_user(call.old_address).unwrap_or_else(|| {
        count(Counter::UnreadableResults);
        0
    })
}

/// Tells of a block given out; in sampling mode it is followed from now on.
#[inline(always)]
fn end_allocation(thread: Thread, call: &Call, address: u64, kind: EventKind, at_ns: u64) {
    let mut bits = flags::RECORDED | flags::of_doublings(call.doublings);
    if call.flags & call_flags::UNTRACKED != 0 {
        bits |= flags::UNTRACKED;
    } else if SAMPLE_MEAN_BYTES.load() != 0 {
        let key = LiveKey { tgid: thread.tgid, reserved: 0, address };
        let block = LiveBlock {
            size_bytes: call.size_bytes,
            stack_id: call.stack_id,
            at_ns,
            doublings: call.doublings,
            reserved: 0,
        };
        if LIVE.insert(key, block, 0).is_err() {
            count(Counter::LiveFull);
            bits |= flags::UNTRACKED;
        }
    }
    let old_address = if matches!(kind, EventKind::Resized) { call.old_address } else { 0 };
    let event = AllocationEvent {
        header: emit::header_at(kind, thread, bits, at_ns),
        address,
        size_bytes: call.size_bytes,
        stack_id: call.stack_id,
        old_address,
    };
    if emit::allocation(event).is_err() {
        count(Counter::LostAllocations);
        add(Counter::LostAllocatedBytes, call.size_bytes);
        if old_address != 0 {
            count(Counter::LostFrees);
        }
    }
}

/// Tells what became of the block handed to realloc.
#[inline(always)]
fn end_resize(thread: Thread, call: &Call, address: u64, at_ns: u64) {
    if address != 0 && call.flags & call_flags::RECORDED != 0 {
        end_allocation(thread, call, address, EventKind::Resized, at_ns);
        return;
    }
    let failed = address == 0 && call.size_bytes != 0;
    if failed {
        count(Counter::FailedCalls);
        if SAMPLE_MEAN_BYTES.load() != 0 {
            let key = LiveKey { tgid: thread.tgid, reserved: 0, address: call.old_address };
            let _ = LIVE.insert(key, call.old_block, 0);
        }
    }
    let event = AllocationEvent {
        header: emit::header_at(EventKind::Resized, thread, 0, at_ns),
        // What counts is that there is a block, not where: it is not recorded.
        address,
        size_bytes: call.size_bytes,
        stack_id: NO_STACK,
        old_address: call.old_address,
    };
    if emit::allocation(event).is_err() {
        count(if failed { Counter::LostResizes } else { Counter::LostFrees });
    }
}
