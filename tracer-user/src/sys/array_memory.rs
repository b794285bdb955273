//! An array map's memory, mapped: written at the speed of memory, where a system call for each element would take too long.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;

/// The elements of an array map of words that was made with `BPF_F_MMAPABLE` (kernel 5.5). Programs see what is written.
#[derive(Debug)]
pub struct ArrayMemory {
    /// Held: programs that are loaded later refer to its descriptor.
    _map: MapData,
    words: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the mapping belongs to this value alone, and its words are only used atomically.
unsafe impl Send for ArrayMemory {}

impl ArrayMemory {
    /// Maps the first `count` elements of a map.
    pub fn map(map: MapData, count: usize) -> io::Result<Self> {
        // SAFETY: a new shared mapping at an address that the kernel chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<u64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { _map: map, words, count })
    }

    /// Writes consecutive elements from `first` on; what does not fit is an error, and nothing is written then.
    pub fn write(&self, first: usize, values: &[u64]) -> io::Result<()> {
        // SAFETY: `count` words were mapped, aligned to a page, and live as long as this value.
        let words = unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.count) };
        let room = words.get(first..).and_then(|words| words.get(..values.len()));
        let room = room.ok_or(io::ErrorKind::StorageFull)?;
        for (word, value) in room.iter().zip(values) {
            word.store(*value, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for ArrayMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}
