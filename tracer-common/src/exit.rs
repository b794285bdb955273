//! Where a function that may throw is seen to return: an instruction after which nothing but the return can come.
//!
//! A trap on the return itself would put an address of the kernel's onto the stack, which ends the program when an
//! exception passes it. An instruction that is on the way to the return, and that knows the result, does as well.

/// One row of the kernel's table of exits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitInfo {
    /// Bytes from the start of `struct pt_regs` to the register that holds the result.
    pub register_offset: u32,
    /// The call leaves only if this [`Condition`] holds.
    pub condition: u32,
    /// Bytes from the stack pointer up to the return address.
    pub stack_bytes: u32,
    /// 1 when the kernel must single-step the instruction.
    pub single_stepped: u32,
}

const _: () = assert!(size_of::<ExitInfo>() == 16);

/// A condition of a jump, by the processor's number for it plus 1; 0 is no condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition(pub u32);

const CARRY: u64 = 1;
const PARITY: u64 = 1 << 2;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;

impl Condition {
    /// Always.
    pub const NONE: Self = Self(0);

    /// The opposite; of none, none.
    #[must_use]
    pub const fn negated(self) -> Self {
        match self.0 {
            0 => self,
            number => Self(((number - 1) ^ 1) + 1),
        }
    }

    /// Whether it holds for these flags (Intel SDM, volume 1, appendix B).
    #[inline]
    pub const fn holds(self, flags: u64) -> bool {
        if self.0 == 0 {
            return true;
        }
        let number = self.0 - 1;
        let less = (flags & SIGN != 0) != (flags & OVERFLOW != 0);
        let holds = match number >> 1 {
            0 => flags & OVERFLOW != 0,
            1 => flags & CARRY != 0,
            2 => flags & ZERO != 0,
            3 => flags & (CARRY | ZERO) != 0,
            4 => flags & SIGN != 0,
            5 => flags & PARITY != 0,
            6 => less,
            _ => less || flags & ZERO != 0,
        };
        holds != (number & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_the_processors() {
        // je, jne, jb, ja, jl, jg: numbers 4, 5, 2, 7, 12, 15.
        let [equal, not_equal, below, above, less, greater] =
            [5, 6, 3, 8, 13, 16].map(|number| move |flags| Condition(number).holds(flags));
        assert!(equal(ZERO) && !equal(0) && not_equal(0) && !not_equal(ZERO));
        assert!(below(CARRY) && !below(ZERO) && above(0) && !above(CARRY) && !above(ZERO));
        assert!(less(SIGN) && less(OVERFLOW) && !less(SIGN | OVERFLOW) && !less(0));
        assert!(greater(0) && greater(SIGN | OVERFLOW) && !greater(ZERO) && !greater(SIGN));
        assert!(Condition::NONE.holds(0) && Condition::NONE.negated() == Condition::NONE);
        for number in 1..=16 {
            for flags in [0, CARRY, PARITY, ZERO, SIGN, OVERFLOW, SIGN | OVERFLOW, CARRY | ZERO] {
                let condition = Condition(number);
                assert_ne!(condition.holds(flags), condition.negated().holds(flags));
            }
        }
    }
}
