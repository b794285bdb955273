//! The caller of a frame by unwind tables: complete stacks of code that was built without frame pointers.

use core::arch::asm;

use tracer_common::limits::{MAX_CODE_RANGES, REMEMBERED_RULES};
use tracer_common::stack::StackEnd;
use tracer_common::unwind::{CfaKind, CodeMap, CodeRange, PAGE_BITS, Rule, row_address, row_rule};

use super::caller_by_frame_pointer;
use crate::call::{read_user, read_user_pair};
use crate::maps::{CODE_MAPS, RECENT_RULES, StackWalk, UNWIND_PAGES, UNWIND_ROWS, UNWIND_RULES};

/// Steps of the search for a range: each halves what is left.
const RANGE_STEPS: u32 = MAX_CODE_RANGES.ilog2();
/// Steps of the search for a row in a page of 64 KiB.
const ROW_STEPS: u32 = PAGE_BITS + 1;
/// Offset of a frame pointer that was pushed first thing: one read gives it and the return address.
const BESIDE_RETURN_ADDRESS: i32 = -16;
/// Where the signal context keeps rbp, rsp and rip, from the stack pointer that the handler returns to
/// (arch/x86/include/uapi/asm/sigcontext.h in `struct rt_sigframe`).
const SIGNAL_FP: u64 = 120;
const SIGNAL_SP: u64 = 160;
const SIGNAL_IP: u64 = 168;

/// Moves to the caller of the current frame.
#[inline(always)]
pub fn caller(walk: &mut StackWalk) -> Result<(), StackEnd> {
    // A return address can be the first byte after its function, when the call does not return.
    let Some(rule) = remembered_rule(walk, walk.ip.wrapping_sub(1)) else {
        return caller_by_frame_pointer(walk);
    };
    const STACK_POINTER: u32 = CfaKind::StackPointer as u32;
    const FRAME_POINTER: u32 = CfaKind::FramePointer as u32;
    const OUTERMOST: u32 = CfaKind::Outermost as u32;
    const SIGNAL: u32 = CfaKind::Signal as u32;
    let base = match rule.cfa_kind {
        STACK_POINTER => walk.sp,
        FRAME_POINTER => walk.fp,
        OUTERMOST => return Err(StackEnd::Root),
        SIGNAL => return caller_of_handler(walk),
        _ => return caller_by_frame_pointer(walk),
    };
    let cfa = base.wrapping_add(rule.cfa_offset as i64 as u64);
    let return_address = if rule.fp_saved != 0 && rule.fp_offset == BESIDE_RETURN_ADDRESS {
        let [fp, return_address] =
            read_user_pair(cfa.wrapping_sub(16)).ok_or(StackEnd::Unreadable)?;
        walk.fp = fp;
        return_address
    } else {
        if rule.fp_saved != 0 {
            let saved = cfa.wrapping_add(rule.fp_offset as i64 as u64);
            walk.fp = read_user(saved).ok_or(StackEnd::Unreadable)?;
        }
        read_user(cfa.wrapping_sub(8)).ok_or(StackEnd::Unreadable)?
    };
    if return_address == 0 {
        return Err(StackEnd::Root);
    }
    walk.sp = cfa;
    walk.ip = return_address;
    Ok(())
}

/// The interrupted instruction is not a return address: one more makes it look like one to whoever looks it up.
#[inline(always)]
fn caller_of_handler(walk: &mut StackWalk) -> Result<(), StackEnd> {
    let fp = read_user(walk.sp.wrapping_add(SIGNAL_FP)).ok_or(StackEnd::Unreadable)?;
    let ip = read_user(walk.sp.wrapping_add(SIGNAL_IP)).ok_or(StackEnd::Unreadable)?;
    let sp = read_user(walk.sp.wrapping_add(SIGNAL_SP)).ok_or(StackEnd::Unreadable)?;
    walk.fp = fp;
    walk.ip = ip.wrapping_add(1);
    walk.sp = sp;
    Ok(())
}

/// The rule for an address: most stacks go through the same callers again and again, and are not searched for anew.
///
/// A remembered rule is this CPU's. Another task can preempt this one and put another rule in its place; so the address
/// is withdrawn before a rule is written, and looked at before and after one is read.
#[inline(always)]
fn remembered_rule(walk: &mut StackWalk, address: u64) -> Option<Rule> {
    let key = address ^ (u64::from(walk.code_version) << 48);
    let slot = (address ^ (address >> 12)) as u32 & (REMEMBERED_RULES - 1);
    let remembered = RECENT_RULES.get_ptr_mut(slot)?;
    // SAFETY: the pointer is to this CPU's element; volatile, since another task can change it in between.
    let before = unsafe { (&raw const (*remembered).key).read_volatile() };
    if before == key {
        // SAFETY: as above.
        let rule = unsafe { (&raw const (*remembered).rule).read_volatile() };
        // SAFETY: as above.
        if unsafe { (&raw const (*remembered).key).read_volatile() } == key {
            return Some(rule);
        }
    }
    let rule = *find_rule(walk, address)?;
    // SAFETY: as above.
    unsafe { (&raw mut (*remembered).key).write_volatile(0) };
    // SAFETY: as above.
    unsafe { (&raw mut (*remembered).rule).write_volatile(rule) };
    // SAFETY: as above.
    unsafe { (&raw mut (*remembered).key).write_volatile(key) };
    Some(rule)
}

/// The rule for an address of the process's code.
#[inline(always)]
fn find_rule(walk: &mut StackWalk, address: u64) -> Option<&'static Rule> {
    if address < walk.range.start || address >= walk.range.end {
        walk.range = *find_range(walk.record.tgid, address)?;
    }
    let distance = address.wrapping_sub(walk.range.bias);
    let page = (distance >> PAGE_BITS) as u32;
    if page >= walk.range.pages {
        return None;
    }
    let page = walk.range.first_page + page;
    let (first, end) = (*UNWIND_PAGES.get(page)? as u32, *UNWIND_PAGES.get(page + 1)? as u32);
    let row = find_row(first, end, distance as u32 & ((1 << PAGE_BITS) - 1))?;
    UNWIND_RULES.get(row_rule(row))
}

/// The range that holds an address. Without branches in the search the verifier sees one path through it.
#[inline(always)]
fn find_range(tgid: u32, address: u64) -> Option<&'static CodeRange> {
    let map: *const CodeMap = CODE_MAPS.get_ptr(tgid)?;
    let mut low = 0_usize;
    let mut half = MAX_CODE_RANGES / 2;
    for _ in 0..RANGE_STEPS {
        let middle = below_ranges(low + half);
        // SAFETY: the pointer is to a map element, the index is below the number of ranges.
        let range = unsafe { &*(&raw const (*map).ranges).cast::<CodeRange>().add(middle) };
        // All ones when the range starts after the address: both are far below 2^63.
        let after = sign_mask(address.wrapping_sub(range.start)) as usize;
        low = (low & after) | (middle & !after);
        half >>= 1;
    }
    // SAFETY: as above.
    let range = unsafe { &*(&raw const (*map).ranges).cast::<CodeRange>().add(below_ranges(low)) };
    (address >= range.start && address < range.end).then_some(range)
}

/// The last row of a page that starts at or before an address.
#[inline(always)]
fn find_row(first: u32, end: u32, low_address: u32) -> Option<u32> {
    let mut low = first;
    let mut count = end.wrapping_sub(first);
    if count == 0 || count > 1 << PAGE_BITS {
        return None;
    }
    for _ in 0..ROW_STEPS {
        let half = count >> 1;
        let before =
            i64::from(row_address(row(low.wrapping_add(half))?)) - i64::from(low_address) - 1;
        // All ones when the row starts at or before the address.
        let mask = (before >> 63) as u32;
        low = low.wrapping_add(half & mask);
        count -= half;
    }
    row(low)
}

/// An index kept below the number of ranges. The compiler can tell that it is below and would drop the mask; verifiers
/// of old kernels (6.1) cannot, since they lose every bound in an or.
#[inline(always)]
fn below_ranges(mut index: usize) -> usize {
    // SAFETY: a bitwise and of a register.
    unsafe {
        asm!("{index} &= {mask}", index = inout(reg) index, mask = const MAX_CODE_RANGES - 1)
    };
    index
}

/// All ones for a negative number, else 0. Written so that the compiler does not see a choice in it and makes no branch.
#[inline(always)]
fn sign_mask(number: u64) -> u64 {
    let mut mask = number;
    // SAFETY: an arithmetic shift of a register.
    unsafe { asm!("{mask} s>>= 63", mask = inout(reg) mask) };
    mask
}

#[inline(always)]
fn row(index: u32) -> Option<u32> {
    let pair = *UNWIND_ROWS.get(index >> 1)?;
    Some((pair >> ((index & 1) * 32)) as u32)
}
