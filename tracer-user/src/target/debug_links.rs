//! Where an ELF file says that its debug information is: the sections that name another file.
//!
//! In: sections. Out: [`DebugLinks`]. Names and identities are checked, since the file is hostile input.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use object::Endianness;
use object::endian::Endian;
use object::read::ReadRef;
use object::read::elf::{FileHeader, SectionHeader, SectionTable};

use super::elf::hexadecimal;

/// Longest section that is believed: a path, and what follows it.
const MAX_SECTION_BYTES: u64 = 8192;

/// What `.gnu_debuglink` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// Name of the debug file, without a directory.
    pub name: OsString,
    /// CRC-32 of the debug file's contents.
    pub crc: u32,
}

/// What `.gnu_debugaltlink` says: dwz has moved what several files share into another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AltLink {
    /// The other file, from the directory of this one.
    pub path: PathBuf,
    /// Build id of the other file, lower-case hexadecimal.
    pub build_id: String,
}

/// Where the debug information of a file is, if not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugLinks {
    /// A debug file by name.
    pub link: Option<DebugLink>,
    /// What dwz has moved out.
    pub alt: Option<AltLink>,
    /// There is a `.debug_sup`, DWARF 5's own form of what dwz does.
    pub has_sup: bool,
}

impl DebugLinks {
    pub(super) fn read<'a, H: FileHeader<Endian = Endianness>, R: ReadRef<'a>>(
        sections: &SectionTable<'a, H, R>,
        endian: Endianness,
        bytes: R,
    ) -> Self {
        let data = |name: &[u8]| {
            let (_, section) = sections.section_by_name(endian, name)?;
            let is_small = section.sh_size(endian).into() <= MAX_SECTION_BYTES;
            section.data(endian, bytes).ok().filter(|_| is_small)
        };
        Self {
            link: data(b".gnu_debuglink").and_then(|data| debug_link(data, endian)),
            alt: data(b".gnu_debugaltlink").and_then(alt_link),
            has_sup: sections.section_by_name(endian, b".debug_sup").is_some(),
        }
    }
}

/// A name ended by a zero byte, zero bytes up to the next multiple of four, and the CRC in the file's byte order.
fn debug_link(data: &[u8], endian: Endianness) -> Option<DebugLink> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let name = OsStr::from_bytes(&data[..end]);
    let at = (end + 1).next_multiple_of(4);
    let crc = data.get(at..at + 4)?.try_into().ok()?;
    let is_plain = !name.is_empty() && name != "." && name != ".." && !data[..end].contains(&b'/');
    is_plain.then(|| DebugLink { name: name.to_owned(), crc: endian.read_u32(crc) })
}

/// A path ended by a zero byte, and the build id.
fn alt_link(data: &[u8]) -> Option<AltLink> {
    let end = data.iter().position(|byte| *byte == 0)?;
    let (path, build_id) = (&data[..end], &data[end + 1..]);
    let is_id = (8..=super::elf::MAX_BUILD_ID_BYTES).contains(&build_id.len());
    (!path.is_empty() && is_id).then(|| AltLink {
        path: PathBuf::from(OsStr::from_bytes(path)),
        build_id: hexadecimal(build_id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_link_is_a_plain_name_and_a_checksum() {
        let little = |data: &[u8]| debug_link(data, Endianness::Little);
        let expected = DebugLink { name: "a.debug".into(), crc: 0x0403_0201 };
        assert_eq!(little(b"a.debug\0\x01\x02\x03\x04"), Some(expected));
        let expected = DebugLink { name: "ab".into(), crc: 0x0102_0304 };
        assert_eq!(debug_link(b"ab\0\0\x01\x02\x03\x04", Endianness::Big), Some(expected));
        for broken in [&b""[..], b"\0\0\0\0\x01\x02\x03\x04", b"a.debug", b"a.debug\0\x01\x02"] {
            assert_eq!(little(broken), None, "{broken:?}");
        }
        assert_eq!(
            little(b"../../dev/null\0\0\x01\x02\x03\x04"),
            None,
            "no way out of its directory"
        );
        assert_eq!(little(b"..\0\0\x01\x02\x03\x04"), None);
    }

    #[test]
    fn an_alternative_link_is_a_path_and_a_build_id() {
        let link = alt_link(b"../.dwz/x.debug\0\x01\x02\x03\x04\x05\x06\x07\xff").expect("a link");
        assert_eq!(link.path, PathBuf::from("../.dwz/x.debug"));
        assert_eq!(link.build_id, "01020304050607ff");
        assert_eq!(alt_link(b"x\0\x01"), None);
        assert_eq!(alt_link(b"x"), None);
    }
}
