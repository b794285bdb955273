//! Bounded reading of a file that a target chose: a privileged reader must not be made to read, or to keep, gigabytes.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::read::{ReadCache, ReadCacheOps, ReadRef};

/// Most bytes of one file that are kept while it is looked at. The symbols of the largest browsers take a third of it.
const MAX_KEPT_BYTES: u64 = 1 << 30;

/// A file's bytes, read where they are needed and kept until this is dropped.
pub(crate) struct FileBytes<'f> {
    cache: ReadCache<Positioned<'f>>,
    left_bytes: Cell<u64>,
}

impl<'f> FileBytes<'f> {
    pub(crate) fn new(file: &'f File) -> Self {
        Self {
            cache: ReadCache::new(Positioned { file, position: 0 }),
            left_bytes: Cell::new(MAX_KEPT_BYTES),
        }
    }
}

impl<'a> ReadRef<'a> for &'a FileBytes<'_> {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.left_bytes.set(self.left_bytes.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let bytes = self.cache.read_bytes_at_until(range, delimiter)?;
        self.left_bytes.set(self.left_bytes.get().checked_sub(bytes.len() as u64).ok_or(())?);
        Ok(bytes)
    }
}

/// The position is kept here: the open file is shared, and with it its own position would be.
struct Positioned<'f> {
    file: &'f File,
    position: u64,
}

impl ReadCacheOps for Positioned<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(drop)
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let read = self.file.read_at(buffer, self.position).map_err(drop)?;
        self.position += read as u64;
        Ok(read)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        self.file.read_exact_at(buffer, self.position).map_err(drop)?;
        self.position += buffer.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_says_it_is_huge_is_not_read_whole() {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(1 << 40).expect("sparse file");
        let bytes = FileBytes::new(&file);
        assert!((&bytes).read_bytes_at(0, MAX_KEPT_BYTES + 1).is_err());
        assert_eq!((&bytes).read_bytes_at(1 << 39, 3), Ok([0, 0, 0].as_slice()));
        assert!((&bytes).read_bytes_at((1 << 40) - 1, 2).is_err());
    }
}
