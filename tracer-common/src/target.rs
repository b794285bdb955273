//! What kernel programs know of a traced process.

/// A traced process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetRow {
    /// Which code it has mapped: the low [`VERSION_BITS`] are userspace's, and differ for every change and every process; 0
    /// stands for code that is not known. Above them the kernel side counts changes that userspace has not seen yet.
    pub code_version: u32,
    /// Stacks through unknown code that may still be copied out, see [`crate::stack::StackCopyRecord`].
    pub stack_copies_left: u32,
    /// Its place in the tables of [`crate::process`].
    pub process: u32,
}

/// See [`TargetRow::code_version`].
pub const VERSION_BITS: u32 = 16;

/// Added to the version when the kernel side sees a change.
pub const UNSEEN_CHANGE: u32 = 1 << VERSION_BITS;
