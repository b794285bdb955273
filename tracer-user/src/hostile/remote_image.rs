//! Bytes as the memory of a process: of this one, which reads itself as it reads others.
//!
//! In: bytes with addresses in them, as if they lay at [`START`]; or the file of a program that is not position-independent. Out: their
//! place in memory, with the addresses made to fit.

use crate::target::{Image, Pid, RemoteMemory, VirtAddr};

/// Where the bytes say that they are.
pub(super) const START: u64 = 0x10_0000;
const PAGE_BYTES: u64 = 4096;
/// Largest program that is loaded.
const MAX_LOADED_BYTES: u64 = 16 << 20;

/// The process that all of it is in: this one.
pub(super) fn memory() -> RemoteMemory {
    RemoteMemory::new(Pid(std::process::id()))
}

/// Memory that begins with a page.
pub(super) struct RemoteImage {
    bytes: Vec<u8>,
    skipped: usize,
}

impl RemoteImage {
    /// Zeroes.
    fn zeroed(size: usize) -> Self {
        let bytes = vec![0; size + 2 * PAGE_BYTES as usize];
        let skipped = (bytes.as_ptr() as u64).wrapping_neg() % PAGE_BYTES;
        Self { bytes, skipped: skipped as usize }
    }

    /// Bytes whose words point into them when they are addresses behind [`START`].
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut image = Self::zeroed(bytes.len());
        let at = image.address(0).0;
        let place = image.skipped..image.skipped + bytes.len();
        let copy = &mut image.bytes[place];
        copy.copy_from_slice(bytes);
        relocate(copy, START..START + bytes.len() as u64, at.wrapping_sub(START));
        image
    }

    /// Where a byte of it is.
    pub(super) fn address(&self, offset: u64) -> VirtAddr {
        VirtAddr(self.bytes.as_ptr() as u64 + self.skipped as u64 + offset)
    }
}

/// Adds to each word that is an address in a range.
fn relocate(bytes: &mut [u8], range: std::ops::Range<u64>, bias: u64) {
    for word in bytes.chunks_exact_mut(8) {
        let value = word.first_chunk().copied().map_or(0, u64::from_le_bytes);
        if range.contains(&value) {
            word.copy_from_slice(&value.wrapping_add(bias).to_le_bytes());
        }
    }
}

/// A program in memory.
pub(super) struct Loaded {
    _image: RemoteImage,
    bias: u64,
}

impl Loaded {
    /// Loads what the file says is to be loaded, if it is not too much.
    pub(super) fn new(image: &Image) -> Option<Self> {
        let segments = image.segments();
        let start = segments.iter().map(|segment| segment.address.0).min()?;
        let end = |segment: &crate::target::image::ImageSegment| {
            segment.address.0.checked_add(segment.file_size)
        };
        let end = segments.iter().map(end).try_fold(0, |last, end| Some(last.max(end?)))?;
        let size = end.checked_sub(start).filter(|size| *size <= MAX_LOADED_BYTES)?;
        let mut loaded = RemoteImage::zeroed(size as usize);
        let bias = loaded.address(0).0.wrapping_sub(start);
        for segment in segments {
            let Some(bytes) = image.bytes_up_to(segment.address, segment.file_size) else {
                continue;
            };
            let at = loaded.skipped + (segment.address.0 - start) as usize;
            let copy = &mut loaded.bytes[at..at + bytes.len()];
            copy.copy_from_slice(&bytes);
            if segment.writable {
                relocate(copy, start..end, bias);
            }
        }
        Some(Self { _image: loaded, bias })
    }

    /// What the loader added to the file's addresses.
    pub(super) fn bias(&self) -> u64 {
        self.bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_point_into_it_do_so_wherever_it_is() {
        let words = [START + 8, 7, START + 32, START - 1];
        let bytes: Vec<u8> = words.iter().flat_map(|word| u64::to_le_bytes(*word)).collect();
        let image = RemoteImage::new(&bytes);
        let read = |at: u64| memory().read_u64(VirtAddr(at)).expect("mapped");
        assert_eq!(read(read(image.address(0).0)), 7);
        assert_eq!((read(image.address(16).0), read(image.address(24).0)), (START + 32, START - 1));
        assert!(image.address(0).0.is_multiple_of(PAGE_BYTES));
    }
}
