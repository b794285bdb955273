//! What the linker tells the runtime of a module: where its code, its types and its tables are.
//!
//! In: the writable memory of the live process, where relocations are applied. Out: a [`Moduledata`], found by its first word, which is the
//! address of the function table.

use super::GoError;
use super::bytes::{u32_at, u64_at};
use super::layout::ModuledataLayout;
use super::pclntab::Pclntab;
use crate::target::{ElfAddr, Image, RemoteMemory, VirtAddr};

/// Most bytes of all segments that are searched.
const MAX_SEARCHED_BYTES: u64 = 1 << 30;
/// Pieces in which they are read.
const PIECE_BYTES: u64 = 4 << 20;
/// The module's own text begins at most this far from its lowest function, and gaps inside it are no larger.
const WORD_BYTES: u64 = 8;

/// A stretch of variables, and which of their words hold addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables {
    /// The first word.
    pub start: VirtAddr,
    /// The end.
    pub end: VirtAddr,
    /// Bits that the runtime has of their words, as many as it says.
    pub mask_bits: u64,
    /// Where the bits are.
    pub mask: VirtAddr,
}

/// A module of Go code in the process. Addresses are those in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moduledata {
    /// Its first instruction.
    pub text: VirtAddr,
    /// The end of its code.
    pub text_end: VirtAddr,
    /// Its types.
    pub types: VirtAddr,
    /// The end of its types.
    pub types_end: VirtAddr,
    /// What tables of functions, such as those of inlined calls, count from.
    pub functions_data: VirtAddr,
    /// Variables that hold addresses: those with a value to begin with, and those without.
    pub variables: [Variables; 2],
    /// There are more modules: plugins.
    pub has_next: bool,
}

impl Moduledata {
    /// Finds the module of the table. `bias` is what the loader added to the file's addresses.
    pub fn find(
        memory: RemoteMemory,
        image: &Image,
        bias: u64,
        table: &Pclntab,
        layout: &ModuledataLayout,
    ) -> Result<Self, GoError> {
        let header = table.address.0.wrapping_add(bias);
        let mut left = MAX_SEARCHED_BYTES;
        for segment in image.segments().iter().filter(|segment| segment.writable) {
            let start = segment.address.0.wrapping_add(bias);
            let size = segment.file_size.min(left);
            left -= size;
            for from in (0..size).step_by(PIECE_BYTES as usize) {
                let mut piece = vec![0; (size - from).min(PIECE_BYTES) as usize];
                let at = start.wrapping_add(from);
                let read = memory.read_available(VirtAddr(at), &mut piece)?;
                for place in words_equal_to(&piece[..read], at, header) {
                    if let Some(found) = Self::read(memory, place, image, bias, table, layout) {
                        return Ok(found);
                    }
                }
            }
        }
        Err(GoError::refused(
            "no description of its module (moduledata) that fits its function table is in its memory",
        ))
    }

    /// Reads and checks what may be the module's description.
    fn read(
        memory: RemoteMemory,
        place: VirtAddr,
        image: &Image,
        bias: u64,
        table: &Pclntab,
        layout: &ModuledataLayout,
    ) -> Option<Self> {
        let bytes = memory.read(place, usize::try_from(layout.size).ok()?).ok()?;
        let word = |offset: u64| u64_at(&bytes, offset);
        let listed = word(layout.ftab + WORD_BYTES)?;
        let variables = |start: u64, end: u64, mask: u64| {
            Some(Variables {
                start: VirtAddr(word(start)?),
                end: VirtAddr(word(end)?),
                mask_bits: u64::from(u32_at(&bytes, mask)?),
                mask: VirtAddr(word(mask + WORD_BYTES)?),
            })
        };
        let found = Self {
            text: VirtAddr(word(layout.text)?),
            text_end: VirtAddr(word(layout.etext)?),
            types: VirtAddr(word(layout.types)?),
            types_end: VirtAddr(word(layout.etypes)?),
            functions_data: VirtAddr(word(layout.gofunc)?),
            variables: [
                variables(layout.data, layout.edata, layout.gcdatamask)?,
                variables(layout.bss, layout.ebss, layout.gcbssmask)?,
            ],
            has_next: word(layout.next)? != 0,
        };
        let in_file = |address: VirtAddr| ElfAddr(address.0.wrapping_sub(bias));
        let fits = (listed == table.functions || listed == table.functions + 1)
            && found.text < found.text_end
            && (found.text.0..=found.text_end.0).contains(&word(layout.minpc)?)
            && (found.text.0..=found.text_end.0).contains(&word(layout.maxpc)?)
            && found.types <= found.types_end
            && found.variables.iter().all(|some| some.start <= some.end)
            && image.is_code(in_file(found.text))
            && image.bytes(in_file(found.functions_data), 1).is_some();
        fits.then_some(found)
    }
}

/// Where a word with this value is; `start` is the address of the first byte.
fn words_equal_to(bytes: &[u8], start: u64, value: u64) -> Vec<VirtAddr> {
    let skew = (start.wrapping_neg() % WORD_BYTES) as usize;
    let words = bytes.get(skew..).unwrap_or_default().chunks_exact(WORD_BYTES as usize);
    let wanted = value.to_le_bytes();
    let hits = words.enumerate().filter(|(_, word)| *word == wanted);
    hits.map(|(n, _)| VirtAddr(start.wrapping_add((skew + n * WORD_BYTES as usize) as u64)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_on_their_boundary_only() {
        let mut bytes = vec![0_u8; 64];
        bytes[4..12].copy_from_slice(&7_u64.to_le_bytes());
        bytes[21..29].copy_from_slice(&7_u64.to_le_bytes());
        assert_eq!(words_equal_to(&bytes, 0x1004, 7), [VirtAddr(0x1008)]);
        assert_eq!(words_equal_to(&bytes, 0x1000, 7), []);
        assert_eq!(words_equal_to(&bytes[..3], 0x1005, 7), []);
    }
}
