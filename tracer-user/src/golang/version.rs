//! The version of Go that built a program.
//!
//! In: its file. Out: a [`GoVersion`], from the block that the linker writes for `go version` (`.go.buildinfo`).

use std::fmt;

use super::bytes::varint;
use crate::target::ElfAddr;
use crate::target::Image;

/// What the block begins with.
const MAGIC: &[u8] = b"\xff Go buildinf:";

/// Bytes before the version when it is written in place.
const HEADER_BYTES: usize = 32;

/// In the byte of flags: the version is written in place (since Go 1.18).
const IN_PLACE: u8 = 2;

/// Longest version that is believed; those of development builds with experiments are the longest.
const MAX_BYTES: usize = 256;

/// The block lies at the start of a writable segment, on a boundary of this many bytes.
const ALIGNMENT: usize = 16;

/// How much of a segment is searched for it when it has no section.
const SEARCHED_BYTES: u64 = 1 << 20;

/// A release of Go 1, or a build between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoVersion {
    /// As the program says it: `go1.24.4`.
    pub text: String,
    /// The 24 of `go1.24.4`.
    pub minor: u32,
}

impl GoVersion {
    /// Of the program in a file; `None` when the Go toolchain did not build it, or it does not say.
    pub fn read(image: &Image) -> Option<Self> {
        let block = image.section(".go.buildinfo").map(|section| section.address);
        let block = block.or_else(|| search(image))?;
        Self::from_block(&image.bytes_up_to(block, (HEADER_BYTES + 2 + MAX_BYTES) as u64)?)
    }

    fn from_block(block: &[u8]) -> Option<Self> {
        if !block.starts_with(MAGIC) || block.get(15)? & IN_PLACE == 0 {
            return None;
        }
        let mut at = HEADER_BYTES;
        let length = usize::try_from(varint(block, &mut at)?).ok()?;
        let text = block.get(at..at.checked_add(length)?)?;
        Self::parse(std::str::from_utf8(text).ok()?)
    }

    /// `go1.24.4`, `go1.27rc1`, `go1.26.1 X:nogreenteagc`, `devel go1.28-0123abc`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES || text.chars().any(char::is_control) {
            return None;
        }
        let after = text.split_once("go1.")?.1;
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        Some(Self { text: text.to_owned(), minor: after[..digits].parse().ok()? })
    }

    /// The minor version as layouts are listed by: `go1.24`.
    pub fn family(&self) -> String {
        format!("go1.{}", self.minor)
    }
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// The block of a file whose sections were removed.
fn search(image: &Image) -> Option<ElfAddr> {
    image.segments().iter().filter(|segment| segment.writable).find_map(|segment| {
        let bytes = image.bytes_up_to(segment.address, SEARCHED_BYTES)?;
        let at = bytes.chunks(ALIGNMENT).position(|chunk| chunk.starts_with(MAGIC))?;
        Some(ElfAddr(segment.address.0 + (at * ALIGNMENT) as u64))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(flags: u8, text: &str) -> Vec<u8> {
        let mut block = [MAGIC, &[8, flags]].concat();
        block.resize(HEADER_BYTES, 0);
        block.push(text.len() as u8);
        [&block, text.as_bytes()].concat()
    }

    #[test]
    fn versions_of_every_kind() {
        for (text, minor) in [
            ("go1.24.4", 24),
            ("go1.9", 9),
            ("go1.27rc1", 27),
            ("go1.26.1 X:nogreenteagc", 26),
            ("devel go1.28-0123abc Mon", 28),
        ] {
            let version = GoVersion::parse(text).expect("a version");
            assert_eq!((version.text.as_str(), version.minor), (text, minor));
            assert_eq!(GoVersion::from_block(&block(2, text)), Some(version));
        }
        for text in ["", "go2.1", "go1.", "go1.x", "1.24", "go1.24\u{1b}[2J", "go1.99999999999"] {
            assert_eq!(GoVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_block_cut_short_or_of_another_kind_has_none() {
        let whole = block(2, "go1.24.4");
        for length in 0..whole.len() {
            assert_eq!(GoVersion::from_block(&whole[..length]), None);
        }
        assert_eq!(GoVersion::from_block(&block(0, "go1.24.4")), None);
    }

    proptest! {
        #[test]
        fn never_panics(tail in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,40}") {
            GoVersion::from_block(&[&block(2, "")[..HEADER_BYTES], &tail[..]].concat());
            GoVersion::parse(&text);
        }
    }
}
