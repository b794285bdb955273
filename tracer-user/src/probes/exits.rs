//! Where a function that may throw is seen to return.
//!
//! Its return cannot be trapped: the address that the kernel puts onto the stack ends the program when an exception
//! passes it. So its code is followed to every `ret`, and from there back to an instruction that the kernel emulates,
//! after which nothing but that return can come, with the result already in a register. Where there is none, the `ret`
//! itself is probed; the kernel has to single-step it.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use tracer_common::exit::{Condition, ExitInfo};

use crate::probes::flow::{End, Flow, Node};
use crate::probes::placement::is_emulated;
use crate::target::{ElfAddr, registers};

/// Most places looked at; with more, the returns themselves are taken.
const MAX_CANDIDATES: usize = 128;
/// Rounds over the code before giving up on what has not settled.
const MAX_ROUNDS: usize = 64;

/// A place where a call is seen to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The instruction.
    pub address: ElfAddr,
    /// What the kernel programs have to know.
    pub info: ExitInfo,
}

/// Exits that together see every return of the function that starts at `start`. A return may pass two. Those that the kernel
/// emulates are only where `is_free` says.
pub fn exits(flow: &Flow, start: ElfAddr, is_free: &dyn Fn(ElfAddr) -> bool) -> Vec<Exit> {
    let results = results(flow);
    let depths = depths(flow, start);
    let mut candidates: Vec<Exit> = flow
        .nodes
        .iter()
        .filter(|(address, _)| is_free(ElfAddr(**address)))
        .flat_map(|(address, node)| emulated_exits(*address, node, &results, &depths))
        .collect();
    if candidates.len() > MAX_CANDIDATES {
        candidates.clear();
    }
    // One after the other is left out when the returns that it sees are seen by others.
    let all: Vec<Exit> = candidates.clone();
    let unseen = unseen_returns(flow, start, &candidates).len();
    for candidate in all {
        let others: Vec<Exit> =
            candidates.iter().copied().filter(|other| *other != candidate).collect();
        if unseen_returns(flow, start, &others).len() == unseen {
            candidates = others;
        }
    }
    let at_return = unseen_returns(flow, start, &candidates);
    candidates.extend(at_return.into_iter().map(|address| Exit {
        address: ElfAddr(address),
        info: ExitInfo {
            register_offset: place_of(Register::RAX).unwrap_or_default(),
            condition: Condition::NONE.0,
            stack_bytes: 0,
            single_stepped: 1,
        },
    }));
    candidates
}

fn place_of(register: Register) -> Option<u32> {
    registers::offset_of(&format!("{:?}", register.full_register()).to_lowercase())
}

/// What is known at an instruction of the function's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Not looked at yet.
    Open,
    /// The function returns what is in this register now, whatever comes.
    Returns(Register),
    /// Nothing.
    Unknown,
}

/// The outcome before each instruction.
fn results(flow: &Flow) -> BTreeMap<u64, Outcome> {
    let mut factory = InstructionInfoFactory::new();
    let mut results: BTreeMap<u64, Outcome> = BTreeMap::new();
    for _ in 0..MAX_ROUNDS {
        let mut settled = true;
        for (address, node) in flow.nodes.iter().rev() {
            let outcome = outcome_before(node, &results, &mut factory);
            settled &= results.insert(*address, outcome) == Some(outcome);
        }
        if settled {
            return results;
        }
    }
    BTreeMap::new()
}

fn outcome_before(
    node: &Node,
    results: &BTreeMap<u64, Outcome>,
    factory: &mut InstructionInfoFactory,
) -> Outcome {
    match node.end {
        End::Return => return Outcome::Returns(Register::RAX),
        End::PassedOn | End::Never | End::Unknown => return Outcome::Unknown,
        End::Open => {}
    }
    let mut after = Outcome::Open;
    for next in &node.next {
        after = match (after, results.get(next).copied().unwrap_or(Outcome::Open)) {
            (Outcome::Open, other) | (other, Outcome::Open) => other,
            (one, other) if one == other => one,
            _ => Outcome::Unknown,
        };
    }
    match after {
        Outcome::Returns(register) => before(&node.instruction, register, factory),
        other => other,
    }
}

/// Where the result is before an instruction that leaves it in `register`. A call may throw.
fn before(
    instruction: &Instruction,
    register: Register,
    factory: &mut InstructionInfoFactory,
) -> Outcome {
    if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
        return Outcome::Unknown;
    }
    let is_copy = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == register;
    if is_copy {
        return Outcome::Returns(instruction.op1_register());
    }
    let changes = factory.info(instruction).used_registers().iter().any(|used| {
        used.register().full_register() == register
            && !matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead)
    });
    if changes { Outcome::Unknown } else { Outcome::Returns(register) }
}

/// Bytes from the stack pointer up to the return address before each instruction, where that is known.
fn depths(flow: &Flow, start: ElfAddr) -> BTreeMap<u64, Option<i64>> {
    let mut depths: BTreeMap<u64, Option<i64>> = BTreeMap::new();
    let mut open = vec![(start.0, Some(0))];
    while let Some((address, depth)) = open.pop() {
        let known = depths.get(&address).copied();
        let agreed = match known {
            Some(known) if known == depth || known.is_none() => continue,
            Some(_) => None,
            None => depth,
        };
        depths.insert(address, agreed);
        let Some(node) = flow.nodes.get(&address) else { continue };
        let after = agreed.and_then(|depth| depth_after(&node.instruction, depth));
        open.extend(node.next.iter().map(|next| (*next, after)));
    }
    depths
}

fn depth_after(instruction: &Instruction, depth: i64) -> Option<i64> {
    let moves_stack = |register| register == Register::RSP;
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Pop => {
            Some(depth - i64::from(instruction.stack_pointer_increment()))
        }
        // What is called takes its return address back.
        Mnemonic::Call => Some(depth),
        Mnemonic::Sub | Mnemonic::Add if moves_stack(instruction.op0_register()) => {
            let is_number = !matches!(instruction.op1_kind(), OpKind::Register | OpKind::Memory);
            let bytes = is_number.then(|| instruction.immediate(1) as i64)?;
            let sign = if instruction.mnemonic() == Mnemonic::Sub { 1 } else { -1 };
            depth.checked_add(bytes.checked_mul(sign)?)
        }
        _ if instruction.op0_kind() == OpKind::Register
            && moves_stack(instruction.op0_register().full_register()) =>
        {
            None
        }
        Mnemonic::Leave | Mnemonic::Enter => None,
        _ => Some(depth),
    }
}

/// The exits that an instruction is, when the kernel emulates it: on all ways, or on one of a conditional jump's.
fn emulated_exits(
    address: u64,
    node: &Node,
    results: &BTreeMap<u64, Outcome>,
    depths: &BTreeMap<u64, Option<i64>>,
) -> Vec<Exit> {
    let Some(Some(depth)) = depths.get(&address) else { return Vec::new() };
    let is_call = node.instruction.mnemonic() == Mnemonic::Call;
    let Ok(stack_bytes) = u32::try_from(*depth) else { return Vec::new() };
    if is_call || !is_emulated(&node.instruction) {
        return Vec::new();
    }
    let register_at = |address: &u64| match results.get(address) {
        Some(Outcome::Returns(register)) => place_of(*register),
        _ => None,
    };
    let exit = |register_offset, condition: Condition| Exit {
        address: ElfAddr(address),
        info: ExitInfo { register_offset, condition: condition.0, stack_bytes, single_stepped: 0 },
    };
    if let Some(register) = register_at(&address) {
        return vec![exit(register, Condition::NONE)];
    }
    let [taken, fallen] = node.next.as_slice() else { return Vec::new() };
    let condition = Condition(node.instruction.condition_code() as u32);
    let taken = register_at(taken).map(|register| exit(register, condition));
    let fallen = register_at(fallen).map(|register| exit(register, condition.negated()));
    taken.into_iter().chain(fallen).collect()
}

/// The `ret` instructions that a call can reach without passing an exit.
fn unseen_returns(flow: &Flow, start: ElfAddr, exits: &[Exit]) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    let mut unseen = BTreeSet::new();
    let mut open = vec![start.0];
    while let Some(address) = open.pop() {
        let Some(node) = flow.nodes.get(&address) else { continue };
        if !seen.insert(address) {
            continue;
        }
        if node.end == End::Return {
            unseen.insert(address);
        }
        let here: Vec<Condition> = exits
            .iter()
            .filter(|exit| exit.address.0 == address)
            .map(|exit| Condition(exit.info.condition))
            .collect();
        if here.contains(&Condition::NONE) {
            continue;
        }
        let condition = Condition(node.instruction.condition_code() as u32);
        let ways = [condition, condition.negated()];
        let is_jump = node.next.len() == 2;
        let passed = node.next.iter().zip(ways).filter(|(_, way)| !(is_jump && here.contains(way)));
        open.extend(passed.map(|(next, _)| *next));
    }
    unseen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::flow::Fragment;

    fn found(code: &[u8]) -> Vec<Exit> {
        let fragment = Fragment::new(code);
        let flow = Flow::explore(&fragment, Fragment::START, &|_| false, false);
        assert!(flow.is_complete);
        exits(&flow, Fragment::START, &|_| true)
    }

    fn place(address: u64, condition: u32, stack_bytes: u32, single_stepped: u32) -> Exit {
        let register_offset = place_of(Register::RAX).expect("a register");
        Exit {
            address: ElfAddr(address),
            info: ExitInfo { register_offset, condition, stack_bytes, single_stepped },
        }
    }

    #[test]
    fn a_jump_that_is_not_taken_leads_to_the_return() {
        // push rbx; call; test rax,rax; je to the throw; pop rbx; ret; call what throws
        let code = [
            0x53, 0xe8, 0xfa, 0x0f, 0, 0, 0x48, 0x85, 0xc0, 0x74, 0x02, 0x5b, 0xc3, 0xe8, 0, 0, 0,
            0,
        ];
        // Not equal is the processor's condition 5.
        assert_eq!(found(&code), [place(0x1009, 6, 8, 0)]);
    }

    #[test]
    fn without_an_emulated_instruction_it_is_the_return_itself() {
        // mov rax,rdi; ret
        assert_eq!(found(&[0x48, 0x89, 0xf8, 0xc3]), [place(0x1003, 0, 0, 1)]);
    }

    #[test]
    fn the_register_that_holds_the_result_is_followed_back() {
        // sub rsp,8; jmp +0; mov rax,rbx; add rsp,8; ret
        let code = [0x48, 0x83, 0xec, 8, 0xeb, 0, 0x48, 0x89, 0xd8, 0x48, 0x83, 0xc4, 8, 0xc3];
        let [exit] = found(&code)[..] else { panic!("one exit") };
        assert_eq!((exit.address, exit.info.single_stepped), (ElfAddr(0x1004), 0));
        assert_eq!(Some(exit.info.register_offset), place_of(Register::RBX));
        assert_eq!((exit.info.condition, exit.info.stack_bytes), (0, 8));
    }

    #[test]
    fn an_exit_on_one_way_only_leaves_the_return_to_the_other() {
        // test rdi,rdi; je +3; mov rax,rsi; nop; ret, with rax written behind the nop on no way
        let code = [0x48, 0x85, 0xff, 0x74, 3, 0x48, 0x89, 0xf0, 0x90, 0xc3];
        let exits = found(&code);
        assert!(exits.iter().any(|exit| exit.address == ElfAddr(0x1008)), "{exits:?}");
        let flow_end = exits.iter().filter(|exit| exit.info.single_stepped != 0).count();
        assert_eq!(flow_end, 0, "the nop is on every way");
    }

    #[test]
    fn a_result_that_a_call_makes_is_not_known_before_it() {
        // nop; call; ret
        assert_eq!(found(&[0x90, 0xe8, 0, 0, 0, 0, 0xc3]), [place(0x1006, 0, 0, 1)]);
    }
}
