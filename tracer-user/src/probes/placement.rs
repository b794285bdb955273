//! The instruction of a function to probe.
//!
//! The kernel runs a probed instruction either by emulating it or by single-stepping a copy. In a virtual machine a
//! single step leaves the guest and costs ten times as much. So the probe goes to the first instruction that the kernel
//! emulates (arch/x86/kernel/uprobes.c, 6.18: nop, push of a register, relative jump and call) and that every call
//! passes with its arguments and the return address still in place. In: the function's code. Out: an offset.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register,
};

/// Where to put a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Bytes from the function's start.
    pub offset: u64,
    /// The kernel must single-step this instruction: the probe is about ten times as expensive in a virtual machine.
    pub single_stepped: bool,
}

/// Instructions looked at before giving up.
const MAX_INSTRUCTIONS: usize = 16;

/// Chooses the instruction to probe in `code`, the first bytes of a function at address `start`.
///
/// Where none fits it is the first one, single-stepped.
pub fn place(code: &[u8], start: u64) -> Placement {
    let instructions: Vec<Instruction> = Decoder::with_ip(64, code, start, DecoderOptions::NONE)
        .into_iter()
        .take_while(|instruction| !instruction.is_invalid())
        .collect();
    let mut info = InstructionInfoFactory::new();
    for instruction in instructions.iter().take(MAX_INSTRUCTIONS) {
        if is_emulated(instruction) {
            let reentered = is_jump_target(&instructions, start, instruction.ip());
            if reentered {
                break;
            }
            return Placement { offset: instruction.ip() - start, single_stepped: false };
        }
        if instruction.flow_control() != FlowControl::Next
            || !keeps_call_state(&mut info, instruction)
        {
            break;
        }
    }
    Placement { offset: 0, single_stepped: true }
}

pub(super) fn is_emulated(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Nop => {
            instruction.code() != Code::Nopw && instruction.code() != Code::Nopd
                || !instruction.has_segment_prefix()
        }
        Mnemonic::Push => matches!(instruction.code(), Code::Push_r64),
        Mnemonic::Jmp => instruction.is_jmp_short_or_near(),
        Mnemonic::Call => instruction.is_call_near(),
        _ => instruction.is_jcc_short_or_near(),
    }
}

/// Whether a later instruction jumps to this address, so that it runs more than once for a call.
fn is_jump_target(instructions: &[Instruction], start: u64, address: u64) -> bool {
    address != start
        && instructions.iter().any(|instruction| {
            matches!(
                instruction.flow_control(),
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            ) && instruction.near_branch_target() > start
                && instruction.near_branch_target() <= address
        })
}

/// Whether the arguments and the stack pointer survive the instruction.
fn keeps_call_state(info: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    const KEPT: [Register; 5] =
        [Register::RDI, Register::RSI, Register::RDX, Register::RSP, Register::RBP];
    info.info(instruction).used_registers().iter().all(|used| {
        let writes = !matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead);
        !(writes && KEPT.contains(&used.register().full_register()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(code: &[u8]) -> (u64, bool) {
        let placement = place(code, 0x1000);
        (placement.offset, placement.single_stepped)
    }

    #[test]
    fn a_push_at_the_entry_is_taken() {
        // push r12; push rbp
        assert_eq!(placed(&[0x41, 0x54, 0x55]), (0, false));
    }

    #[test]
    fn a_test_is_stepped_over_to_the_jump() {
        // glibc 2.36 free: test rdi,rdi; je +0x20; push rbp
        assert_eq!(placed(&[0x48, 0x85, 0xff, 0x74, 0x20, 0x55]), (3, false));
    }

    #[test]
    fn endbr_is_stepped_over() {
        // endbr64; push rbx
        assert_eq!(placed(&[0xf3, 0x0f, 0x1e, 0xfa, 0x53]), (4, false));
    }

    #[test]
    fn a_clobbered_argument_ends_the_search() {
        // mov rdi,rsi; push rbx
        assert_eq!(placed(&[0x48, 0x89, 0xf7, 0x53]), (0, true));
        // sub rsp,8; push rbx
        assert_eq!(placed(&[0x48, 0x83, 0xec, 0x08, 0x53]), (0, true));
    }

    #[test]
    fn a_loop_head_is_not_probed() {
        // test rdi,rdi; nop; jmp back to the nop
        assert_eq!(placed(&[0x48, 0x85, 0xff, 0x90, 0xeb, 0xfd]), (0, true));
    }

    #[test]
    fn garbage_and_nothing_give_the_entry() {
        assert_eq!(placed(&[]), (0, true));
        assert_eq!(placed(&[0x06, 0x06]), (0, true));
        assert_eq!(placed(&[0x48]), (0, true));
    }
}
