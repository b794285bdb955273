//! The target's stack, read a piece at a time: one reading serves the frames that lie close together.

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use tracer_common::limits::STACK_WINDOW_WORDS;

use crate::call::read_user;
use crate::maps::StackWalk;

const WINDOW_BYTES: u64 = 8 * STACK_WINDOW_WORDS as u64;
const LAST_WORD: i32 = STACK_WINDOW_WORDS as i32 - 1;
/// Where a window that holds nothing starts: no word of the stack is near.
const NOWHERE: u64 = u64::MAX - WINDOW_BYTES;

/// Forgets what was read for another stack.
#[inline(always)]
pub fn forget(walk: &mut StackWalk) {
    walk.window_start = NOWHERE;
}

/// A word of the stack. Lower addresses are best asked for first: a new piece starts at the address asked for.
#[inline(always)]
pub fn word(walk: &mut StackWalk, address: u64) -> Option<u64> {
    let mut distance = address.wrapping_sub(walk.window_start);
    if distance >= WINDOW_BYTES || distance & 7 != 0 {
        // SAFETY: the helper checks the address, and writes at most the window.
        let result = unsafe {
            bpf_probe_read_user(
                (&raw mut walk.window).cast(),
                WINDOW_BYTES as u32,
                address as *const _,
            )
        };
        if result != 0 {
            forget(walk);
            // Less than a piece is left of the stack.
            return read_user(address);
        }
        walk.window_start = address;
        distance = 0;
    }
    let mut index = distance >> 3;
    // The compiler knows that the index is below the length, and leaves out any check that it can see; the verifier does
    // not know.
    // SAFETY: a bit operation on a register.
    unsafe { asm!("{index} &= {last}", index = inout(reg) index, last = const LAST_WORD) };
    walk.window.get(index as usize).copied()
}
