//! Static probe points (USDT) of an ELF file: the section `.note.stapsdt`.
//!
//! In: an open file. Out: each point with its names, its address and its arguments as text. Bounded and checked as in
//! [`super::elf`].

use std::fs::File;

use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use object::{Endian as _, Endianness, elf};

use super::ElfAddr;
use super::file_bytes::FileBytes;

/// Most bytes of notes that are read; a large C library has a few tens of KiB.
const MAX_NOTE_BYTES: u64 = 4 << 20;
/// Most points that are believed.
const MAX_POINTS: usize = 65_536;
/// Longest name, and longest text of arguments, that is believed; longer ones are cut.
const MAX_TEXT_BYTES: usize = 256;
/// The note's owner and type (systemtap's sys/sdt.h).
const OWNER: &[u8] = b"stapsdt\0";
const TYPE: u32 = 3;

/// One probe point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The instruction.
    pub address: ElfAddr,
    /// A counter of tracers: the program looks at it before it prepares the arguments.
    pub semaphore: Option<ElfAddr>,
    /// Who offers it.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Where its arguments are, in the assembler's words.
    pub arguments: String,
}

/// All points of a file; none when it has no such section, or it cannot be read.
pub fn notes(file: &File) -> Vec<Note> {
    read(&FileBytes::new(file)).unwrap_or_default()
}

fn read(bytes: &FileBytes<'_>) -> Option<Vec<Note>> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok().filter(|endian| endian.is_little_endian())?;
    let sections = header.sections(endian, bytes).ok()?;
    let (_, section) = sections.section_by_name(endian, b".note.stapsdt")?;
    if section.sh_type(endian) != elf::SHT_NOTE || section.sh_size(endian) > MAX_NOTE_BYTES {
        return None;
    }
    // Where the linker put this section, in an address that notes repeat: a later change of addresses shows as a difference.
    let base = sections.section_by_name(endian, b".stapsdt.base");
    let base = base.map(|(_, section)| section.sh_addr(endian));
    Some(parse(section.data(endian, bytes).ok()?, base))
}

pub(crate) fn parse(mut data: &[u8], base: Option<u64>) -> Vec<Note> {
    let mut notes = Vec::new();
    while let Some((header, rest)) = data.split_first_chunk::<12>() {
        let word = |at: usize| {
            let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let (owner_bytes, description_bytes, kind) = (word(0), word(4), word(8));
        let Some((owner, rest)) = split_padded(rest, owner_bytes) else { break };
        let Some((description, rest)) = split_padded(rest, description_bytes) else { break };
        if owner == OWNER && kind == TYPE {
            notes.extend(point(description, base));
        }
        if notes.len() >= MAX_POINTS {
            break;
        }
        data = rest;
    }
    notes
}

/// The first so many bytes, and what follows their padding to 4 bytes.
fn split_padded(data: &[u8], length: u32) -> Option<(&[u8], &[u8])> {
    let length = length as usize;
    let padded = length.checked_next_multiple_of(4)?;
    let rest = data.get(padded.min(data.len().max(length))..)?;
    Some((data.get(..length)?, rest))
}

fn point(description: &[u8], base: Option<u64>) -> Option<Note> {
    let number = |at: usize| {
        let bytes = description.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let (address, noted_base, semaphore) = (number(0)?, number(8)?, number(16)?);
    let moved = base.map_or(0, |base| base.wrapping_sub(noted_base));
    let mut texts = description.get(24..)?.split(|byte| *byte == 0);
    let mut text = || {
        let bytes = texts.next()?;
        Some(std::str::from_utf8(bytes.get(..MAX_TEXT_BYTES).unwrap_or(bytes)).ok()?.to_owned())
    };
    Some(Note {
        address: ElfAddr(address.wrapping_add(moved)),
        semaphore: (semaphore != 0).then(|| ElfAddr(semaphore.wrapping_add(moved))),
        provider: text()?,
        name: text()?,
        arguments: text()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(address: u64, base: u64, semaphore: u64, texts: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        data.extend(8_u32.to_le_bytes());
        data.extend((24 + texts.len() as u32).to_le_bytes());
        data.extend(TYPE.to_le_bytes());
        data.extend(OWNER);
        for number in [address, base, semaphore] {
            data.extend(number.to_le_bytes());
        }
        data.extend(texts);
        data.resize(data.len().next_multiple_of(4), 0);
        data
    }

    #[test]
    fn notes_are_read_and_moved_with_their_section() {
        let mut data = note(0x1000, 0x2000, 0, b"otel_memory\0free\x008@%rdi\0");
        data.extend(note(0x1100, 0x2000, 0x3000, b"p\0n\0\0"));
        let notes = parse(&data, Some(0x2010));
        assert_eq!(notes.len(), 2);
        assert_eq!((notes[0].address, notes[0].semaphore), (ElfAddr(0x1010), None));
        assert_eq!((notes[0].provider.as_str(), notes[0].name.as_str()), ("otel_memory", "free"));
        assert_eq!(notes[0].arguments, "8@%rdi");
        assert_eq!(notes[1].semaphore, Some(ElfAddr(0x3010)));
        assert_eq!(parse(&data, None)[0].address, ElfAddr(0x1000));
    }

    #[test]
    fn cut_and_broken_notes_are_survived() {
        let mut data = note(1, 2, 3, b"a\0b\0c\0");
        data.extend(note(4, 5, 6, b"d\0e\0f\0"));
        for length in 0..data.len() {
            assert!(parse(&data[..length], None).len() < 2 || length >= data.len() - 3);
        }
        for at in 0..data.len() {
            data[at] ^= 0xff;
            let _ = parse(&data, Some(u64::MAX));
            data[at] ^= 0xff;
        }
    }
}
