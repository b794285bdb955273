//! Whether C++'s operator new ends in a function that is hooked.
//!
//! It throws when there is no memory, and no exception can pass a return probe: it is never hooked itself. libstdc++'s calls
//! malloc. Allocators that replace it may not: then their blocks are not seen, and that has to be said.

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use crate::target::ElfAddr;
use crate::target::symbols::Symbol;

/// `operator new(size_t)`, mangled.
pub const NAME: &str = "_Znwm";
/// Longest function looked at, bytes.
pub const MOST_CODE_BYTES: u64 = 512;

/// Whether the code of a function, which starts at `address`, calls or jumps to one of these functions, or anywhere that
/// cannot be told (through a register or a table, as a library calls another's malloc).
pub fn may_reach(code: &[u8], address: ElfAddr, functions: &[ElfAddr]) -> bool {
    let decoder = Decoder::with_ip(64, code, address.0, DecoderOptions::NONE);
    decoder.into_iter().any(|instruction| match instruction.flow_control() {
        FlowControl::Call | FlowControl::UnconditionalBranch => {
            functions.contains(&ElfAddr(instruction.near_branch_target()))
        }
        FlowControl::IndirectCall | FlowControl::IndirectBranch => true,
        _ => false,
    })
}

/// The function among a module's.
pub fn find(defined: &[Symbol]) -> Option<&Symbol> {
    defined.iter().find(|function| function.name == NAME && !function.indirect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_malloc_is_found_and_another_is_not() {
        // push rbx; call +0x10; pop rbx; ret
        let code = [0x53, 0xe8, 0x10, 0, 0, 0, 0x5b, 0xc3];
        assert!(may_reach(&code, ElfAddr(0x1000), &[ElfAddr(0x1016)]));
        assert!(!may_reach(&code, ElfAddr(0x1000), &[ElfAddr(0x2000)]));
        // jmp *0x10(%rip)
        assert!(may_reach(&[0xff, 0x25, 0x10, 0, 0, 0], ElfAddr(0x1000), &[]));
        assert!(!may_reach(&[0xc3], ElfAddr(0x1000), &[ElfAddr(0x1000)]));
    }
}
