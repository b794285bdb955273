//! Unwind tables as kernel programs read them, compiled by userspace from `.eh_frame`.
//!
//! A file's code is cut into pages of 64 KiB. Each page has its rows sorted by address; a row holds the low 16 bits of the
//! first address it is for, and the number of its [`Rule`] in a dictionary that all files share. The first row of a page
//! is for its first byte, so that a search never leaves the page.

use crate::limits::MAX_CODE_RANGES;

/// Bits of an address within a page.
pub const PAGE_BITS: u32 = 16;

/// How to find the canonical frame address (DWARF's CFA) of a frame: the caller's stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum CfaKind {
    /// Nothing is known: code between functions, or a rule that is not supported. The frame pointer may lead on.
    Unknown = 0,
    /// Stack pointer plus offset.
    StackPointer = 1,
    /// Frame pointer plus offset.
    FramePointer = 2,
    /// There is no caller: the return address is undefined.
    Outermost = 3,
    /// The frame of a signal handler's caller: registers are in the signal context on the stack.
    Signal = 4,
    /// What stands at the stack pointer plus offset, plus `cfa_added`: assembly that aligns its stack.
    AtStackPointer = 5,
    /// What stands at the frame pointer plus offset, plus `cfa_added`: functions that align their stack.
    AtFramePointer = 6,
    /// Stack pointer plus offset, and 8 more from byte `fp_offset` of an entry of the procedure linkage table on, since an
    /// entry pushes a word before it jumps. Only an interrupted entry is ever seen.
    LinkageTable = 7,
}

/// Where the caller's frame pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FpPlace {
    /// In its register still.
    Register = 0,
    /// Saved at the canonical frame address plus `fp_offset`.
    FromCfa = 1,
    /// Saved at the frame pointer plus `fp_offset`.
    FromFramePointer = 2,
}

/// Bytes of an entry of the procedure linkage table.
pub const LINKAGE_ENTRY_BYTES: u64 = 16;

/// What to do in a frame to come to its caller's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)
)]
pub struct Rule {
    /// A [`CfaKind`]'s number.
    pub cfa_kind: u32,
    /// Added to the register, bytes.
    pub cfa_offset: i32,
    /// Added to what stands in memory, for the kinds that read it, bytes.
    pub cfa_added: i16,
    /// An [`FpPlace`]'s number.
    pub fp_place: u16,
    /// See [`FpPlace`] and [`CfaKind::LinkageTable`], bytes.
    pub fp_offset: i32,
}

/// Code of a process that lies at consecutive addresses and comes from one file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeRange {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// What to subtract (wrapping) from an address to get its distance from the file's first page.
    pub bias: u64,
    /// Number of the file's first page.
    pub first_page: u32,
    /// Pages of the file; 0 when it has no table.
    pub pages: u16,
    /// Number of the file, see [`crate::stack::frame_in_file`].
    pub file: u16,
}

/// The code of a process, sorted by address; unused ranges come last and start beyond every address ([`UNUSED_START`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeMap {
    /// The ranges.
    pub ranges: [CodeRange; MAX_CODE_RANGES],
}

impl CodeMap {
    /// A map without code.
    pub const EMPTY: Self = Self {
        ranges: [CodeRange {
            start: UNUSED_START,
            end: 0,
            bias: 0,
            first_page: 0,
            pages: 0,
            file: 0,
        }; MAX_CODE_RANGES],
    };
}

const _: () = assert!(size_of::<Rule>() == 16);
const _: () = assert!(size_of::<CodeRange>() == 32);
const _: () = assert!(MAX_CODE_RANGES.is_power_of_two());

/// Where unused ranges start: beyond user addresses, and as a signed number beyond them too.
pub const UNUSED_START: u64 = 1 << 62;

/// Packs a row.
pub const fn row(low_address: u16, rule: u16) -> u32 {
    (low_address as u32) << 16 | rule as u32
}

/// The low address bits of a row.
pub const fn row_address(row: u32) -> u32 {
    row >> 16
}

/// The number of a row's rule.
pub const fn row_rule(row: u32) -> u32 {
    row & 0xffff
}
