//! Call stacks: walked at the entry of a call, hashed, and published once.
//!
//! Callers are found by unwind tables, and by frame pointers where there is none.
//!
//! The probed instruction comes before the function has set up its frame, so the caller is at the stack pointer and
//! the frame pointer is still the caller's.

mod copy;
mod memory;
mod table;

pub use table::range_at;

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use tracer_common::counter::Counter;
use tracer_common::event::EventKind;
use tracer_common::limits::{MAX_FRAME_BYTES, MAX_FRAMES, STACK_SLOTS};
use tracer_common::stack::{
    HASH_SEED, MemoryId, NO_FILE, NO_STACK, StackEnd, frame_file, hash_frame,
};
use tracer_common::unwind::{CfaKind, FpPlace, LINKAGE_ENTRY_BYTES, Rule};

use crate::call::{Registers, Thread};
use crate::counters::count;
use crate::emit;
use crate::maps::{EVENTS, SEEN_STACKS, STACK_WALKS, StackWalk, TARGETS};

/// Where the signal context keeps rbp, rsp and rip, from the stack pointer that the handler returns to
/// (arch/x86/include/uapi/asm/sigcontext.h in `struct rt_sigframe`).
const SIGNAL_FP: i32 = 120;
const SIGNAL_SP: i32 = 160;
const SIGNAL_IP: i32 = 168;

/// Whether the kernel has `bpf_loop` (5.17).
///
/// Before it, an ordinary loop calls a global function, which the verifier walks once and not for each frame; and nothing
/// has to be atomic (exchanges came with 5.12), since programs of uprobes could not be preempted before 6.0.
pub const WITH_LOOP: bool = true;
/// See [`WITH_LOOP`].
pub const WITHOUT_LOOP: bool = false;

/// Where the thread stands in a frame.
mod standing {
    /// After an instruction that left the frame: a call, in all frames but the first.
    pub const AFTER_CALL: u32 = 0;
    /// At the entry of the function, which has not set up its frame.
    pub const AT_ENTRY: u32 = 1;
    /// Before an instruction in the middle of the function.
    pub const BEFORE: u32 = 2;
}

/// Identifier of the current call's stack, published if it is new; [`NO_STACK`] if it could not be walked.
#[inline(always)]
pub fn capture<const LOOP: bool>(thread: Thread, registers: &Registers) -> u64 {
    capture_from::<LOOP>(thread, registers, standing::AT_ENTRY)
}

/// The same for a thread that stands anywhere in a function, right after an instruction such as `syscall`.
#[inline(always)]
pub fn capture_inside(thread: Thread, registers: &Registers) -> u64 {
    capture_returned::<WITH_LOOP>(thread, registers)
}

/// The same for a thread that stands right after a call.
#[inline(always)]
pub fn capture_returned<const LOOP: bool>(thread: Thread, registers: &Registers) -> u64 {
    capture_from::<LOOP>(thread, registers, standing::AFTER_CALL)
}

/// The same for a thread that stands anywhere in a function, before the instruction that is probed.
#[inline(always)]
pub fn capture_before<const LOOP: bool>(thread: Thread, registers: &Registers) -> u64 {
    capture_from::<LOOP>(thread, registers, standing::BEFORE)
}

#[inline(always)]
fn capture_from<const LOOP: bool>(thread: Thread, registers: &Registers, standing: u32) -> u64 {
    let Some((index, walk)) = claim::<LOOP>() else {
        count(Counter::StackSlotsBusy);
        return NO_STACK;
    };
    start(walk, thread, registers, standing);
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
fn start(walk: *mut StackWalk, thread: Thread, registers: &Registers, standing: u32) {
    // SAFETY: the slot is ours.
    let walk = unsafe { &mut *walk };
    walk.ip = registers.ip;
    walk.sp = registers.sp;
    walk.fp = registers.fp;
    walk.standing = standing;
    // SAFETY: the value is a plain number.
    walk.code_version = unsafe { TARGETS.get(thread.tgid) }.map_or(0, |row| row.code_version);
    walk.unknown_depth = 0;
    walk.range.start = 1;
    walk.range.end = 0;
    memory::forget(walk);
    walk.record.kind = EventKind::Stack as u32;
    walk.record.tgid = thread.tgid;
    walk.record.id = HASH_SEED;
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
    let at_entry = walk.standing == standing::AT_ENTRY;
    // A return address can be the first byte after its function, when the call does not return.
    let before = u64::from(walk.standing == standing::AFTER_CALL);
    walk.standing = standing::AFTER_CALL;
    let code = table::code_at(walk, walk.ip.wrapping_sub(before));
    keep(walk, code.frame.wrapping_add(before));
    if frame_file(code.frame) == NO_FILE && walk.unknown_depth == 0 && !at_entry {
        walk.unknown_depth = walk.record.frame_count;
        // Whoever walks on takes it for a return address.
        walk.unknown_ip = walk.ip.wrapping_add(1 - before);
        walk.unknown_sp = walk.sp;
        walk.unknown_fp = walk.fp;
    }
    let next = if at_entry { caller_at_entry(walk) } else { caller(walk, &code.rule) };
    match next {
        Ok(()) => 0,
        Err(end) => {
            walk.record.end = end as u32;
            1
        }
    }
}

#[inline(always)]
fn keep(walk: &mut StackWalk, frame: u64) {
    let record = &mut walk.record;
    let depth = record.frame_count as usize;
    if let Some(kept) = record.frames.get_mut(depth) {
        *kept = frame;
    }
    record.frame_count = depth as u32 + 1;
    record.id = hash_frame(record.id, frame, MemoryId::new(record.tgid, walk.code_version));
}

#[inline(always)]
fn caller_at_entry(walk: &mut StackWalk) -> Result<(), StackEnd> {
    walk.ip = memory::word(walk, walk.sp).ok_or(StackEnd::Unreadable)?;
    walk.sp += 8;
    Ok(())
}

/// Moves to the caller of the current frame by its rule.
#[inline(always)]
fn caller(walk: &mut StackWalk, rule: &Rule) -> Result<(), StackEnd> {
    const STACK_POINTER: u32 = CfaKind::StackPointer as u32;
    const FRAME_POINTER: u32 = CfaKind::FramePointer as u32;
    const OUTERMOST: u32 = CfaKind::Outermost as u32;
    const SIGNAL: u32 = CfaKind::Signal as u32;
    const AT_STACK_POINTER: u32 = CfaKind::AtStackPointer as u32;
    const AT_FRAME_POINTER: u32 = CfaKind::AtFramePointer as u32;
    const LINKAGE: u32 = CfaKind::LinkageTable as u32;
    const FP_FROM_CFA: u16 = FpPlace::FromCfa as u16;
    const FP_FROM_FP: u16 = FpPlace::FromFramePointer as u16;
    let offset = rule.cfa_offset as i64 as u64;
    let added = rule.cfa_added as i64 as u64;
    let cfa = match rule.cfa_kind {
        STACK_POINTER => walk.sp.wrapping_add(offset),
        FRAME_POINTER => walk.fp.wrapping_add(offset),
        OUTERMOST => return Err(StackEnd::Root),
        SIGNAL => return caller_of_handler(walk),
        AT_STACK_POINTER => word_at(walk, walk.sp, rule.cfa_offset)?.wrapping_add(added),
        AT_FRAME_POINTER => word_at(walk, walk.fp, rule.cfa_offset)?.wrapping_add(added),
        LINKAGE => linkage_cfa(walk, rule),
        _ => return caller_by_frame_pointer(walk),
    };
    match rule.fp_place {
        FP_FROM_CFA => walk.fp = word_at(walk, cfa, rule.fp_offset)?,
        FP_FROM_FP => walk.fp = word_at(walk, walk.fp, rule.fp_offset)?,
        _ => {}
    }
    arrive(walk, cfa)
}

/// Moves to the frame whose stack pointer is the given canonical frame address: the return address is below it.
#[inline(always)]
fn arrive(walk: &mut StackWalk, cfa: u64) -> Result<(), StackEnd> {
    let return_address = word_at(walk, cfa, -8)?;
    if return_address == 0 {
        return Err(StackEnd::Root);
    }
    walk.sp = cfa;
    walk.ip = return_address;
    Ok(())
}

#[inline(always)]
fn word_at(walk: &mut StackWalk, base: u64, offset: i32) -> Result<u64, StackEnd> {
    memory::word(walk, base.wrapping_add(offset as i64 as u64)).ok_or(StackEnd::Unreadable)
}

/// The interrupted instruction is not a return address: one more makes it look like one to whoever looks it up.
#[inline(always)]
fn caller_of_handler(walk: &mut StackWalk) -> Result<(), StackEnd> {
    let context = walk.sp;
    let fp = word_at(walk, context, SIGNAL_FP)?;
    let sp = word_at(walk, context, SIGNAL_SP)?;
    let ip = word_at(walk, context, SIGNAL_IP)?;
    walk.fp = fp;
    walk.ip = ip.wrapping_add(1);
    walk.sp = sp;
    Ok(())
}

/// How far an entry of the procedure linkage table has come decides whether it has pushed its word.
#[inline(always)]
fn linkage_cfa(walk: &StackWalk, rule: &Rule) -> u64 {
    let position = (walk.ip.wrapping_sub(1) & (LINKAGE_ENTRY_BYTES - 1)) as i32;
    let pushed = u64::from(position >= rule.fp_offset) * 8;
    walk.sp.wrapping_add(rule.cfa_offset as i64 as u64).wrapping_add(pushed)
}

/// Moves to the caller by the chain of frame pointers: for code that has no unwind table.
#[inline(always)]
fn caller_by_frame_pointer(walk: &mut StackWalk) -> Result<(), StackEnd> {
    let fp = walk.fp;
    if fp == 0 {
        return Err(StackEnd::Root);
    }
    if fp & 7 != 0 || fp < walk.sp || fp - walk.sp > MAX_FRAME_BYTES {
        return Err(StackEnd::FramePointerLost);
    }
    walk.fp = word_at(walk, fp, 0)?;
    arrive(walk, fp + 16)
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
        // SAFETY: the slot is ours.
        copy::send(unsafe { &*walk });
    } else {
        count(Counter::LostStacks);
    }
    id
}
