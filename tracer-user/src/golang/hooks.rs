//! Where the runtime is probed: two functions of its sampler, behind their stack check; or where it allocates and sweeps.
//!
//! In: the runtime's code. Out: [`RuntimeHooks`], or [`AllocationHooks`]. The check comes first, and when it fails the function is begun again: a probe on it would
//! be hit twice. Behind it the arguments are still in their registers, and since Go 1.21 there is a `push rbp`, which the kernel
//! emulates. A return of Go code is never trapped by the kernel's return probes: its runtime looks at return addresses, and ends the program over a strange one.

use std::ops::Range;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::GoError;
use super::code::GoCode;
use crate::target::{ElfAddr, FileOffset};

const SET_BUCKET: &str = "runtime.setprofilebucket";
const FREE_SPECIAL: &str = "runtime.freeSpecial";
/// Longest prologue that is looked at.
const PROLOGUE_BYTES: u64 = 64;
/// Instructions before the jump to `morestack`: one or two make the comparison.
const MAX_CHECK: usize = 3;

/// The function that allocates, in every release.
const ALLOCATE: &str = "runtime.mallocgc";
/// Those that compiled code calls beside it since Go 1.27, by size class.
const ALLOCATE_SIZED: [&str; 3] = [
    "runtime.mallocgcSmallScanNoHeaderSC",
    "runtime.mallocgcSmallNoScanSC",
    "runtime.mallocgcTinySC",
];
/// Size classes.
const SIZE_CLASSES: u32 = 68;
/// The function that sweeps a span.
const SWEEP: &str = "runtime.(*sweepLocked).sweep";
/// Longest allocating function that is decoded.
const MAX_CODE_BYTES: u64 = 64 << 10;

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

/// Where the runtime has allocated an object, which is in the result then, and where it begins to sweep a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationHooks {
    /// Return instructions of allocating functions.
    pub allocated: Vec<AllocatedPlace>,
    /// The code of the function that calls others of them, and its size: what they allocate for it counts once.
    pub outer: (ElfAddr, u64),
    /// In `runtime.(*sweepLocked).sweep(preserve)`.
    pub swept: HookPlace,
}

/// A return instruction of an allocating function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatedPlace {
    /// Where it is.
    pub place: HookPlace,
    /// It is in the function that calls the others.
    pub is_outer: bool,
}

impl AllocationHooks {
    /// Finds the places. Compiled code calls several functions since Go 1.27; each return of each of them is one instruction.
    pub fn find(code: &GoCode) -> Result<Self, GoError> {
        let sized = ALLOCATE_SIZED
            .iter()
            .flat_map(|name| (1..SIZE_CLASSES).map(move |class| format!("{name}{class}")));
        let names: Vec<String> = std::iter::once(ALLOCATE.to_owned()).chain(sized).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let functions = code.table().functions_named(&names);
        let outer = functions.get(ALLOCATE).cloned().ok_or_else(|| {
            GoError::refused(format!(
                "its runtime has no function {ALLOCATE}, whose calls are followed"
            ))
        })?;
        let mut allocated = Vec::new();
        for (name, range) in functions {
            for place in returns(code, name, range)? {
                allocated.push(AllocatedPlace { place, is_outer: name == ALLOCATE });
            }
        }
        allocated.sort_by_key(|one| one.place.address);
        let start = ElfAddr(code.text().0.wrapping_add(outer.start));
        let outer = (start, outer.end.saturating_sub(outer.start));
        Ok(Self { allocated, outer, swept: place(code, SWEEP)? })
    }
}

/// The return instructions of a function. A trap on one is not a trapped return: nothing is put onto the stack.
fn returns(code: &GoCode, name: &str, range: Range<u64>) -> Result<Vec<HookPlace>, GoError> {
    let start = code.text().0.wrapping_add(range.start);
    let size = range.end.saturating_sub(range.start);
    let refuse =
        || GoError::refused(format!("not all returns of {name} of its runtime can be seen"));
    let bytes = code.image().bytes(ElfAddr(start), size.min(MAX_CODE_BYTES)).ok_or_else(refuse)?;
    let places = return_addresses(&bytes, start).filter(|_| size <= MAX_CODE_BYTES);
    let places = places.ok_or_else(refuse)?.into_iter().map(|address| {
        let offset = code.image().file_offset(address).ok_or_else(refuse)?;
        Ok(HookPlace { address, offset, single_stepped: true })
    });
    places.collect()
}

/// Where code returns; `None` when it is not understood or goes on elsewhere. Go keeps no data among its code.
fn return_addresses(code: &[u8], start: u64) -> Option<Vec<ElfAddr>> {
    let inside = start..start + code.len() as u64;
    let mut found = Vec::new();
    for instruction in &mut Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
        let leaves = match instruction.flow_control() {
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                !inside.contains(&instruction.near_branch_target())
            }
            FlowControl::IndirectBranch => true,
            FlowControl::Return => {
                found.push(ElfAddr(instruction.ip()));
                false
            }
            _ => false,
        };
        if leaves || instruction.is_invalid() {
            return None;
        }
    }
    (!found.is_empty()).then_some(found)
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
    fn a_function_returns_at_each_of_its_returns_and_nowhere_else() {
        // test eax,eax; je +1; ret; nop; ret; int3
        let code = [0x85, 0xc0, 0x74, 0x01, 0xc3, 0x90, 0xc3, 0xcc];
        assert_eq!(return_addresses(&code, 0x10), Some(vec![ElfAddr(0x14), ElfAddr(0x16)]));
        // A jump elsewhere, one to wherever a register says, what is no instruction, and nothing.
        for code in [&[0xc3, 0xeb, 0x40][..], &[0xc3, 0xff, 0xe0], &[0xc3, 0x06], &[0x90], &[]] {
            assert_eq!(return_addresses(code, 0x10), None, "{code:x?}");
        }
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
