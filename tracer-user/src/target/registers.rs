//! Where the kernel keeps a thread's registers while a probe runs.

/// Names of a register: all of it, and its lower parts of 4, 2 and 1 bytes.
type Names = [&'static str; 4];

/// General registers in the order of `struct pt_regs` (arch/x86/include/asm/ptrace.h).
const ORDER: [Names; 15] = [
    ["r15", "r15d", "r15w", "r15b"],
    ["r14", "r14d", "r14w", "r14b"],
    ["r13", "r13d", "r13w", "r13b"],
    ["r12", "r12d", "r12w", "r12b"],
    ["rbp", "ebp", "bp", "bpl"],
    ["rbx", "ebx", "bx", "bl"],
    ["r11", "r11d", "r11w", "r11b"],
    ["r10", "r10d", "r10w", "r10b"],
    ["r9", "r9d", "r9w", "r9b"],
    ["r8", "r8d", "r8w", "r8b"],
    ["rax", "eax", "ax", "al"],
    ["rcx", "ecx", "cx", "cl"],
    ["rdx", "edx", "dx", "dl"],
    ["rsi", "esi", "si", "sil"],
    ["rdi", "edi", "di", "dil"],
];
/// Bytes from the start of the structure to the instruction pointer and to the stack pointer.
const INSTRUCTION_POINTER: u32 = 16 * 8;
const STACK_POINTER: u32 = 19 * 8;

/// Bytes from the start of `struct pt_regs` to the register with this name (without `%`), or to the one that it is a part
/// of.
pub fn offset_of(name: &str) -> Option<u32> {
    match name {
        "rip" => Some(INSTRUCTION_POINTER),
        "rsp" | "esp" | "sp" | "spl" => Some(STACK_POINTER),
        _ => {
            let index = ORDER.iter().position(|names| names.contains(&name))?;
            Some(index as u32 * 8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_kernels_order() {
        assert_eq!(offset_of("r15"), Some(0));
        assert_eq!(offset_of("rbp"), Some(32));
        assert_eq!(offset_of("eax"), Some(80));
        assert_eq!(offset_of("dil"), Some(112));
        assert_eq!(offset_of("rip"), Some(128));
        assert_eq!(offset_of("rsp"), Some(152));
        // The upper byte of a word is no lower part: its place would be another.
        assert_eq!(offset_of("ah"), None);
        assert_eq!(offset_of("xmm0"), None);
    }
}
