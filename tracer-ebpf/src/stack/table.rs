//! What unwind tables say of a code address.

use core::arch::asm;

use tracer_common::limits::{MAX_CODE_RANGES, REMEMBERED_RULES};
use tracer_common::stack::frame_in_file;
use tracer_common::target::VERSION_BITS;
use tracer_common::unwind::{CfaKind, CodeMap, CodeRange, PAGE_BITS, Rule, row_address, row_rule};

use crate::maps::{CODE_MAPS, RECENT_RULES, StackWalk, UNWIND_PAGES, UNWIND_ROWS, UNWIND_RULES};

/// Steps of the search for a range: each halves what is left.
const RANGE_STEPS: u32 = MAX_CODE_RANGES.ilog2();
/// Steps of the search for a row in a page of 64 KiB.
const ROW_STEPS: u32 = PAGE_BITS + 1;
const UNKNOWN_RULE: Rule = Rule {
    cfa_kind: CfaKind::Unknown as u32,
    cfa_offset: 0,
    cfa_added: 0,
    fp_place: 0,
    fp_offset: 0,
};

/// What is known of the code at an address.
#[derive(Clone, Copy)]
pub struct Code {
    /// How to find the caller; of kind unknown where there is no table.
    pub rule: Rule,
    /// The address as a frame.
    pub frame: u64,
}

/// The code at an address: most stacks go through the same callers again and again, and are not searched for anew.
///
/// What is remembered is this CPU's. Another task can preempt this one and put another rule in its place; so the address
/// is withdrawn before a rule is written, and looked at before and after one is read.
#[inline(always)]
pub fn code_at(walk: &mut StackWalk, address: u64) -> Code {
    let key = address ^ (u64::from(walk.code_version) << 48);
    let slot = (address ^ (address >> 12)) as u32 & (REMEMBERED_RULES - 1);
    let Some(remembered) = RECENT_RULES.get_ptr_mut(slot) else { return unknown(address) };
    if !is_current(walk.code_version) {
        return find(walk, address).unwrap_or_else(|| unknown(address));
    }
    // SAFETY: the pointer is to this CPU's element; volatile, since another task can change it in between.
    let before = unsafe { (&raw const (*remembered).key).read_volatile() };
    if before == key {
        // SAFETY: as above.
        let rule = unsafe { (&raw const (*remembered).rule).read_volatile() };
        // SAFETY: as above.
        let frame = unsafe { (&raw const (*remembered).frame).read_volatile() };
        // SAFETY: as above.
        if unsafe { (&raw const (*remembered).key).read_volatile() } == key {
            return Code { rule, frame };
        }
    }
    let Some(code) = find(walk, address) else { return unknown(address) };
    // SAFETY: as above.
    unsafe { (&raw mut (*remembered).key).write_volatile(0) };
    // SAFETY: as above.
    unsafe { (&raw mut (*remembered).rule).write_volatile(code.rule) };
    // SAFETY: as above.
    unsafe { (&raw mut (*remembered).frame).write_volatile(code.frame) };
    // SAFETY: as above.
    unsafe { (&raw mut (*remembered).key).write_volatile(key) };
    code
}

/// Whether userspace knows the code as it is now.
#[inline(always)]
fn is_current(code_version: u32) -> bool {
    code_version != 0 && code_version >> VERSION_BITS == 0
}

#[inline(always)]
fn unknown(address: u64) -> Code {
    Code { rule: UNKNOWN_RULE, frame: address }
}

/// The code at an address of a file; `None` in none.
#[inline(always)]
fn find(walk: &mut StackWalk, address: u64) -> Option<Code> {
    if address < walk.range.start || address >= walk.range.end {
        walk.range = *find_range(walk.record.tgid, address)?;
    }
    let distance = address.wrapping_sub(walk.range.bias);
    let frame = frame_in_file(walk.range.file, distance);
    let rule = find_rule(&walk.range, distance).copied().unwrap_or(UNKNOWN_RULE);
    Some(Code { rule, frame })
}

#[inline(always)]
fn find_rule(range: &CodeRange, distance: u64) -> Option<&'static Rule> {
    let page = distance >> PAGE_BITS;
    if page >= u64::from(range.pages) {
        return None;
    }
    let page = range.first_page + page as u32;
    let (first, end) = (*UNWIND_PAGES.get(page)? as u32, *UNWIND_PAGES.get(page + 1)? as u32);
    let row = find_row(first, end, distance as u32 & ((1 << PAGE_BITS) - 1))?;
    UNWIND_RULES.get(row_rule(row))
}

/// The range that holds an address.
#[inline(always)]
fn find_range(tgid: u32, address: u64) -> Option<&'static CodeRange> {
    let map = CODE_MAPS.get_ptr_mut(tgid)?;
    // SAFETY: the pointer is into a map element.
    let range = unsafe { &*range_at(map, address) };
    (address >= range.start && address < range.end).then_some(range)
}

/// The last range that starts at or before an address, or the first of all. Without branches in the search the verifier
/// sees one path through it.
#[inline(always)]
pub fn range_at(map: *mut CodeMap, address: u64) -> *mut CodeRange {
    // SAFETY: the pointer is to a map element.
    let ranges = unsafe { &raw mut (*map).ranges }.cast::<CodeRange>();
    let mut low = 0_usize;
    let mut half = MAX_CODE_RANGES / 2;
    for _ in 0..RANGE_STEPS {
        let middle = below_ranges(low + half);
        // SAFETY: the index is below the number of ranges.
        let start = unsafe { (*ranges.add(middle)).start };
        // All ones when the range starts after the address: both are far below 2^63.
        let after = sign_mask(address.wrapping_sub(start)) as usize;
        low = (low & after) | (middle & !after);
        half >>= 1;
    }
    // SAFETY: as above.
    unsafe { ranges.add(below_ranges(low)) }
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
