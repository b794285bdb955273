//! Call stacks: walked at the entry of a call, hashed, and published once.
//!
//! Callers are found by unwind tables, and by frame pointers where there is none.
//!
//! The probed instruction comes before the function has set up its frame, so the caller is at the stack pointer and
//! the frame pointer is still the caller's.

mod table;

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use tracer_common::counter::Counter;
use tracer_common::event::EventKind;
use tracer_common::limits::{MAX_FRAME_BYTES, MAX_FRAMES, STACK_SLOTS};
use tracer_common::stack::{NO_STACK, StackEnd, hash_frame, hash_seed};

use crate::call::{Registers, Thread, read_user, read_user_pair};
use crate::counters::count;
use crate::emit;
use crate::maps::{EVENTS, SEEN_STACKS, STACK_WALKS, StackWalk, TARGETS};

/// Whether the kernel has `bpf_loop` (5.17).
///
/// Before it, an ordinary loop calls a global function, which the verifier walks once and not for each frame; and nothing
/// has to be atomic (exchanges came with 5.12), since programs of uprobes could not be preempted before 6.0.
pub const WITH_LOOP: bool = true;
/// See [`WITH_LOOP`].
pub const WITHOUT_LOOP: bool = false;

/// Identifier of the current call's stack, published if it is new; [`NO_STACK`] if it could not be walked.
#[inline(always)]
pub fn capture<const LOOP: bool>(thread: Thread, registers: &Registers) -> u64 {
    let Some((index, walk)) = claim::<LOOP>() else {
        count(Counter::StackSlotsBusy);
        return NO_STACK;
    };
    start(walk, thread, registers);
    if LOOP {
        let mut slot = walk;
        // SAFETY: `step` has the signature of a loop callback; its context is the claimed slot.
        unsafe { bpf_loop(MAX_FRAMES as u32, step as *mut c_void, (&raw mut slot).cast(), 0) };
    } else {
        for _ in 0..MAX_FRAMES {
            if stack_step(index) != 0 {
                break;
            }
        }
    }
    let id = finish(walk);
    release(walk);
    id
}

/// Takes a slot of this CPU that no preempted task holds, and gives its index too.
#[inline(always)]
fn claim<const LOOP: bool>() -> Option<(u32, *mut StackWalk)> {
    if !LOOP {
        return Some((0, STACK_WALKS.get_ptr_mut(0)?));
    }
    for index in 0..STACK_SLOTS {
        let walk = STACK_WALKS.get_ptr_mut(index)?;
        let mut claimed = 1_u64;
        // SAFETY: the pointer is to a map element; the exchange is one atomic instruction.
        unsafe {
            asm!("{v} = xchg_64({p} + 0, {v})", p = in(reg) &raw mut (*walk).claimed, v = inout(reg) claimed)
        };
        if claimed == 0 {
            return Some((index, walk));
        }
    }
    None
}

#[inline(always)]
fn release(walk: *mut StackWalk) {
    // SAFETY: the slot is ours until this write.
    unsafe { (*walk).claimed = 0 };
}

#[inline(always)]
fn start(walk: *mut StackWalk, thread: Thread, registers: &Registers) {
    // SAFETY: the slot is ours.
    let walk = unsafe { &mut *walk };
    walk.ip = registers.ip;
    walk.sp = registers.sp;
    walk.fp = registers.fp;
    // SAFETY: the value is a plain number.
    walk.code_version = unsafe { TARGETS.get(thread.tgid) }.copied().unwrap_or(0);
    walk.range.start = 1;
    walk.range.end = 0;
    walk.record.kind = EventKind::Stack as u32;
    walk.record.tgid = thread.tgid;
    walk.record.id = hash_seed(thread.tgid);
    walk.record.frame_count = 0;
    walk.record.end = StackEnd::TooDeep as u32;
}

/// Keeps the current frame and moves to its caller. Returns 1 at the end of the stack.
///
/// The state lives in a map element and not on the BPF stack: the verifier tracks constants on the stack precisely and
/// would follow every iteration as a path of its own.
unsafe extern "C" fn step(_index: u32, context: *mut c_void) -> i64 {
    // SAFETY: the context is the slot that `capture` passed.
    i64::from(advance(unsafe { &mut **context.cast::<*mut StackWalk>() }))
}

/// The same for a slot of this CPU: a global function, whose argument and result can be numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn stack_step(slot: u32) -> u32 {
    match STACK_WALKS.get_ptr_mut(slot) {
        // SAFETY: the slot is in use by the caller; see `WITH_LOOP` for why by nobody else.
        Some(walk) => advance(unsafe { &mut *walk }),
        None => 1,
    }
}

#[inline(always)]
fn advance(walk: &mut StackWalk) -> u32 {
    let depth = walk.record.frame_count;
    keep(walk);
    let next = if depth == 0 { caller_at_entry(walk) } else { table::caller(walk) };
    match next {
        Ok(()) => 0,
        Err(end) => {
            walk.record.end = end as u32;
            1
        }
    }
}

#[inline(always)]
fn keep(walk: &mut StackWalk) {
    let depth = walk.record.frame_count as usize;
    if let Some(frame) = walk.record.frames.get_mut(depth) {
        *frame = walk.ip;
    }
    walk.record.frame_count = depth as u32 + 1;
    walk.record.id = hash_frame(walk.record.id, walk.ip);
}

#[inline(always)]
fn caller_at_entry(walk: &mut StackWalk) -> Result<(), StackEnd> {
    walk.ip = read_user(walk.sp).ok_or(StackEnd::Unreadable)?;
    walk.sp += 8;
    Ok(())
}

/// Moves to the caller by the chain of frame pointers: for code that has no unwind table.
#[inline(always)]
pub fn caller_by_frame_pointer(walk: &mut StackWalk) -> Result<(), StackEnd> {
    let fp = walk.fp;
    if fp == 0 {
        return Err(StackEnd::Root);
    }
    if fp & 7 != 0 || fp < walk.sp || fp - walk.sp > MAX_FRAME_BYTES {
        return Err(StackEnd::FramePointerLost);
    }
    let [next, return_address] = read_user_pair(fp).ok_or(StackEnd::Unreadable)?;
    if return_address == 0 {
        return Err(StackEnd::Root);
    }
    walk.ip = return_address;
    walk.sp = fp + 16;
    walk.fp = next;
    Ok(())
}

/// Publishes the stack unless it was before. It counts as published only once the ring buffer has taken it.
#[inline(always)]
fn finish(walk: *mut StackWalk) -> u64 {
    // SAFETY: the slot is ours.
    let record = unsafe { &mut (*walk).record };
    if record.id == NO_STACK {
        record.id = 1;
    }
    let id = record.id;
    // SAFETY: the value is not used.
    if unsafe { SEEN_STACKS.get(id) }.is_some() {
        return id;
    }
    let frames = u64::from(record.frame_count).min(MAX_FRAMES as u64);
    let size_bytes = 24 + 8 * frames;
    // SAFETY: the record is at least that long: 24 bytes and at most MAX_FRAMES frames of 8.
    let result = unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            (&raw mut *record).cast(),
            size_bytes,
            emit::wakeup(),
        )
    };
    if result == 0 {
        let _ = SEEN_STACKS.insert(id, 1, 0);
    } else {
        count(Counter::LostStacks);
    }
    id
}
