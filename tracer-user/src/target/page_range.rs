//! Ranges of whole pages of a process's memory: the unit in which it is mapped and unmapped.

use super::VirtAddr;

/// Bytes of a page on x86-64.
pub const PAGE_BYTES: u64 = 4096;

/// A range of whole pages; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl PageRange {
    /// From an address to another; `None` when there is nothing between them.
    pub fn between(start: VirtAddr, end: VirtAddr) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The pages of this size that a system call with this address and length means. `None` for what the kernel
    /// refuses: no length, an address that is not a page's, an end beyond the address space.
    pub fn of_call(address: VirtAddr, length: u64, page_bytes: u64) -> Option<Self> {
        let length = length.checked_next_multiple_of(page_bytes)?;
        let end = VirtAddr(address.0.checked_add(length)?);
        if !address.0.is_multiple_of(PAGE_BYTES) {
            return None;
        }
        Self::between(address, end)
    }

    /// First address.
    pub fn start(self) -> VirtAddr {
        self.start
    }

    /// First address after it.
    pub fn end(self) -> VirtAddr {
        self.end
    }

    /// Its length.
    pub fn bytes(self) -> u64 {
        self.end.0 - self.start.0
    }

    /// What two ranges share.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end.min(other.end))
    }

    /// What is left of it after so many bytes.
    pub fn after(self, bytes: u64) -> Option<Self> {
        Self::between(VirtAddr(self.start.0.checked_add(bytes)?), self.end)
    }

    /// The same pages, as far from `to` as they are from `from` now. `None` beyond the address space.
    pub fn moved(self, from: VirtAddr, to: VirtAddr) -> Option<Self> {
        let start = to.0.checked_add(self.start.0.checked_sub(from.0)?)?;
        Self::between(VirtAddr(start), VirtAddr(start.checked_add(self.bytes())?))
    }
}

/// The end of the page that holds the byte before an address: where memory ends when the break is there.
pub fn page_end(address: VirtAddr) -> VirtAddr {
    VirtAddr(address.0.checked_next_multiple_of(PAGE_BYTES).unwrap_or(!(PAGE_BYTES - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Option<PageRange> {
        PageRange::between(VirtAddr(start), VirtAddr(end))
    }

    #[test]
    fn calls_mean_whole_pages() {
        let of = |address, length| PageRange::of_call(VirtAddr(address), length, PAGE_BYTES);
        assert_eq!(of(0x1000, 1), range(0x1000, 0x2000));
        assert_eq!(of(0x1000, 0x1000), range(0x1000, 0x2000));
        for (address, length) in [(0x1000, 0), (0x1001, 5), (0x1000, u64::MAX), (!0xfff, 0x2000)] {
            assert_eq!(of(address, length), None, "{address:x} {length:x}");
        }
        assert_eq!(PageRange::of_call(VirtAddr(0), 1, 2 << 20), range(0, 2 << 20));
    }

    #[test]
    fn ranges_meet_and_move() {
        let (a, b) = (range(0x1000, 0x5000), range(0x3000, 0x9000));
        let (Some(a), Some(b)) = (a, b) else { unreachable!("not empty") };
        assert_eq!(a.intersection(b), range(0x3000, 0x5000));
        assert_eq!(b.moved(VirtAddr(0x1000), VirtAddr(0x8000)), range(0xa000, 0x10000));
        assert_eq!(b.moved(VirtAddr(0x4000), VirtAddr(0x8000)), None);
        assert_eq!(b.moved(VirtAddr(0), VirtAddr(u64::MAX - 0x3000)), None);
        assert_eq!(page_end(VirtAddr(0x1001)), VirtAddr(0x2000));
        assert_eq!(page_end(VirtAddr(u64::MAX)), VirtAddr(u64::MAX - 0xfff));
    }
}
