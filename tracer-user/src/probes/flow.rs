//! The ways that a call can take through a function: from its first instruction over jumps, also those into other
//! functions, to where it ends.
//!
//! In: code, and what is known of it. Out: a graph of instructions. The code is hostile input: its size is bounded, and
//! what cannot be followed is said to be unknown.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::target::ElfAddr;
use crate::target::imports::Import;

/// Instructions looked at before giving up.
const MAX_INSTRUCTIONS: usize = 4096;
/// The longest instruction, bytes.
const LONGEST_INSTRUCTION: usize = 15;

/// What code can be looked up in.
pub trait Code {
    /// Up to so many bytes of code from an address; fewer, or none, where the code ends.
    fn bytes(&self, address: ElfAddr, count: usize) -> Vec<u8>;
    /// The end of the function that holds an address.
    fn end_of(&self, address: ElfAddr) -> Option<ElfAddr>;
    /// What the dynamic linker puts into a slot.
    fn import(&self, slot: ElfAddr) -> Option<&Import>;
}

/// A function that another one calls or jumps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee<'a> {
    /// One of the same file.
    At(ElfAddr),
    /// One that the dynamic linker finds.
    Named(&'a str),
}

/// How an instruction ends the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It does not.
    Open,
    /// The function returns.
    Return,
    /// The call is passed on to a function that was asked for.
    PassedOn,
    /// It never comes back.
    Never,
    /// It goes where this analysis cannot follow.
    Unknown,
}

/// An instruction and where it leads.
#[derive(Clone, Debug)]
pub struct Node {
    /// The instruction.
    pub instruction: Instruction,
    /// The instructions that can come next; of a conditional jump, first the one jumped to.
    pub next: Vec<u64>,
    /// Whether the way ends here.
    pub end: End,
}

/// All instructions that a call can pass.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// By address.
    pub nodes: BTreeMap<u64, Node>,
    /// Nothing was left out.
    pub is_complete: bool,
}

impl Flow {
    /// Follows a function from its start, and no further than a call or jump to what `passes_on` knows. `is_argument_set`
    /// leaves out what it does when its first argument is null.
    pub fn explore(
        code: &dyn Code,
        start: ElfAddr,
        passes_on: &dyn Fn(Callee<'_>) -> bool,
        is_argument_set: bool,
    ) -> Self {
        let mut flow = Self { nodes: BTreeMap::new(), is_complete: true };
        let mut open = vec![start.0];
        let skipped = if is_argument_set { null_branch(code, start) } else { None };
        while let Some(from) = open.pop() {
            let mut address = from;
            let mut bytes = Vec::new();
            let mut bytes_at = address;
            while !flow.nodes.contains_key(&address) {
                if flow.nodes.len() >= MAX_INSTRUCTIONS {
                    flow.is_complete = false;
                    return flow;
                }
                let used = (address - bytes_at) as usize;
                if bytes.len() < used + LONGEST_INSTRUCTION {
                    bytes = code.bytes(ElfAddr(address), 16 * LONGEST_INSTRUCTION);
                    bytes_at = address;
                }
                let rest = bytes.get((address - bytes_at) as usize..).unwrap_or_default();
                let instruction =
                    Decoder::with_ip(64, rest, address, DecoderOptions::NONE).decode();
                let mut node = follow(code, &instruction, passes_on);
                if skipped.is_some_and(|(jump, _)| jump == address) {
                    node.next.retain(|next| skipped != Some((address, *next)));
                }
                flow.is_complete &= node.end != End::Unknown;
                open.extend(&node.next);
                let next = node.next.last().copied();
                flow.nodes.insert(address, node);
                match next {
                    Some(next) if next == instruction.next_ip() => address = next,
                    _ => break,
                }
            }
        }
        flow
    }

    /// Whether a call can end in this way.
    pub fn can(&self, end: End) -> bool {
        self.nodes.values().any(|node| node.end == end)
    }
}

/// The edge that a null argument takes, of a function that begins by looking for one: the jump, and where it leads.
fn null_branch(code: &dyn Code, start: ElfAddr) -> Option<(u64, u64)> {
    let bytes = code.bytes(start, 3 * LONGEST_INSTRUCTION);
    let decoder = Decoder::with_ip(64, &bytes, start.0, DecoderOptions::NONE);
    let mut instructions =
        decoder.into_iter().skip_while(|first| first.mnemonic() == Mnemonic::Endbr64);
    let (test, jump) = (instructions.next()?, instructions.next()?);
    let tests_argument = test.mnemonic() == Mnemonic::Test
        && test.op0_register() == Register::RDI
        && test.op1_register() == Register::RDI;
    match jump.mnemonic() {
        Mnemonic::Je if tests_argument => Some((jump.ip(), jump.near_branch_target())),
        Mnemonic::Jne if tests_argument => Some((jump.ip(), jump.next_ip())),
        _ => None,
    }
}

fn follow(
    code: &dyn Code,
    instruction: &Instruction,
    passes_on: &dyn Fn(Callee<'_>) -> bool,
) -> Node {
    let node = |next: Vec<u64>, end| Node { instruction: *instruction, next, end };
    let after = instruction.next_ip();
    match instruction.flow_control() {
        _ if instruction.is_invalid() => node(Vec::new(), End::Unknown),
        FlowControl::Next => node(vec![after], End::Open),
        FlowControl::ConditionalBranch => {
            node(vec![instruction.near_branch_target(), after], End::Open)
        }
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
            match callee(code, instruction) {
                Some(callee) if passes_on(callee) => node(Vec::new(), End::PassedOn),
                Some(Callee::At(target)) => node(vec![target.0], End::Open),
                Some(Callee::Named(_)) | None => node(Vec::new(), End::Unknown),
            }
        }
        FlowControl::Call | FlowControl::IndirectCall => {
            if callee(code, instruction).is_some_and(passes_on) {
                return node(Vec::new(), End::PassedOn);
            }
            // What calls last in a function calls something that does not come back.
            let end = code.end_of(ElfAddr(instruction.ip()));
            if end.is_some_and(|end| after >= end.0) {
                return node(Vec::new(), End::Never);
            }
            node(vec![after], End::Open)
        }
        FlowControl::Return => node(Vec::new(), End::Return),
        FlowControl::Interrupt | FlowControl::Exception => node(Vec::new(), End::Never),
        FlowControl::XbeginXabortXend => node(Vec::new(), End::Unknown),
    }
}

/// The function that an instruction calls or jumps to, through a stub of the linker's too; `None` when only a register or
/// memory tells.
fn callee<'a>(code: &'a dyn Code, instruction: &Instruction) -> Option<Callee<'a>> {
    if instruction.op0_kind() == OpKind::NearBranch64 {
        let target = instruction.near_branch_target();
        return Some(stub(code, target).unwrap_or(Callee::At(ElfAddr(target))));
    }
    through_slot(code, instruction)
}

fn through_slot<'a>(code: &'a dyn Code, instruction: &Instruction) -> Option<Callee<'a>> {
    if !instruction.is_ip_rel_memory_operand() {
        return None;
    }
    let import = code.import(ElfAddr(instruction.ip_rel_memory_address()))?;
    Some(import.address.map_or(Callee::Named(&import.name), Callee::At))
}

/// The function behind a stub of the linker's: nothing but a jump through a slot.
fn stub(code: &dyn Code, address: u64) -> Option<Callee<'_>> {
    let bytes = code.bytes(ElfAddr(address), 2 * LONGEST_INSTRUCTION);
    let decoder = Decoder::with_ip(64, &bytes, address, DecoderOptions::NONE);
    let mut instructions =
        decoder.into_iter().skip_while(|first| first.mnemonic() == Mnemonic::Endbr64);
    let jump = instructions.next()?;
    if jump.flow_control() == FlowControl::IndirectBranch {
        through_slot(code, &jump)
    } else {
        None
    }
}

/// A few instructions at address 0x1000, which are one function.
#[cfg(test)]
pub(super) struct Fragment(Vec<u8>);

#[cfg(test)]
impl Fragment {
    pub(super) fn new(code: &[u8]) -> Self {
        Self(code.to_vec())
    }

    pub(super) const START: ElfAddr = ElfAddr(0x1000);
}

#[cfg(test)]
impl Code for Fragment {
    fn bytes(&self, address: ElfAddr, count: usize) -> Vec<u8> {
        let from = address.0.checked_sub(0x1000).map_or(self.0.len(), |from| from as usize);
        let rest = self.0.get(from..).unwrap_or_default();
        rest.get(..count).unwrap_or(rest).to_vec()
    }

    fn end_of(&self, address: ElfAddr) -> Option<ElfAddr> {
        let end = 0x1000 + self.0.len() as u64;
        (0x1000..end).contains(&address.0).then_some(ElfAddr(end))
    }

    fn import(&self, _slot: ElfAddr) -> Option<&Import> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explored(code: &[u8], hooked: u64, is_argument_set: bool) -> Flow {
        let fragment = Fragment::new(code);
        let passes_on = |callee: Callee<'_>| callee == Callee::At(ElfAddr(hooked));
        Flow::explore(&fragment, Fragment::START, &passes_on, is_argument_set)
    }

    #[test]
    fn a_function_that_only_jumps_on_passes_on() {
        // jmp +0x0ffb
        let flow = explored(&[0xe9, 0xfb, 0x0f, 0, 0], 0x2000, false);
        assert!(flow.is_complete && flow.can(End::PassedOn) && !flow.can(End::Return));
    }

    #[test]
    fn what_a_null_argument_does_can_be_left_out() {
        // test rdi,rdi; je +5; jmp +0x0ff6; ret
        let code = [0x48, 0x85, 0xff, 0x74, 5, 0xe9, 0xf6, 0x0f, 0, 0, 0xc3];
        assert!(explored(&code, 0x2000, false).can(End::Return));
        let flow = explored(&code, 0x2000, true);
        assert!(!flow.can(End::Return) && flow.can(End::PassedOn));
    }

    #[test]
    fn what_cannot_be_followed_is_said_to_be_unknown() {
        // jmp rax; then code that is cut short, and none at all
        for code in [&[0xff, 0xe0][..], &[0x48], &[], &[0x06]] {
            let flow = explored(code, 0, false);
            assert!(!flow.is_complete && flow.can(End::Unknown), "{code:?}");
        }
    }

    #[test]
    fn endless_code_comes_to_an_end() {
        let flow = explored(&vec![0x90; 2 * MAX_INSTRUCTIONS], 0, false);
        assert!(!flow.is_complete);
        // jmp to itself
        assert!(explored(&[0xeb, 0xfe], 0, false).is_complete);
    }
}
