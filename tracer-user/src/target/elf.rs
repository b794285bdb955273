//! What an ELF file says about itself: segments, identity, and which names it holds.
//!
//! In: an open file. Out: an [`Elf`], or why it is none. The file is hostile input: reads are bounded by
//! `file_bytes`, numbers are checked, nothing panics.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use object::elf;
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader, SectionHeader, SectionTable};
use object::read::{FileKind, ReadRef};
use object::{Endianness, read};

use super::debug_links::DebugLinks;
use super::file_bytes::FileBytes;
use super::{ElfAddr, FileOffset};

/// Longest build id that is believed; GNU ld writes 20 bytes.
pub(super) const MAX_BUILD_ID_BYTES: usize = 64;

/// Why a file cannot be read as ELF.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// It is something else.
    #[error("it is not an ELF file")]
    NotElf,
    /// It contradicts itself, or is cut short.
    #[error("its ELF structure is broken: {0}")]
    Broken(&'static str),
}

/// Width of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 32-bit.
    Bits32,
    /// 64-bit.
    Bits64,
}

/// A loadable segment (`PT_LOAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Code (`PF_X`).
    pub executable: bool,
    /// Where it starts in the file.
    pub file_offset: FileOffset,
    /// Bytes in the file.
    pub file_size: u64,
    /// Where it starts by the file's own addresses.
    pub address: ElfAddr,
}

impl Segment {
    /// What to add to a file offset in this segment to get its address.
    pub fn address_of_file_start(&self) -> u64 {
        self.address.0.wrapping_sub(self.file_offset.0)
    }
}

/// Where the functions of a file have names.
#[expect(clippy::struct_excessive_bools, reason = "each is there or not")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// It has DWARF of its own.
    pub debug_info: bool,
    /// It has a symbol table that `strip` would remove.
    pub symtab: bool,
    /// It has dynamic symbols.
    pub dynamic: bool,
    /// It has a compressed symbol table (`.gnu_debugdata`).
    pub mini: bool,
}

impl Names {
    /// `full` (with debug information), `stripped` (symbols alone) or `none`: the contract's words.
    pub fn level(self) -> &'static str {
        match self {
            Self { debug_info: true, .. } => "full",
            Self { symtab: true, .. } | Self { dynamic: true, .. } | Self { mini: true, .. } => {
                "stripped"
            }
            _ => "none",
        }
    }
}

/// Facts about an ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Width of addresses.
    pub class: Class,
    /// Instruction set (`e_machine`).
    pub machine: u16,
    /// Loadable segments, in the file's order.
    pub segments: Vec<Segment>,
    /// GNU build id, lower-case hexadecimal.
    pub build_id: Option<String>,
    /// Program interpreter (dynamic loader); a static program has none.
    pub interpreter: Option<PathBuf>,
    /// Where its functions have names.
    pub names: Names,
    /// Other files with its debug information.
    pub links: DebugLinks,
    /// The Go toolchain linked it (section `.go.buildinfo`).
    pub is_go: bool,
}

impl Elf {
    /// Reads the facts.
    pub fn read(file: &File) -> Result<Self, ElfError> {
        let bytes = FileBytes::new(file);
        match FileKind::parse(&bytes) {
            Ok(FileKind::Elf64) => parse::<elf::FileHeader64<Endianness>>(&bytes, Class::Bits64),
            Ok(FileKind::Elf32) => parse::<elf::FileHeader32<Endianness>>(&bytes, Class::Bits32),
            _ => Err(ElfError::NotElf),
        }
    }

    /// The segment that a mapping of the file from `offset` on, `size` bytes long, shows as code.
    ///
    /// Linkers other than GNU ld let segments share a page of the file, so that a page can belong to two; the executable
    /// one with most in the mapping is meant.
    pub fn code_segment(&self, offset: FileOffset, size: u64) -> Option<&Segment> {
        let shown = |segment: &Segment| {
            let start = segment.file_offset.0.max(offset.0);
            let end = segment
                .file_offset
                .0
                .saturating_add(segment.file_size)
                .min(offset.0.saturating_add(size));
            end.saturating_sub(start)
        };
        self.segments
            .iter()
            .filter(|segment| shown(segment) > 0)
            .max_by_key(|segment| (segment.executable, shown(segment)))
    }

    /// Where in the file the byte at an address is.
    pub fn file_offset(&self, address: ElfAddr) -> Option<FileOffset> {
        let holds = |s: &&Segment| address.0.wrapping_sub(s.address.0) < s.file_size;
        let segment = self.prefer_code(holds)?;
        Some(FileOffset(address.0.wrapping_sub(segment.address_of_file_start())))
    }

    /// The address of a byte of the file.
    pub fn address(&self, offset: FileOffset) -> Option<ElfAddr> {
        let holds = |s: &&Segment| offset.0.wrapping_sub(s.file_offset.0) < s.file_size;
        let segment = self.prefer_code(holds)?;
        Some(ElfAddr(offset.0.wrapping_add(segment.address_of_file_start())))
    }

    fn prefer_code(&self, holds: impl Fn(&&Segment) -> bool) -> Option<&Segment> {
        self.segments.iter().filter(holds).max_by_key(|segment| segment.executable)
    }
}

fn parse<H: FileHeader<Endian = Endianness>>(
    bytes: &FileBytes<'_>,
    class: Class,
) -> Result<Elf, ElfError> {
    let header = H::parse(bytes).map_err(|_| ElfError::Broken("file header"))?;
    let endian = header.endian().map_err(|_| ElfError::Broken("byte order"))?;
    let programs =
        header.program_headers(endian, bytes).map_err(|_| ElfError::Broken("program headers"))?;
    // Sections are not needed to run a program, so a file with none or broken ones is still traced.
    let sections = header.sections(endian, bytes).unwrap_or_default();
    let has = |kind| sections.iter().any(|s| s.sh_type(endian) == kind);
    Ok(Elf {
        class,
        machine: header.e_machine(endian).0,
        segments: programs.iter().filter_map(|p| segment(p, endian)).collect(),
        build_id: build_id(programs, &sections, endian, bytes),
        interpreter: programs.iter().find_map(|p| {
            let path = p.interpreter(endian, bytes).ok()??;
            Some(PathBuf::from(OsStr::from_bytes(path)))
        }),
        names: Names {
            debug_info: has_section(&sections, endian, b".debug_info")
                || has_section(&sections, endian, b".zdebug_info"),
            symtab: has(elf::SHT_SYMTAB),
            dynamic: has(elf::SHT_DYNSYM),
            mini: has_section(&sections, endian, b".gnu_debugdata"),
        },
        links: DebugLinks::read(&sections, endian, bytes),
        is_go: has_section(&sections, endian, b".go.buildinfo"),
    })
}

fn segment<P: ProgramHeader<Endian = Endianness>>(
    program: &P,
    endian: Endianness,
) -> Option<Segment> {
    if program.p_type(endian) != elf::PT_LOAD {
        return None;
    }
    let (offset, size) = program.file_range(endian);
    Some(Segment {
        executable: program.p_flags(endian).0 & elf::PF_X.0 != 0,
        file_offset: FileOffset(offset),
        file_size: size,
        address: ElfAddr(program.p_vaddr(endian).into()),
    })
}

/// From the notes that are loaded, else from those in sections: what dwz writes has nothing to load.
fn build_id<'a, H: FileHeader<Endian = Endianness>>(
    programs: &[H::ProgramHeader],
    sections: &SectionTable<'a, H, &'a FileBytes<'_>>,
    endian: Endianness,
    bytes: &'a FileBytes<'_>,
) -> Option<String> {
    let loaded = programs.iter().filter_map(|p| p.notes(endian, bytes).ok().flatten());
    let kept = sections.iter().filter_map(|s| s.notes(endian, bytes).ok().flatten());
    loaded.chain(kept).find_map(|notes| build_id_note::<H>(notes, endian))
}

fn build_id_note<H: FileHeader<Endian = Endianness>>(
    mut notes: NoteIterator<'_, H>,
    endian: Endianness,
) -> Option<String> {
    while let Ok(Some(note)) = notes.next() {
        let id = note.desc();
        let is_build_id =
            note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID;
        if is_build_id && (1..=MAX_BUILD_ID_BYTES).contains(&id.len()) {
            return Some(hexadecimal(id));
        }
    }
    None
}

/// Two lower-case digits a byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Whether there is a section with this name and bytes in the file.
fn has_section<'a, H: FileHeader<Endian = Endianness>, R: ReadRef<'a>>(
    sections: &SectionTable<'a, H, R>,
    endian: Endianness,
    name: &[u8],
) -> bool {
    sections.section_by_name(endian, name).is_some_and(|(_, section)| {
        section.sh_type(endian) != elf::SHT_NOBITS && section.sh_size(endian).into() > 0
    })
}

impl From<read::Error> for ElfError {
    fn from(_: read::Error) -> Self {
        Self::Broken("tables")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn own() -> File {
        File::open("/proc/self/exe").expect("own program")
    }

    #[test]
    fn reads_this_very_program() {
        let elf = Elf::read(&own()).expect("an ELF file");
        assert_eq!(elf.class, Class::Bits64);
        assert_eq!(elf.names.level(), "full");
        assert!(elf.names.symtab && !elf.is_go);
        assert!(elf.interpreter.is_some());
        assert!(elf.segments.iter().any(|s| s.executable));
    }

    #[test]
    fn address_and_offset_are_inverse_in_code() {
        let elf = Elf::read(&own()).expect("an ELF file");
        let code = elf.segments.iter().find(|s| s.executable).expect("code");
        let offset = FileOffset(code.file_offset.0 + code.file_size / 2);
        let address = elf.address(offset).expect("in a segment");
        assert_eq!(elf.file_offset(address), Some(offset));
        assert_eq!(elf.address(FileOffset(u64::MAX)), None);
        assert_eq!(elf.file_offset(ElfAddr(u64::MAX)), None);
    }

    #[test]
    fn a_page_shared_by_two_segments_is_the_code_segments() {
        let segment = |executable, offset, size, address| Segment {
            executable,
            file_offset: FileOffset(offset),
            file_size: size,
            address: ElfAddr(address),
        };
        let elf = Elf {
            class: Class::Bits64,
            machine: 62,
            segments: vec![segment(false, 0, 0x1a30, 0), segment(true, 0x1a30, 0x5000, 0x2a30)],
            build_id: None,
            interpreter: None,
            names: Names::default(),
            links: DebugLinks::default(),
            is_go: false,
        };
        let code = elf.code_segment(FileOffset(0x1000), 0x6000).expect("code");
        assert_eq!(code.address_of_file_start(), 0x1000);
        assert!(elf.code_segment(FileOffset(0x10000), 0x1000).is_none());
    }

    #[test]
    fn what_is_cut_short_or_changed_is_refused_or_read_but_never_panics() {
        let whole = std::fs::read("/bin/true").expect("a small program");
        let mut cut = tempfile::tempfile().expect("temporary file");
        for length in (0..whole.len()).step_by(997) {
            cut.set_len(0).expect("empty");
            std::io::Seek::rewind(&mut cut).expect("rewind");
            cut.write_all(&whole[..length]).expect("write");
            let _ignored = Elf::read(&cut).is_ok();
        }
        for position in 0..0x400 {
            let mut changed = tempfile::tempfile().expect("temporary file");
            let mut bytes = whole.clone();
            bytes[position] ^= 0xff;
            changed.write_all(&bytes).expect("write");
            let _ignored = Elf::read(&changed).is_ok();
        }
    }

    #[test]
    fn a_text_file_is_no_elf() {
        let file = File::open("/etc/passwd").expect("a text file");
        assert_eq!(Elf::read(&file), Err(ElfError::NotElf));
    }
}
