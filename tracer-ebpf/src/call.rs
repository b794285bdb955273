//! Calls between entry and return, and which calls are made by another hooked function.
//!
//! reallocarray calls realloc, which calls malloc or free. Only the outermost call counts. A call is nested when the
//! outer one is still there and the caller is the allocator itself. The outer one is there while its return address is on
//! the stack, or the return trampoline that the kernel put in its place. A longjmp leaves an outer call behind that never
//! returns: it is recognised and counted, not obeyed.
//!
//! operator new calls functions that are not its own: a new-handler, or those that make an exception. What they allocate
//! counts, and operator new waits for it, suspended. All its ways out but an exception are watched, so that a call left
//! behind has thrown and gave no block.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, bpf_probe_read_user};
use aya_ebpf::programs::ProbeContext;
use tracer_common::counter::Counter;
use tracer_common::event::EventKind;
use tracer_common::function::{FunctionInfo, traits};
use tracer_common::live::LiveKey;

use crate::counters::{add, count};
use crate::emit;
use crate::maps::{Call, IN_FLIGHT, LIVE, SAMPLE_MEAN_BYTES, SUSPENDED, TARGETS, call_flags};

/// The thread that runs the probed instruction.
#[derive(Clone, Copy)]
pub struct Thread {
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
}

impl Thread {
    /// The current one.
    #[inline(always)]
    pub fn current() -> Self {
        let both = bpf_get_current_pid_tgid();
        Self { tgid: (both >> 32) as u32, tid: both as u32 }
    }
}

/// Registers of the probed thread.
#[derive(Clone, Copy)]
pub struct Registers {
    /// First four arguments.
    pub arguments: [u64; 4],
    /// Return value.
    pub result: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Flags of the processor.
    pub flags: u64,
}

impl Registers {
    /// Reads them once: later reads of the context as map keys would not pass the verifier.
    #[inline(always)]
    pub fn read(context: &ProbeContext) -> Self {
        // SAFETY: the context of a uprobe program is the probed thread's registers.
        let regs = unsafe { &*context.as_ptr().cast::<pt_regs>() };
        Self {
            arguments: [regs.rdi, regs.rsi, regs.rdx, regs.rcx],
            result: regs.rax,
            ip: regs.rip,
            sp: regs.rsp,
            fp: regs.rbp,
            flags: regs.eflags,
        }
    }
}

/// A register of the probed thread, by its place in `struct pt_regs`.
#[inline(always)]
pub fn read_register(context: &ProbeContext, offset: u32) -> Option<u64> {
    const LAST: u32 = size_of::<pt_regs>() as u32 - 8;
    if offset > LAST {
        return None;
    }
    let registers: *const u8 = context.as_ptr().cast();
    // SAFETY: the helper checks what it reads; the place is within the context.
    unsafe { bpf_probe_read_kernel(registers.wrapping_add(offset as usize).cast::<u64>()) }.ok()
}

/// Eight bytes of the target's memory.
#[inline(always)]
pub fn read_user(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address and fails on what cannot be read.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}

/// Whether a call is one to record: made in a traced process, and not by another hooked function.
#[inline(always)]
pub fn is_traced_call(thread: Thread, registers: &Registers, info: &FunctionInfo) -> bool {
    if TARGETS.get_ptr(thread.tgid).is_none() {
        return false;
    }
    let nested = is_nested(thread, registers, info);
    if nested {
        count(Counter::NestedCalls);
    }
    !nested
}

/// Whether the thread is inside a hooked function that now calls this one.
///
/// `info` is the row of the function entered. A call left behind by a longjmp is forgotten, counted, and its withdrawn
/// block told as abandoned.
#[inline(always)]
fn is_nested(thread: Thread, registers: &Registers, info: &FunctionInfo) -> bool {
    if info.traits & traits::MEETS_EXITS != 0 {
        // SAFETY: as below.
        let waiting = unsafe { IN_FLIGHT.get(thread.tid | SUSPENDED) };
        if waiting.is_some_and(|waiting| is_forwarded(registers, waiting, info)) {
            return true;
        }
    }
    // SAFETY: the element belongs to this thread; nobody else writes or removes it while the thread is here.
    let Some(outer) = (unsafe { IN_FLIGHT.get(thread.tid) }) else {
        return false;
    };
    if is_forwarded(registers, outer, info) {
        return true;
    }
    let outer = *outer;
    if leaves_by_exits(&outer) && registers.sp < outer.sp && is_alive(&outer) {
        suspend(thread, &outer);
    } else {
        abandon(thread, &outer);
    }
    false
}

/// Makes room for a call that a function which may throw makes of somebody else's.
#[inline(always)]
fn suspend(thread: Thread, call: &Call) {
    let key = thread.tid | SUSPENDED;
    // SAFETY: the element belongs to this thread.
    if let Some(before) = unsafe { IN_FLIGHT.get(key) }
        && before.sp > call.sp
        && is_alive(before)
    {
        // There is room for one: whatever it gives will not be seen.
        count(Counter::MissedReturns);
        add(Counter::MissedReturnBytes, before.size_bytes);
    }
    let _ = IN_FLIGHT.remove(thread.tid);
    if IN_FLIGHT.insert(key, call, 0).is_err() {
        count(Counter::MissedReturns);
        add(Counter::MissedReturnBytes, call.size_bytes);
    }
}

/// Forgets calls that an exception has ended, at the entry of a call that can pass their exits: their place on the stack is
/// this call's now.
#[inline(always)]
pub fn forget_thrown(thread: Thread, registers: &Registers) {
    for key in [thread.tid, thread.tid | SUSPENDED] {
        // SAFETY: the element belongs to this thread.
        let Some(call) = (unsafe { IN_FLIGHT.get(key) }) else { continue };
        // At the same place, only another function that it has jumped to leaves it alive.
        let is_over = call.sp < registers.sp
            || call.sp == registers.sp && (call.ip == registers.ip || !is_alive(call));
        if leaves_by_exits(call) && is_over {
            restore_withdrawn(thread.tgid, key);
            let _ = IN_FLIGHT.remove(key);
            count(Counter::FailedCalls);
        }
    }
}

#[inline(always)]
fn leaves_by_exits(call: &Call) -> bool {
    call.flags & call_flags::BY_EXITS != 0
}

/// Whether the call has not returned, by what is on the stack.
#[inline(always)]
pub fn is_alive(call: &Call) -> bool {
    let Some(return_address) = read_user(call.sp) else { return false };
    if leaves_by_exits(call) {
        return_address == call.return_address
    } else {
        is_trampoline(return_address)
    }
}

/// Whether a function that stands at the same place on the stack was reached from the outer one by a jump: both share the
/// return address, which is the trampoline when the outer one's return is trapped. When it is not, a second call from the
/// same place looks the same, but for the function.
#[inline(always)]
fn is_jumped_to(registers: &Registers, outer: &Call, return_address: u64) -> bool {
    is_trampoline(return_address)
        || return_address == outer.return_address && registers.ip != outer.ip
}

/// Whether the outer call is alive and this one is made by the allocator.
#[inline(always)]
fn is_forwarded(registers: &Registers, outer: &Call, info: &FunctionInfo) -> bool {
    if registers.sp > outer.sp || !is_alive(outer) {
        return false;
    }
    let Some(return_address) = read_user(registers.sp) else { return false };
    if registers.sp == outer.sp {
        return is_jumped_to(registers, outer, return_address);
    }
    // The trampoline: a hooked function was called here, was itself forwarded, and has jumped on to this one.
    is_in_text(registers.ip, info, return_address) | is_trampoline(return_address)
}

#[inline(always)]
fn is_in_text(ip: u64, info: &FunctionInfo, address: u64) -> bool {
    let start = ip.wrapping_sub(info.text_before);
    address.wrapping_sub(start) < info.text_before.wrapping_add(info.text_after)
}

/// Whether a return address is the trampoline that the kernel replaced it with: the start of a page of its own
/// (kernel/events/uprobes.c, `uprobe_get_trampoline_vaddr`, 6.18). A true return address follows a call, and a call that
/// ends a page is too rare to matter.
#[inline(always)]
pub fn is_trampoline(return_address: u64) -> bool {
    return_address != 0 && return_address & 0xfff == 0
}

/// Gives up a call whose return will never be seen: its block stays, as far as anybody can tell.
#[inline(always)]
pub fn abandon(thread: Thread, call: &Call) {
    restore_withdrawn(thread.tgid, thread.tid);
    let _ = IN_FLIGHT.remove(thread.tid);
    if leaves_by_exits(call) {
        count(Counter::FailedCalls);
        return;
    }
    count(Counter::MissedReturns);
    add(Counter::MissedReturnBytes, call.size_bytes);
}

/// The block that a call in flight was to resize is as it was: nothing is known of another.
///
/// A global function, which the verifier walks once and not on every way that leads here: its arguments and its result can be
/// numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn restore_withdrawn(tgid: u32, key: u32) -> u32 {
    // SAFETY: the element belongs to the thread that runs this.
    let Some(call) = (unsafe { IN_FLIGHT.get(key) }) else { return 0 };
    if call.flags & call_flags::WITHDRAWN == 0 {
        return 0;
    }
    if SAMPLE_MEAN_BYTES.load() != 0 {
        let live = LiveKey { tgid, reserved: 0, address: call.old_address };
        let _ = LIVE.insert(live, call.old_block, 0);
    }
    let thread = Thread { tgid, tid: key & !SUSPENDED };
    if emit::release(EventKind::Abandoned, thread, call.old_address).is_err() {
        count(Counter::LostResizes);
    }
    1
}
