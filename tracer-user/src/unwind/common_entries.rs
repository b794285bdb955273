//! The common parts (CIE) of call frame information, to which the descriptions of functions refer.
//!
//! In: where one is. Out: the entry, read once, right or wrong: a file may have one of many megabytes, and a hundred thousand functions
//! that refer to it.

use std::collections::HashMap;

use gimli::{BaseAddresses, CommonInformationEntry, EhFrame, EhFrameOffset, UnwindSection as _};

use super::compile::Slice;

/// What compilers write is shorter.
const USUAL_BYTES: usize = 64;
/// Most bytes beyond that which are gone through, for all functions together: each starts with the instructions of its common part.
const MAX_UNUSUAL_BYTES: usize = 16 << 20;

/// Those of one section.
pub(super) struct CommonEntries<'a> {
    known: HashMap<EhFrameOffset, gimli::Result<CommonInformationEntry<Slice<'a>>>>,
    unusual_bytes: usize,
}

impl<'a> CommonEntries<'a> {
    /// With none read yet.
    pub(super) fn new() -> Self {
        Self { known: HashMap::new(), unusual_bytes: 0 }
    }

    /// The entry at a place, for one more function.
    pub(super) fn get(
        &mut self,
        section: &EhFrame<Slice<'a>>,
        bases: &BaseAddresses,
        offset: EhFrameOffset,
    ) -> gimli::Result<CommonInformationEntry<Slice<'a>>> {
        let read = || section.cie_from_offset(bases, offset);
        let entry = self.known.entry(offset).or_insert_with(read).clone()?;
        self.unusual_bytes += entry.entry_len().saturating_sub(USUAL_BYTES);
        if self.unusual_bytes > MAX_UNUSUAL_BYTES {
            return Err(gimli::Error::TooManyRegisterRules);
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use crate::unwind::compile::rows;
    use crate::unwind::functions::FunctionRanges;

    /// A common part that is padded to so many bytes, and functions of 16 bytes that refer to it.
    fn section(common_bytes: u32, functions: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |words: &[u32]| bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        put(&[common_bytes, 0]);
        // Version 1, no augmentation, alignments 1 and -8, return address 16, then: CFA = rsp + 8, the return address at CFA - 8.
        put(&[0x7801_0001, 0x0807_0c10, 0x0000_0190]);
        put(&vec![0; (common_bytes as usize - 16) / 4]);
        for number in 0..functions {
            let at = 4 + common_bytes + number * 28;
            put(&[24, at + 4, 0x1000 + number * 32, 0, 16, 0, 0]);
        }
        bytes
    }

    #[test]
    fn usual_ones_are_as_many_as_there_are_functions() {
        let bytes = section(20, 1000);
        assert_eq!(rows(&bytes, 0).len(), 2 * 1000);
        assert_eq!(FunctionRanges::of_section(&bytes, 0).len(), 1000);
    }

    #[test]
    fn large_ones_are_not_gone_through_without_end() {
        // Nine functions and a half have 16 MiB.
        let bytes = section(1 << 20, 64);
        let described = FunctionRanges::of_section(&bytes, 0).len();
        assert!((1..=16).contains(&described), "{described}");
        assert!(rows(&bytes, 0).len() <= 2 * 16);
    }
}
