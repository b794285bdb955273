//! Which allocations are recorded, decided at entry: an allocation that is not costs the bare trap.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use tracer_common::function::{FunctionInfo, Shape, traits};
use tracer_common::limits::MAX_FORWARD_BYTES;
use tracer_common::sampling::{countdown, countdown_bytes};

use crate::call::{Registers, Thread, is_trampoline, read_user};
use crate::maps::{SAMPLE_MEAN_BYTES, SAMPLERS, Sampler};

/// What sampling says of a call.
pub enum Decision {
    /// Record it.
    Sampled,
    /// Do not.
    Unsampled,
    /// It is made by another hooked function, for which the decision was taken.
    Nested,
}

/// Takes the decision for one call and moves this CPU's countdown on.
///
/// The countdown is not locked: a task preempted between the read and the write makes another one's bytes count once
/// less or twice, which leaves the interval to the next sample exponential.
#[inline(always)]
pub fn decide(
    thread: Thread,
    registers: &Registers,
    info: &FunctionInfo,
    shape: Shape,
    size_bytes: u64,
    doublings: u32,
) -> Decision {
    let mean_bytes = SAMPLE_MEAN_BYTES.load();
    let Some(sampler) = SAMPLERS.get_ptr_mut(0) else { return Decision::Unsampled };
    // SAFETY: this CPU's element of an array map; see above for preemption.
    let sampler = unsafe { &mut *sampler };
    if sampler.outer_tid == u64::from(thread.tid) && is_forwarded(registers, info, sampler) {
        return Decision::Nested;
    }
    sampler.outer_tid = 0;
    if sampler.left == 0 {
        sampler.left = countdown(random(), mean_bytes);
    }
    sampler.left -= countdown_bytes(size_bytes, doublings);
    if sampler.left <= 0 {
        sampler.left = countdown(random(), mean_bytes);
        return Decision::Sampled;
    }
    if shape.resizes() || info.traits & traits::MEETS_EXITS != 0 {
        remember_outer(thread, registers, info, sampler);
    }
    Decision::Unsampled
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_get_prandom_u32() }
}

#[inline(always)]
fn remember_outer(
    thread: Thread,
    registers: &Registers,
    info: &FunctionInfo,
    sampler: &mut Sampler,
) {
    let Some(return_address) = read_user(registers.sp) else { return };
    sampler.outer_sp = registers.sp;
    sampler.outer_return = return_address;
    sampler.outer_start = registers.ip.wrapping_sub(info.body_before);
    sampler.outer_end = registers.ip.wrapping_add(info.body_after);
    sampler.outer_tid = u64::from(thread.tid);
}

/// Whether the call that was not sampled now forwards to this one, by a call from its body or by a jump.
#[inline(always)]
fn is_forwarded(registers: &Registers, info: &FunctionInfo, outer: &Sampler) -> bool {
    let Some(return_address) = read_user(registers.sp) else { return false };
    if registers.sp == outer.outer_sp {
        // The same function from the same place is another call, not a jump.
        let is_same = registers.ip.wrapping_sub(info.body_before) == outer.outer_start;
        return !is_same && (return_address == outer.outer_return || is_trampoline(return_address));
    }
    let is_in_body = return_address >= outer.outer_start && return_address < outer.outer_end;
    // The trampoline: a hooked function was called here, was itself forwarded, and has jumped on to this one.
    registers.sp < outer.outer_sp
        && outer.outer_sp - registers.sp < MAX_FORWARD_BYTES
        && (is_in_body || is_trampoline(return_address))
}
