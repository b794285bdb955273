//! Stacks walked in userspace, on a copy of the stack: for those that the kernel program met before it had the tables.
//!
//! In: registers, a piece of stack memory, and tables. Out: return addresses, and why there are no more. The steps are
//! those of `tracer-ebpf/src/stack.rs`.

use tracer_common::limits::{MAX_FRAME_BYTES, MAX_FRAMES};
use tracer_common::stack::StackEnd;
use tracer_common::unwind::{CfaKind, FpPlace, LINKAGE_ENTRY_BYTES, Rule};

use crate::target::VirtAddr;

/// Offsets of rbp, rsp and rip from the stack pointer of a signal frame (arch/x86/include/uapi/asm/sigcontext.h).
const SIGNAL_FP: i32 = 120;
const SIGNAL_SP: i32 = 160;
const SIGNAL_IP: i32 = 168;

/// A piece of a stack, and the registers of the frame that lies at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackCopy {
    /// Return address of the frame.
    pub ip: u64,
    /// Its stack pointer, where `bytes` starts.
    pub sp: u64,
    /// Its frame pointer.
    pub fp: u64,
    /// Memory from `start` on.
    pub bytes: Vec<u8>,
    /// Address of the first byte.
    pub start: u64,
}

impl StackCopy {
    fn word(&self, base: u64, offset: i32) -> Result<u64, StackEnd> {
        let address = base.wrapping_add_signed(offset.into());
        let at = address.wrapping_sub(self.start) as usize;
        at.checked_add(8)
            .and_then(|end| self.bytes.get(at..end))
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes)
            .ok_or(StackEnd::Unreadable)
    }
}

/// The return addresses above the frame that a copy starts in, at most `most`, and why there are no more.
pub fn walk(
    mut copy: StackCopy,
    most: usize,
    rule_at: impl Fn(VirtAddr) -> Option<Rule>,
) -> (Vec<VirtAddr>, StackEnd) {
    let mut found = Vec::new();
    while found.len() < most.min(MAX_FRAMES) {
        // A return address can be the first byte after its function, when the call does not return.
        let rule = rule_at(VirtAddr(copy.ip.wrapping_sub(1))).unwrap_or_default();
        if let Err(end) = to_caller(&mut copy, &rule) {
            return (found, end);
        }
        found.push(VirtAddr(copy.ip));
    }
    (found, StackEnd::TooDeep)
}

fn to_caller(copy: &mut StackCopy, rule: &Rule) -> Result<(), StackEnd> {
    let is = |kind: CfaKind| rule.cfa_kind == kind as u32;
    let offset = i64::from(rule.cfa_offset) as u64;
    let added = i64::from(rule.cfa_added) as u64;
    let cfa = if is(CfaKind::StackPointer) {
        copy.sp.wrapping_add(offset)
    } else if is(CfaKind::FramePointer) {
        copy.fp.wrapping_add(offset)
    } else if is(CfaKind::AtStackPointer) {
        copy.word(copy.sp, rule.cfa_offset)?.wrapping_add(added)
    } else if is(CfaKind::AtFramePointer) {
        copy.word(copy.fp, rule.cfa_offset)?.wrapping_add(added)
    } else if is(CfaKind::LinkageTable) {
        let position = (copy.ip.wrapping_sub(1) & (LINKAGE_ENTRY_BYTES - 1)) as i32;
        copy.sp.wrapping_add(offset).wrapping_add(u64::from(position >= rule.fp_offset) * 8)
    } else if is(CfaKind::Outermost) {
        return Err(StackEnd::Root);
    } else if is(CfaKind::Signal) {
        return to_interrupted(copy);
    } else {
        return to_caller_by_frame_pointer(copy);
    };
    if rule.fp_place == FpPlace::FromCfa as u16 {
        copy.fp = copy.word(cfa, rule.fp_offset)?;
    } else if rule.fp_place == FpPlace::FromFramePointer as u16 {
        copy.fp = copy.word(copy.fp, rule.fp_offset)?;
    }
    arrive(copy, cfa)
}

fn arrive(copy: &mut StackCopy, cfa: u64) -> Result<(), StackEnd> {
    let return_address = copy.word(cfa, -8)?;
    if return_address == 0 {
        return Err(StackEnd::Root);
    }
    copy.sp = cfa;
    copy.ip = return_address;
    Ok(())
}

fn to_interrupted(copy: &mut StackCopy) -> Result<(), StackEnd> {
    let context = copy.sp;
    let fp = copy.word(context, SIGNAL_FP)?;
    let sp = copy.word(context, SIGNAL_SP)?;
    let ip = copy.word(context, SIGNAL_IP)?;
    (copy.fp, copy.sp, copy.ip) = (fp, sp, ip.wrapping_add(1));
    Ok(())
}

fn to_caller_by_frame_pointer(copy: &mut StackCopy) -> Result<(), StackEnd> {
    let fp = copy.fp;
    if fp == 0 {
        return Err(StackEnd::Root);
    }
    if fp & 7 != 0 || fp < copy.sp || fp - copy.sp > MAX_FRAME_BYTES {
        return Err(StackEnd::FramePointerLost);
    }
    copy.fp = copy.word(fp, 0)?;
    arrive(copy, fp.wrapping_add(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x7000_0000;

    fn copy(words: &[u64]) -> StackCopy {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        StackCopy { ip: 0x100, sp: START, fp: START + 0x20, bytes, start: START }
    }

    fn rule(cfa_kind: CfaKind, cfa_offset: i32) -> Rule {
        Rule { cfa_kind: cfa_kind as u32, cfa_offset, ..Rule::default() }
    }

    #[test]
    fn rules_and_frame_pointers_are_followed_to_the_root() {
        // Frame 1: two words and a return address. Frame 2, by frame pointer at +0x20. Frame 3 is the outermost.
        let stack = copy(&[1, 2, 0x200, 3, 0, 0x300]);
        let (found, end) = walk(stack, 10, |address| match address.0 {
            0xff => Some(rule(CfaKind::StackPointer, 24)),
            0x2ff => Some(rule(CfaKind::Outermost, 0)),
            _ => None,
        });
        assert_eq!(found, [VirtAddr(0x200), VirtAddr(0x300)]);
        assert_eq!(end, StackEnd::Root);
    }

    #[test]
    fn a_saved_frame_pointer_and_an_aligned_stack_are_found() {
        // The frame address stands below the frame pointer, as in a function that aligns its stack.
        let stack = copy(&[0, 0, 0, START + 0x40, START + 0x60, 0, 0, 0x200]);
        let aligning = Rule {
            fp_place: FpPlace::FromFramePointer as u16,
            fp_offset: 0,
            ..rule(CfaKind::AtFramePointer, -8)
        };
        let (found, end) = walk(stack, 1, |_| Some(aligning));
        assert_eq!((found, end), (vec![VirtAddr(0x200)], StackEnd::TooDeep));
    }

    #[test]
    fn the_end_of_the_copy_and_a_lost_frame_pointer_end_the_walk() {
        let (found, end) = walk(copy(&[1]), 10, |_| Some(rule(CfaKind::StackPointer, 24)));
        assert_eq!((found.len(), end), (0, StackEnd::Unreadable));
        let lost = StackCopy { fp: 3, ..copy(&[1]) };
        assert_eq!(walk(lost, 10, |_| None).1, StackEnd::FramePointerLost);
    }

    #[test]
    fn a_rule_that_leads_nowhere_ends_after_the_frames_allowed() {
        let stack = copy(&[0x100]);
        let still = rule(CfaKind::StackPointer, 8);
        let (found, end) = walk(StackCopy { sp: START, ..stack }, usize::MAX, |_| Some(still));
        assert!(found.len() <= MAX_FRAMES && end != StackEnd::Root);
    }
}
