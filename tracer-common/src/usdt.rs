//! Static probe points of a program (USDT): where their arguments are.
//!
//! A program's own sampler tells of its allocations by `alloc(block, size, weighted bytes)` and `free(block)`. Userspace
//! reads from the file where the compiler put each argument; kernel programs fetch it there.

/// Arguments of the longest probe point.
pub const ARGUMENTS: usize = 3;

/// Where an argument is; the kind of an [`ArgumentPlace`].
pub mod kind {
    /// There is none.
    pub const ABSENT: u32 = 0;
    /// The number `value` itself.
    pub const CONSTANT: u32 = 1;
    /// In a register.
    pub const REGISTER: u32 = 2;
    /// In memory, `value` bytes from where the register (plus a scaled second one) leads.
    pub const MEMORY: u32 = 3;
}

/// No register: a memory operand without a base or an index.
pub const NO_REGISTER: u32 = u32::MAX;

/// Where one argument is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArgumentPlace {
    /// See [`kind`].
    pub kind: u32,
    /// Bytes from the start of `struct pt_regs` to the register, or [`NO_REGISTER`].
    pub register_offset: u32,
    /// Likewise, of the register that is scaled and added.
    pub index_offset: u32,
    /// Power of two that the index register is multiplied by.
    pub index_shift: u32,
    /// The number, or the displacement.
    pub value: u64,
    /// Bits that are not part of the argument: a value is shifted left by them and back.
    pub unused_bits: u32,
    /// 1 when the sign is extended.
    pub is_signed: u32,
}

/// One probe point.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbePoint {
    /// Its arguments.
    pub arguments: [ArgumentPlace; ARGUMENTS],
}

const _: () = assert!(size_of::<ArgumentPlace>() == 32);
const _: () = assert!(size_of::<ProbePoint>() == 96);

impl ArgumentPlace {
    /// The argument from the eight bytes that were found.
    #[inline]
    pub const fn cut(&self, found: u64) -> u64 {
        let bits = self.unused_bits & 63;
        if self.is_signed != 0 {
            (((found << bits) as i64) >> bits) as u64
        } else {
            (found << bits) >> bits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_arguments_are_extended_as_they_are_signed() {
        let place = |unused_bits, is_signed| ArgumentPlace {
            unused_bits,
            is_signed,
            ..ArgumentPlace::default()
        };
        assert_eq!(place(56, 0).cut(0x1ff), 0xff);
        assert_eq!(place(56, 1).cut(0x1ff), u64::MAX);
        assert_eq!(place(32, 1).cut(0xffff_ffff_8000_0000), 0xffff_ffff_8000_0000);
        assert_eq!(place(0, 0).cut(u64::MAX), u64::MAX);
    }
}
