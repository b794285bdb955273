//! Which processes map code: perf events of the kind that counts nothing and only tells of mappings, one for each CPU.
//!
//! They cost the processes nothing; the kernel writes a record for each executable mapping (kernel/events/core.c,
//! `perf_event_mmap`, 6.18).

use std::collections::BTreeSet;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya_obj::generated::{perf_event_attr, perf_event_mmap_page};

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_DUMMY: u64 = 9;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
const PERF_RECORD_MMAP: u32 = 1;
const PERF_RECORD_LOST: u32 = 2;
/// A page for the kernel's and our position, and a power of two of pages for records.
const DATA_PAGES: usize = 16;
/// type: u32, misc: u16, size: u16.
const HEADER_BYTES: usize = 8;

/// The watch; ends when dropped.
#[derive(Debug)]
pub struct MappingWatch {
    rings: Vec<RecordRing>,
}

/// What has been mapped since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Processes that mapped code.
    pub processes: BTreeSet<u32>,
    /// Records were lost: any process may have.
    pub any: bool,
}

impl MappingWatch {
    /// Starts to watch all processes. Needs `CAP_PERFMON`.
    pub fn start() -> io::Result<Self> {
        let processors = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
        let rings = parse_processors(&processors).into_iter().map(RecordRing::open);
        Ok(Self { rings: rings.collect::<io::Result<_>>()? })
    }

    /// What has been mapped since the last look.
    pub fn drain(&mut self) -> Mapped {
        let mut mapped = Mapped::default();
        for ring in &mut self.rings {
            ring.drain(|kind, body| match (kind, body.first_chunk::<4>()) {
                (PERF_RECORD_MMAP, Some(pid)) => {
                    mapped.processes.insert(u32::from_ne_bytes(*pid));
                }
                (PERF_RECORD_LOST, _) => mapped.any = true,
                _ => {}
            });
        }
        mapped
    }
}

/// `0-3,5`.
fn parse_processors(text: &str) -> Vec<i32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<i32>().ok()?..=last.parse::<i32>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// The records of one CPU.
#[derive(Debug)]
struct RecordRing {
    /// Keeps the event alive.
    _event: OwnedFd,
    /// The mapped pages: positions first, then [`DATA_PAGES`] of records.
    base: NonNull<u8>,
    page_bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, and is only used through it.
unsafe impl Send for RecordRing {}

impl RecordRing {
    fn open(processor: i32) -> io::Result<Self> {
        // SAFETY: a structure of integers, for which zero means "not asked for".
        let mut attributes: perf_event_attr = unsafe { std::mem::zeroed() };
        attributes.type_ = PERF_TYPE_SOFTWARE;
        attributes.size = size_of::<perf_event_attr>() as u32;
        attributes.config = PERF_COUNT_SW_DUMMY;
        attributes.set_mmap(1);
        // SAFETY: the attributes are a live structure of the size that it tells.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw mut attributes,
                -1,
                processor,
                -1,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned this descriptor to us, nobody else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: sysconf has no precondition.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        // SAFETY: a new shared mapping at an address that the kernel chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page_bytes * (DATA_PAGES + 1),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { _event: event, base, page_bytes })
    }

    /// Hands over all records there are: their kind and what follows the header.
    fn drain(&mut self, mut take: impl FnMut(u32, &[u8])) {
        let (head, tail) = self.positions();
        // Acquire: the records up to the kernel's position are written before it.
        let end = head.load(Ordering::Acquire);
        let mut at = tail.load(Ordering::Relaxed);
        while at < end {
            let mut header = [0; HEADER_BYTES];
            self.copy(at, &mut header);
            let kind = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let size = usize::from(u16::from_ne_bytes([header[6], header[7]]));
            if size < HEADER_BYTES {
                break;
            }
            let mut body = [0; 8];
            let length = body.len().min(size - HEADER_BYTES);
            self.copy(at + HEADER_BYTES as u64, &mut body[..length]);
            take(kind, &body[..length]);
            at += size as u64;
        }
        // Release: the kernel may write over what was read before.
        tail.store(end, Ordering::Release);
    }

    /// The kernel's position and ours.
    fn positions(&self) -> (&AtomicU64, &AtomicU64) {
        let head = self.position(offset_of!(perf_event_mmap_page, data_head));
        (head, self.position(offset_of!(perf_event_mmap_page, data_tail)))
    }

    fn position(&self, offset: usize) -> &AtomicU64 {
        let field = self.at(offset).cast::<u64>();
        // SAFETY: an aligned field of the first page, which is a `perf_event_mmap_page`, and is only used atomically.
        unsafe { AtomicU64::from_ptr(field.as_ptr()) }
    }

    /// Copies bytes from a position on, around the end of the ring.
    fn copy(&self, position: u64, to: &mut [u8]) {
        let ring_bytes = self.page_bytes * DATA_PAGES;
        for (index, byte) in (0_u64..).zip(to) {
            let from = self.at(self.page_bytes + (position + index) as usize % ring_bytes);
            // SAFETY: the byte lies in the mapping; the kernel does not write what we have not passed.
            *byte = unsafe { from.read_volatile() };
        }
    }

    /// A place in the mapping; `offset` is below its length.
    fn at(&self, offset: usize) -> NonNull<u8> {
        // SAFETY: callers stay within the pages that were mapped.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for RecordRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.page_bytes * (DATA_PAGES + 1)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_parsed() {
        assert_eq!(parse_processors("0-1\n"), [0, 1]);
        assert_eq!(parse_processors("0,2-4,7"), [0, 2, 3, 4, 7]);
        assert_eq!(parse_processors("x"), [] as [i32; 0]);
    }
}
