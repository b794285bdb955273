//! Where the runtime's sampler is probed: two functions, behind their stack check.
//!
//! In: the runtime's code. Out: [`RuntimeHooks`]. The check comes first, and when it fails the function is begun again: a probe on it would
//! be hit twice. Behind it the arguments are still in their registers, and since Go 1.21 there is a `push rbp`, which the kernel
//! emulates. A return of Go code is never probed: its runtime looks at return addresses, and ends the program over a strange one.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::GoError;
use super::code::GoCode;
use crate::target::{ElfAddr, FileOffset};

const SET_BUCKET: &str = "runtime.setprofilebucket";
const FREE_SPECIAL: &str = "runtime.freeSpecial";
/// Longest prologue that is looked at.
const PROLOGUE_BYTES: u64 = 64;
/// Instructions before the jump to `morestack`: one or two make the comparison.
const MAX_CHECK: usize = 3;

/// A place to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPlace {
    /// Address of the instruction in the file.
    pub address: ElfAddr,
    /// Its position in the file.
    pub offset: FileOffset,
    /// The kernel must single-step it.
    pub single_stepped: bool,
}

/// Where the sampler tells of an object, and of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeHooks {
    /// In `runtime.setprofilebucket(p, b)`.
    pub sampled: HookPlace,
    /// In `runtime.freeSpecial(s, p, size)`.
    pub freed: HookPlace,
}

impl RuntimeHooks {
    /// Finds the places.
    pub fn find(code: &GoCode) -> Result<Self, GoError> {
        Ok(Self { sampled: place(code, SET_BUCKET)?, freed: place(code, FREE_SPECIAL)? })
    }
}

fn place(code: &GoCode, name: &str) -> Result<HookPlace, GoError> {
    let functions = code.table().functions_named(&[name]);
    let range = functions.get(name).ok_or_else(|| {
        GoError::refused(format!("its runtime has no function {name}, whose calls are followed"))
    })?;
    let start = code.text().0.wrapping_add(range.start);
    let size = range.end.saturating_sub(range.start).min(PROLOGUE_BYTES);
    let bytes = code.image().bytes_up_to(ElfAddr(start), size).unwrap_or_default();
    let behind = behind_stack_check(&bytes, start).ok_or_else(|| {
        GoError::refused(format!("{name} of its runtime does not begin with a stack check"))
    })?;
    let address = ElfAddr(behind.ip());
    let offset = code
        .image()
        .file_offset(address)
        .ok_or_else(|| GoError::refused(format!("{name} of its runtime is not in its file")))?;
    Ok(HookPlace { address, offset, single_stepped: behind.code() != Code::Push_r64 })
}

/// The instruction behind the stack check that a function begins with: `cmp rsp, [r14+0x10]`, or first `lea r12, [rsp-x]` and then
/// `cmp r12, [r14+0x10]`, and `jbe` to where the stack is made larger (cmd/internal/obj/x86, `stacksplit`).
fn behind_stack_check(code: &[u8], start: u64) -> Option<Instruction> {
    let mut instructions = Decoder::with_ip(64, code, start, DecoderOptions::NONE).into_iter();
    let mut is_compared = false;
    for instruction in instructions.by_ref().take(MAX_CHECK) {
        match instruction.mnemonic() {
            Mnemonic::Lea if instruction.op0_register() == Register::R12 => {}
            Mnemonic::Cmp if compares_with_limit(&instruction) => is_compared = true,
            Mnemonic::Jbe if is_compared => {
                return instructions.next().filter(|behind| !behind.is_invalid());
            }
            _ => return None,
        }
    }
    None
}

fn compares_with_limit(instruction: &Instruction) -> bool {
    matches!(instruction.op0_register(), Register::RSP | Register::R12)
        && instruction.op1_kind() == OpKind::Memory
        && instruction.memory_base() == Register::R14
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_behind_the_check() {
        // cmp rsp,[r14+0x10]; jbe +0x50; push rbp
        let small = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x50, 0x55, 0x48, 0x89, 0xe5];
        let found = behind_stack_check(&small, 0x1000).expect("a check");
        assert_eq!((found.ip(), found.code()), (0x1006, Code::Push_r64));
        // lea r12,[rsp-0x20]; cmp r12,[r14+0x10]; jbe rel32; sub rsp,0xa0
        let large = [
            0x4c, 0x8d, 0x64, 0x24, 0xe0, 0x4d, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0, 1, 0, 0, 0x48,
            0x81, 0xec, 0xa0, 0, 0, 0,
        ];
        let found = behind_stack_check(&large, 0x1000).expect("a check");
        assert_eq!((found.ip(), found.mnemonic()), (0x100f, Mnemonic::Sub));
    }

    #[test]
    fn what_begins_otherwise_is_refused() {
        for code in [
            &[0x55, 0x48, 0x89, 0xe5][..],
            &[0x49, 0x3b, 0x66, 0x10, 0x55],
            &[0x76, 0x50, 0x55],
            &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x50],
            &[],
        ] {
            assert_eq!(behind_stack_check(code, 0x1000), None, "{code:x?}");
        }
    }
}
