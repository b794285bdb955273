//! Counting: per CPU, so that no probe waits for another. A task preempted in the middle of an increment can lose one
//! count; the ledger's own numbers do not come from here.

use tracer_common::counter::Counter;

use crate::maps::COUNTERS_BY_CPU;

/// Adds 1.
#[inline(always)]
pub fn count(counter: Counter) {
    add(counter, 1);
}

/// Adds `amount`.
#[inline(always)]
pub fn add(counter: Counter, amount: u64) {
    if let Some(value) = COUNTERS_BY_CPU.get_ptr_mut(counter as u32) {
        add_to(value, amount);
    }
}

/// Adds to a number in this CPU's element of an array map.
#[inline(always)]
pub fn add_to(value: *mut u64, amount: u64) {
    // SAFETY: the pointer is into an array map; the addition is one atomic instruction.
    unsafe {
        core::arch::asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) value, v = in(reg) amount)
    };
}
