//! A process's memory, read while it runs: it is neither stopped nor traced.
//!
//! In: addresses. Out: bytes, or that they are not mapped. What is read changes meanwhile, and the process chose all of it: whoever reads
//! checks what it means.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use super::{Pid, VirtAddr};

/// Most bytes of one piece: enough for the list of all spans of a heap of a terabyte.
const MAX_READ_BYTES: usize = 1 << 30;

/// Pages are this large on x86-64.
const PAGE_BYTES: u64 = 4096;

/// Pages that [`ReadAhead`] asks for at once.
const AHEAD_PAGES: u64 = 16;

/// Pages that [`ReadAhead`] keeps.
const MAX_KEPT_PAGES: usize = 32_768;

/// Pieces in one system call; the kernel takes 1024.
const MAX_PIECES: usize = 1000;

/// Bytes in one system call for many records.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// The memory of a running process.
#[derive(Clone, Copy, Debug)]
pub struct RemoteMemory {
    pid: nix::unistd::Pid,
}

impl RemoteMemory {
    /// Of this process. Nothing is opened: each reading asks the kernel anew.
    pub fn new(pid: Pid) -> Self {
        Self { pid: nix::unistd::Pid::from_raw(pid.0.cast_signed()) }
    }

    /// Reads all of a piece.
    pub fn read(self, address: VirtAddr, size: usize) -> io::Result<Vec<u8>> {
        if size > MAX_READ_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an absurd length"));
        }
        let mut bytes = vec![0; size];
        if self.read_available(address, &mut bytes)? < size {
            return Err(Errno::EFAULT.into());
        }
        Ok(bytes)
    }

    /// Reads the `u64` at an address.
    pub fn read_u64(self, address: VirtAddr) -> io::Result<u64> {
        let mut bytes = [0; 8];
        if self.read_available(address, &mut bytes)? < bytes.len() {
            return Err(Errno::EFAULT.into());
        }
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads the `u32` at an address.
    pub fn read_u32(self, address: VirtAddr) -> io::Result<u32> {
        let mut bytes = [0; 4];
        if self.read_available(address, &mut bytes)? < bytes.len() {
            return Err(Errno::EFAULT.into());
        }
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads up to the first page that is not mapped. Gives the number of bytes read.
    pub fn read_available(self, address: VirtAddr, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            let Some(base) = usize::try_from(address.0).ok().and_then(|a| a.checked_add(done))
            else {
                break;
            };
            let remote = [RemoteIoVec { base, len: bytes.len() - done }];
            match process_vm_readv(self.pid, &mut [IoSliceMut::new(&mut bytes[done..])], &remote) {
                Ok(0) | Err(Errno::EFAULT) => break,
                Ok(read) => done += read,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    /// Reads a record of `size` bytes at each address; neighbours are read together.
    pub fn read_records(self, addresses: &[VirtAddr], size: usize) -> io::Result<Records> {
        let mut records = Records { size, bytes: Vec::new(), places: vec![None; addresses.len()] };
        let mut order: Vec<usize> = (0..addresses.len()).collect();
        order.sort_unstable_by_key(|index| addresses[*index]);
        let mut batch = Batch::default();
        for index in order {
            if addresses[index].0.checked_add(size as u64).is_none() {
                continue;
            }
            if batch.is_full() {
                self.read_batch(&mut batch, addresses, &mut records)?;
            }
            batch.add(index, addresses[index].0, size as u64);
        }
        self.read_batch(&mut batch, addresses, &mut records)?;
        Ok(records)
    }

    /// Reads what the batch asks for. Where a piece is not mapped, its records are tried one by one.
    fn read_batch(
        self,
        batch: &mut Batch,
        addresses: &[VirtAddr],
        records: &mut Records,
    ) -> io::Result<()> {
        let Batch { pieces, members, bytes: asked } = std::mem::take(batch);
        let start = records.bytes.len();
        records.bytes.resize(start + asked, 0);
        let remote: Vec<_> = pieces
            .iter()
            .map(|(start, end)| RemoteIoVec { base: *start as usize, len: (end - start) as usize })
            .collect();
        let local = &mut [IoSliceMut::new(&mut records.bytes[start..])];
        let read = match process_vm_readv(self.pid, local, &remote) {
            Ok(read) => read,
            Err(Errno::EFAULT) => 0,
            Err(error) => return Err(error.into()),
        };
        for (index, place) in members {
            if place + records.size <= read {
                records.places[index] = Some(start + place);
            } else {
                let into = &mut records.bytes[start + place..start + place + records.size];
                if self.read_available(addresses[index], into)? == records.size {
                    records.places[index] = Some(start + place);
                }
            }
        }
        Ok(())
    }
}

/// Pieces to read in one system call.
#[derive(Default)]
struct Batch {
    /// From and to; none overlap.
    pieces: Vec<(u64, u64)>,
    /// Records by their number, and where in the batch's bytes each starts.
    members: Vec<(usize, usize)>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.pieces.len() >= MAX_PIECES || self.bytes >= MAX_BATCH_BYTES
    }

    /// Adds a record that starts at or after those added before.
    fn add(&mut self, index: usize, address: u64, size: u64) {
        let end = address.saturating_add(size);
        // A gap below a page has no page of its own, so that joining asks for none that the records do not lie in.
        match self.pieces.last_mut() {
            Some((start, last)) if address.saturating_sub(*last) < PAGE_BYTES => {
                let more = end.saturating_sub(*last);
                let piece_bytes = *last - *start;
                self.members
                    .push((index, self.bytes - piece_bytes as usize + (address - *start) as usize));
                *last += more;
                self.bytes += more as usize;
            }
            _ => {
                self.members.push((index, self.bytes));
                self.pieces.push((address, end));
                self.bytes += (end - address) as usize;
            }
        }
    }
}

/// Records of one size, in the order of the addresses that were asked for.
#[derive(Debug)]
pub struct Records {
    size: usize,
    bytes: Vec<u8>,
    places: Vec<Option<usize>>,
}

impl Records {
    /// Each record; `None` for one that is not mapped.
    pub fn iter(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.places.iter().map(|place| self.bytes.get((*place)?..)?.get(..self.size))
    }
}

/// Reads small neighbouring pieces, such as the nodes of a list, some pages at a time.
#[derive(Debug)]
pub struct ReadAhead {
    memory: RemoteMemory,
    pages: HashMap<u64, Box<[u8]>>,
}

impl ReadAhead {
    /// With nothing read yet.
    pub fn new(memory: RemoteMemory) -> Self {
        Self { memory, pages: HashMap::new() }
    }

    /// Reads all of a piece; `None` when it is not mapped.
    pub fn read(&mut self, address: VirtAddr, size: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(end) = address.0.checked_add(size as u64) else { return Ok(None) };
        let mut bytes = Vec::with_capacity(size.min(PAGE_BYTES as usize));
        let mut at = address.0;
        while at < end {
            let Some(page) = self.page(at / PAGE_BYTES)? else { return Ok(None) };
            let from = at % PAGE_BYTES;
            let to = PAGE_BYTES.min(from + (end - at));
            bytes.extend_from_slice(&page[from as usize..to as usize]);
            at += to - from;
        }
        Ok(Some(bytes))
    }

    fn page(&mut self, number: u64) -> io::Result<Option<&[u8]>> {
        if !self.pages.contains_key(&number) {
            if self.pages.len() >= MAX_KEPT_PAGES {
                self.pages.clear();
            }
            let mut bytes = vec![0; (PAGE_BYTES * AHEAD_PAGES) as usize];
            let read = self.memory.read_available(VirtAddr(number * PAGE_BYTES), &mut bytes)?;
            let whole = bytes[..read].chunks_exact(PAGE_BYTES as usize);
            self.pages.extend((number..).zip(whole.map(Box::from)));
        }
        Ok(self.pages.get(&number).map(|page| &page[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> RemoteMemory {
        RemoteMemory::new(Pid(std::process::id()))
    }

    fn address<T>(of: &[T]) -> u64 {
        of.as_ptr() as u64
    }

    #[test]
    fn reads_this_very_process_and_no_unmapped_page() {
        let words = [1_u64, 2, 3];
        assert_eq!(own().read_u64(VirtAddr(address(&words) + 8)).expect("mapped"), 2);
        assert_eq!(own().read(VirtAddr(address(&words)), 24).expect("mapped")[16], 3);
        for unmapped in [0, 8, u64::MAX - 4, 1 << 63] {
            assert!(own().read(VirtAddr(unmapped), 16).is_err());
            assert!(own().read_u32(VirtAddr(unmapped)).is_err());
        }
        assert!(own().read(VirtAddr(address(&words)), usize::MAX).is_err());
    }

    #[test]
    fn records_come_in_the_order_asked_for_whatever_lies_between() {
        let words: Vec<u64> = (0..20_000).collect();
        let of = |index: u64| VirtAddr(address(&words) + 8 * index);
        let asked = [of(19_000), VirtAddr(8), of(0), of(1), of(1), of(700), VirtAddr(u64::MAX)];
        let records = own().read_records(&asked, 8).expect("read");
        let found: Vec<_> = records
            .iter()
            .map(|r| r.map(|r| u64::from_le_bytes(r.try_into().expect("8 bytes"))))
            .collect();
        assert_eq!(found, [Some(19_000), None, Some(0), Some(1), Some(1), Some(700), None]);
        assert_eq!(own().read_records(&[], 8).expect("nothing").iter().count(), 0);
    }

    #[test]
    fn reading_ahead_gives_the_same_bytes() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let mut ahead = ReadAhead::new(own());
        for (at, size) in [(0, 10), (4090, 20), (60_000, 70_000), (199_990, 10)] {
            let read = ahead.read(VirtAddr(address(&bytes) + at as u64), size).expect("read");
            assert_eq!(read.as_deref(), bytes.get(at..at + size));
        }
        assert_eq!(ahead.read(VirtAddr(16), 8).expect("read"), None);
        assert_eq!(ahead.read(VirtAddr(u64::MAX), 8).expect("read"), None);
    }
}
