//! What is reached from words that hold addresses.
//!
//! In: the spans, and words to begin with. Out: a [`Walk`], which knows of each slot whether it was reached. Spans wait in a queue until
//! they are read, not objects: meanwhile more of their slots are reached, so that few spans are read twice, and the queue is short.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Instant;

use super::WORD_BYTES;
use super::bits::Bits;
use super::owners::{Owner, Owners};
use super::spans::Spans;
use crate::golang::bytes::u64_at;
use crate::target::{RemoteMemory, VirtAddr};

/// Bytes that are read at a time.
const PIECE_BYTES: u64 = 256 << 10;
/// Spans up to this size are read as a whole, whichever of their slots were reached.
const WHOLE_BYTES: u64 = 64 << 10;

/// A walk over the heap.
#[derive(Debug)]
pub struct Walk<'s> {
    memory: RemoteMemory,
    spans: &'s Spans,
    reached: Bits,
    /// Slots that were read, or are not to be.
    done: Bits,
    queue: VecDeque<usize>,
    queued: Bits,
    buffer: Vec<u8>,
    unread_bytes: u64,
    deadline: Option<Instant>,
    /// Who has what was reached, in a walk that tells.
    owners: Option<Owners>,
}

impl<'s> Walk<'s> {
    /// With nothing reached yet.
    pub fn new(memory: RemoteMemory, spans: &'s Spans) -> Self {
        Self {
            memory,
            spans,
            reached: Bits::new(spans.slots()),
            done: Bits::new(spans.slots()),
            queue: VecDeque::new(),
            queued: Bits::new(spans.list().len() as u64),
            buffer: Vec::new(),
            unread_bytes: 0,
            deadline: None,
            owners: None,
        }
    }

    /// The same, that tells who has what: for those that [`Walk::begin`] names.
    pub fn with_owners(memory: RemoteMemory, spans: &'s Spans) -> Self {
        Self { owners: Some(Owners::new(spans.slots())), ..Self::new(memory, spans) }
    }

    /// What is reached from now on is reached from this owner. What one before `first` has stays with it; what two others have belongs to
    /// `first`.
    pub fn begin(&mut self, owner: Owner, first: Owner) {
        if let Some(owners) = &mut self.owners {
            owners.begin(owner, first);
        }
    }

    /// Who has a slot, by its number; nobody in a walk that does not tell.
    pub fn owner(&self, number: u64) -> Option<Owner> {
        self.owners.as_ref()?.of(number)
    }

    /// The walk fails with `TimedOut` when it is not over by then.
    pub fn end_by(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// The object at an address leads nowhere, however it is reached.
    pub fn close(&mut self, address: VirtAddr) {
        if let Some(slot) = self.spans.find(address) {
            let number = self.spans.number(slot);
            self.done.set(number);
            if let Some(owners) = &mut self.owners {
                owners.close(number);
            }
        }
    }

    /// The object that a word points to or into is reached, if there is one.
    pub fn reach(&mut self, word: u64) {
        let Some(slot) = self.spans.find(VirtAddr(word)) else { return };
        let number = self.spans.number(slot);
        let is_new = self.reached.set(number);
        if let Some(owners) = &mut self.owners {
            if !owners.claim(number) {
                return;
            }
            // It has another owner now, and so has what it leads to.
            if !owners.is_closed(number) {
                self.done.clear(number);
            }
        } else if !is_new {
            return;
        }
        if self.done.is_set(number) {
            return;
        }
        let is_noscan = self.spans.list().get(slot.span).is_none_or(|span| span.is_noscan);
        if !is_noscan && self.queued.set(slot.span as u64) {
            self.queue.push_back(slot.span);
        }
    }

    /// As [`Walk::reach`], of each word.
    pub fn reach_words(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(WORD_BYTES as usize) {
            self.reach(u64_at(word, 0).unwrap_or(0));
        }
    }

    /// As [`Walk::reach`], of each word of a piece of memory.
    pub fn reach_from(&mut self, range: Range<VirtAddr>) -> io::Result<()> {
        let start = range.start.0.next_multiple_of(WORD_BYTES);
        let mut buffer = std::mem::take(&mut self.buffer);
        for at in (start..range.end.0).step_by(PIECE_BYTES as usize) {
            let size = (range.end.0 - at).min(PIECE_BYTES);
            let read = self.fill(&mut buffer, VirtAddr(at), size)?;
            self.reach_words(&buffer[..read]);
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Follows what was reached to its end.
    pub fn run(&mut self) -> io::Result<()> {
        while let Some(span) = self.queue.pop_front() {
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.queued.clear(span as u64);
            self.read_span(span)?;
        }
        Ok(())
    }

    /// Whether the object at an address was reached; `None` when there is none.
    pub fn is_reached(&self, address: VirtAddr) -> Option<bool> {
        let slot = self.spans.find(address)?;
        Some(self.reached.is_set(self.spans.number(slot)))
    }

    /// Bytes that could not be read: what they lead to was not reached.
    pub fn unread_bytes(&self) -> u64 {
        self.unread_bytes
    }

    /// Reads the slots of a span that were reached since it was last read.
    fn read_span(&mut self, place: usize) -> io::Result<()> {
        let Some(span) = self.spans.list().get(place).copied() else { return Ok(()) };
        let end = span.first_slot + span.objects;
        let mut whole = Vec::new();
        if span.bytes <= WHOLE_BYTES {
            whole = std::mem::take(&mut self.buffer);
            let size = self.fill(&mut whole, span.start, span.bytes)?;
            whole.truncate(size);
        }
        let mut from = span.first_slot;
        while let Some(number) = self.reached.next_not_in(&self.done, from, end) {
            self.done.set(number);
            if let Some(owners) = &mut self.owners {
                owners.go_on_from(number);
            }
            from = number + 1;
            let index = number - span.first_slot;
            if span.bytes <= WHOLE_BYTES {
                let start = (index * span.object_bytes) as usize;
                let object = whole.get(start..start + span.object_bytes as usize);
                self.reach_words(object.unwrap_or_default());
            } else {
                let start = span.object(index);
                self.reach_from(start..VirtAddr(start.0 + span.object_bytes))?;
            }
        }
        if span.bytes <= WHOLE_BYTES {
            self.buffer = whole;
        }
        Ok(())
    }

    /// Reads a piece; gives how much of it is there.
    fn fill(&mut self, buffer: &mut Vec<u8>, start: VirtAddr, size: u64) -> io::Result<usize> {
        buffer.resize(size as usize, 0);
        let read = self.memory.read_available(start, buffer)?;
        self.unread_bytes += size - read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::heap::spans::tests::{Heap, PAGE_WORDS};

    #[test]
    fn what_is_reached_is_followed_wherever_in_an_object_an_address_points() {
        let mut heap = Heap::new(&[(64, false), (64, true), (8192, false)]);
        let (small, noscan, large) = (heap.page(0), heap.page(1), heap.page(2));
        heap.put(0, 8, large + 24);
        heap.put(2, 1000, small + 3 * 64 + 8);
        heap.put(0, 3 * 8 + 7, noscan + 64);
        heap.put(1, 8, small + 5 * 64);
        let spans = heap.spans();
        let mut walk = Walk::new(Heap::memory(), &spans);
        walk.reach(small + 64 + 63);
        walk.run().expect("readable");
        let reached = |at: u64| walk.is_reached(VirtAddr(at));
        assert_eq!((reached(small + 64), reached(large)), (Some(true), Some(true)));
        assert_eq!((reached(small + 3 * 64), reached(noscan + 64)), (Some(true), Some(true)));
        assert_eq!((reached(small + 5 * 64), reached(small)), (Some(false), Some(false)));
        assert_eq!((reached(16), walk.unread_bytes()), (None, 0));
    }

    #[test]
    fn circles_end_and_closed_objects_lead_nowhere() {
        let mut heap = Heap::new(&[(64, false)]);
        let page = heap.page(0);
        heap.put(0, 0, page + 64);
        heap.put(0, 8, page);
        heap.put(0, 9, page + 128);
        heap.put(0, 16, page + 192);
        let spans = heap.spans();
        let mut walk = Walk::new(Heap::memory(), &spans);
        walk.close(VirtAddr(page + 128));
        walk.reach_words(&(page + 8).to_le_bytes());
        walk.run().expect("readable");
        let reached: Vec<_> =
            (0..4).map(|slot| walk.is_reached(VirtAddr(page + 64 * slot))).collect();
        assert_eq!(reached, [Some(true), Some(true), Some(true), Some(false)]);
    }

    #[test]
    fn memory_that_is_not_there_is_counted() {
        let mut heap = Heap::new(&[(64, false)]);
        let page = heap.page(0);
        heap.put(0, PAGE_WORDS - 1, page + 64);
        let spans = heap.spans();
        let mut walk = Walk::new(Heap::memory(), &spans);
        walk.reach_from(VirtAddr(8)..VirtAddr(24)).expect("nothing there");
        assert_eq!(walk.unread_bytes(), 16);
        let end = page + 8192;
        walk.reach_from(VirtAddr(end - 8)..VirtAddr(end)).expect("there");
        assert_eq!(walk.is_reached(VirtAddr(page + 64)), Some(true));
    }
}
