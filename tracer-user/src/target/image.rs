//! An ELF file's bytes by the addresses that the file gives them, and its sections by name.
//!
//! In: an open file. Out: an [`Image`]. The file is hostile input: sizes are bounded, numbers checked, nothing panics.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::read::ZlibDecoder;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, read};

use super::elf::ElfError;
use super::file_bytes::FileBytes;
use super::{ElfAddr, FileOffset};

/// Most bytes of one piece.
const MAX_READ_BYTES: u64 = 512 << 20;

/// Most bytes of a section; a program of a hundred megabytes has so many of debug information, without their compression.
const MAX_CONTENTS_BYTES: u64 = 256 << 20;

/// Most segments that are looked at; a program has four to six.
const MAX_SEGMENTS: usize = 64;

/// Most sections that are looked at.
const MAX_SECTIONS: usize = 4096;

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSegment {
    /// First address.
    pub address: ElfAddr,
    /// Where it starts in the file.
    pub file_offset: FileOffset,
    /// Bytes in the file.
    pub file_size: u64,
    /// The process may write to it (before `RELRO` is applied).
    pub writable: bool,
    /// Code.
    pub executable: bool,
}

/// A named part of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// First address.
    pub address: ElfAddr,
    /// Bytes in the file.
    pub size: u64,
    /// Where they start in the file.
    pub file_offset: FileOffset,
    /// They are compressed (`SHF_COMPRESSED`).
    pub compressed: bool,
}

/// A 64-bit ELF file.
#[derive(Clone, Debug)]
pub struct Image {
    file: Arc<File>,
    segments: Vec<ImageSegment>,
    sections: Vec<Section>,
}

impl Image {
    /// Reads where things are.
    pub fn read(file: Arc<File>) -> Result<Self, ElfError> {
        let (segments, sections) = {
            let bytes = FileBytes::new(&file);
            parse(&bytes, file.metadata().map_or(0, |metadata| metadata.len()))?
        };
        Ok(Self { file, segments, sections })
    }

    /// The open file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Loadable segments, in the file's order.
    pub fn segments(&self) -> &[ImageSegment] {
        &self.segments
    }

    /// The section with this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Where an address is in the file.
    pub fn file_offset(&self, address: ElfAddr) -> Option<FileOffset> {
        Some(FileOffset(self.rest(address)?.0))
    }

    /// Whether the address is in code.
    pub fn is_code(&self, address: ElfAddr) -> bool {
        self.segment(address).is_some_and(|segment| segment.executable)
    }

    /// Bytes of the file from an address on; `None` when not all of them are in one segment of the file.
    pub fn bytes(&self, address: ElfAddr, size: u64) -> Option<Vec<u8>> {
        let (offset, left) = self.rest(address)?;
        if size > left.min(MAX_READ_BYTES) {
            return None;
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// The same, but fewer where the segment, or the file, ends before.
    pub fn bytes_up_to(&self, address: ElfAddr, size: u64) -> Option<Vec<u8>> {
        let (offset, left) = self.rest(address)?;
        let in_file = self.file.metadata().ok()?.len().saturating_sub(offset);
        let size = size.min(left).min(in_file).min(MAX_READ_BYTES);
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// The bytes of a section, loaded or not, without their compression; `None` when they are not there, too many, or compressed in
    /// another way than by zlib.
    pub fn contents(&self, section: &Section) -> Option<Vec<u8>> {
        let in_file = self.file.metadata().ok()?.len();
        let end = section.file_offset.0.checked_add(section.size)?;
        if end > in_file || section.size > MAX_CONTENTS_BYTES {
            return None;
        }
        let mut bytes = vec![0; section.size as usize];
        self.file.read_exact_at(&mut bytes, section.file_offset.0).ok()?;
        if section.compressed { inflate(&bytes) } else { Some(bytes) }
    }

    fn segment(&self, address: ElfAddr) -> Option<&ImageSegment> {
        self.segments.iter().find(|s| address.0.wrapping_sub(s.address.0) < s.file_size)
    }

    /// Where in the file an address is, and how many bytes of its segment follow.
    fn rest(&self, address: ElfAddr) -> Option<(u64, u64)> {
        let segment = self.segment(address)?;
        let distance = address.0.wrapping_sub(segment.address.0);
        Some((segment.file_offset.0.checked_add(distance)?, segment.file_size - distance))
    }
}

/// Of a compressed section: a header (`Elf64_Chdr`: kind, 4 bytes of nothing, size, alignment), and a stream.
fn inflate(section: &[u8]) -> Option<Vec<u8>> {
    const HEADER_BYTES: usize = 24;
    let (header, stream) = section.split_at_checked(HEADER_BYTES)?;
    let kind = u32::from_le_bytes(header[..4].try_into().ok()?);
    let size = u64::from_le_bytes(header[8..16].try_into().ok()?);
    if kind != elf::ELFCOMPRESS_ZLIB.0 || size > MAX_CONTENTS_BYTES {
        return None;
    }
    // As much is set aside as the stream has, rather than what it is said to become.
    let mut bytes = Vec::new();
    ZlibDecoder::new(stream).take(size).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == size).then_some(bytes)
}

/// `file_bytes` is how long the file is: a segment that says it is longer ends there.
fn parse(
    bytes: &FileBytes<'_>,
    file_bytes: u64,
) -> Result<(Vec<ImageSegment>, Vec<Section>), ElfError> {
    type Header = elf::FileHeader64<Endianness>;
    if !matches!(read::FileKind::parse(bytes), Ok(read::FileKind::Elf64)) {
        return Err(ElfError::NotElf);
    }
    let header = Header::parse(bytes).map_err(|_| ElfError::Broken("file header"))?;
    let endian = header.endian().map_err(|_| ElfError::Broken("byte order"))?;
    let programs =
        header.program_headers(endian, bytes).map_err(|_| ElfError::Broken("program headers"))?;
    let loaded = programs.iter().filter(|p| p.p_type(endian) == elf::PT_LOAD);
    let segments = loaded.take(MAX_SEGMENTS).map(|program| {
        let (offset, size) = program.file_range(endian);
        ImageSegment {
            address: ElfAddr(program.p_vaddr(endian)),
            file_offset: FileOffset(offset),
            file_size: size.min(file_bytes.saturating_sub(offset)),
            writable: program.p_flags(endian).0 & elf::PF_W.0 != 0,
            executable: program.p_flags(endian).0 & elf::PF_X.0 != 0,
        }
    });
    let table = header.sections(endian, bytes).unwrap_or_default();
    let in_file = table.iter().filter(|s| s.sh_type(endian) != elf::SHT_NOBITS);
    let sections = in_file.take(MAX_SECTIONS).filter_map(|section| {
        let name = table.section_name(endian, section).ok()?;
        Some(Section {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            address: ElfAddr(section.sh_addr(endian)),
            size: section.sh_size(endian),
            file_offset: FileOffset(section.sh_offset(endian)),
            compressed: section.sh_flags(endian).0 & elf::SHF_COMPRESSED.0 != 0,
        })
    });
    Ok((segments.collect(), sections.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Image {
        let file = File::open("/proc/self/exe").expect("own program");
        Image::read(Arc::new(file)).expect("an ELF file")
    }

    #[test]
    fn sections_are_found_and_read() {
        let image = own();
        let text = image.section(".text").expect("code");
        assert!(image.is_code(text.address));
        let head = image.bytes(text.address, 16).expect("in the file");
        assert_eq!(image.bytes_up_to(text.address, 16).as_deref(), Some(&head[..]));
        let data = image.section(".data").expect("data");
        assert!(!image.is_code(data.address));
        assert!(image.segments().iter().any(|s| s.writable && !s.executable));
    }

    #[test]
    fn what_is_beyond_a_segment_is_refused_or_cut() {
        let image = own();
        let last = image.segments().iter().max_by_key(|s| s.address).expect("a segment");
        let near_end = ElfAddr(last.address.0 + last.file_size - 4);
        assert_eq!(image.bytes(near_end, 8), None);
        assert_eq!(image.bytes_up_to(near_end, 8).map(|b| b.len()), Some(4));
        assert_eq!(image.bytes(ElfAddr(u64::MAX), 1), None);
        assert_eq!(image.bytes(last.address, u64::MAX), None);
    }

    #[test]
    fn sections_are_read_without_their_compression() {
        let text = b"runtime.mspan ".repeat(1000);
        let mut stream = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut stream, &text).expect("packed");
        let stream = stream.finish().expect("packed");
        let section = |kind: u32, size: u64| {
            let header = [u64::from(kind), size, 1].map(u64::to_le_bytes).concat();
            [header, stream.clone()].concat()
        };
        let whole = section(elf::ELFCOMPRESS_ZLIB.0, text.len() as u64);
        assert_eq!(inflate(&whole), Some(text.clone()));
        assert_eq!(inflate(&whole[..20]), None, "cut within the header");
        assert_eq!(inflate(&whole[..30]), None, "cut within the stream");
        assert_eq!(inflate(&section(2, text.len() as u64)), None, "of another kind");
        for size in [MAX_CONTENTS_BYTES + 1, u64::MAX, text.len() as u64 + 1] {
            assert_eq!(inflate(&section(elf::ELFCOMPRESS_ZLIB.0, size)), None, "{size} bytes");
        }
    }

    #[test]
    fn a_segment_ends_with_the_file() {
        let mut bytes = crate::target::vdso::image().expect("every process has one");
        let first_header = 64;
        let file_size = first_header + 32;
        bytes[file_size..file_size + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let mut file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut file, &bytes).expect("written");
        let image = Image::read(Arc::new(file)).expect("an ELF file");
        assert_eq!(image.segments()[0].file_size, bytes.len() as u64);
    }
}
