//! Where functions start and end, as their call frame information says: also those without a symbol.

use std::fs::File;
use std::ops::Range;

use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, LittleEndian, UnwindSection as _};
use object::{Object as _, ObjectSection as _};

use crate::target::ElfAddr;
use crate::target::file_bytes::FileBytes;
use crate::unwind::common_entries::CommonEntries;

/// Most functions of one file; more are not believed.
const MAX_FUNCTIONS: usize = 4 << 20;

/// Pieces of code, each with a description of its own, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionRanges(Vec<Range<ElfAddr>>);

impl FunctionRanges {
    /// Reads them from a file; none when it has no call frame information.
    pub fn read(file: &File) -> Self {
        let image = FileBytes::new(file);
        let Ok(elf) = object::File::parse(&image) else { return Self::default() };
        let Some(section) = elf.section_by_name(".eh_frame") else { return Self::default() };
        let Ok(data) = section.uncompressed_data() else { return Self::default() };
        Self::of_section(&data, section.address())
    }

    pub(super) fn of_section(data: &[u8], address: u64) -> Self {
        let frames = EhFrame::from(EndianSlice::new(data, LittleEndian));
        let bases = BaseAddresses::default().set_eh_frame(address);
        let mut entries = frames.entries(&bases);
        let mut common = CommonEntries::new();
        let mut ranges = Vec::new();
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let parsed = partial.parse(|section, bases, offset| common.get(section, bases, offset));
            if let Ok(function) = parsed {
                ranges.push(ElfAddr(function.initial_address())..ElfAddr(function.end_address()));
            }
            if ranges.len() > MAX_FUNCTIONS {
                return Self::default();
            }
        }
        ranges.sort_by_key(|range| range.start);
        Self(ranges)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The piece that holds an address.
    pub fn around(&self, address: ElfAddr) -> Option<&Range<ElfAddr>> {
        let after = self.0.partition_point(|range| range.start <= address);
        self.0.get(after.checked_sub(1)?).filter(|range| range.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_very_program_is_in_its_range() {
        let file = File::open("/proc/self/exe").expect("itself");
        let ranges = FunctionRanges::read(&file);
        let start = crate::target::symbols::find_functions(&file, &["main"]).expect("symbols");
        let main = start.first().expect("a program has a main");
        let range = ranges.around(main.address).expect("described");
        assert_eq!(range.start, main.address);
        assert_eq!(range.end, ElfAddr(main.address.0 + main.size));
        assert_eq!(ranges.around(ElfAddr(u64::MAX)), None);
    }
}
