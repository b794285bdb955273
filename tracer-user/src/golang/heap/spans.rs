//! Spans: runs of pages cut into slots of one size, each for an object. What lies in none is no object of the heap: stacks, for instance.
//!
//! In: the runtime's list of all spans. Out: [`Spans`], by which an address, also one into an object, is brought to its slot.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::golang::GoError;
use crate::golang::bytes::{u8_at, u16_at, u64_at};
use crate::golang::layout::HeapLayout;
use crate::target::{RemoteMemory, VirtAddr};

/// Most spans that are looked at: a heap of at least 512 GiB.
const MAX_SPANS: u64 = 1 << 26;
/// Most slots: a gigabyte for the two bits of each.
const MAX_SLOTS: u64 = 1 << 32;
/// Most arenas: a heap of a terabyte, and half a gigabyte for the table of its pages.
const MAX_ARENAS: usize = 1 << 14;
/// Spans that are read at a time.
const SPANS_AT_ONCE: usize = 1 << 16;
/// How often the list of spans is asked for anew: the runtime moves it when it grows.
const ATTEMPTS: usize = 8;
/// Pages of the Go heap.
const PAGE_BYTES: u64 = 8192;
/// Pages of an arena: the heap grows by so many.
const ARENA_PAGES: u64 = 8192;
/// The state of a span that holds objects; 0 is free, 2 is for stacks and the like.
const IN_USE: u8 = 1;
const MAX_STATE: u8 = 2;
/// In a span's class: its objects hold no addresses.
const NO_SCAN: u8 = 1;

/// A run of pages with slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where its description is.
    pub place: VirtAddr,
    /// Its first byte.
    pub start: VirtAddr,
    /// Its size.
    pub bytes: u64,
    /// The size of a slot.
    pub object_bytes: u64,
    /// How many slots there are.
    pub objects: u64,
    /// The number of the first slot among those of all spans.
    pub first_slot: u64,
    /// Its objects hold no addresses.
    pub is_noscan: bool,
    /// The first of the records beside its objects; 0 is none.
    pub specials: VirtAddr,
    /// Slots before this one are allocated.
    pub free_index: u64,
    /// A bit for each slot: which of the others are allocated.
    pub alloc_bits: VirtAddr,
    /// The type of the only object, where the runtime keeps it here; 0 elsewhere.
    pub large_type: VirtAddr,
    /// It was made for one object, which fits in no size class.
    pub is_large: bool,
}

/// What a span turned out to be.
pub enum Seen {
    /// It holds objects.
    InUse(Span),
    /// It does not.
    NotInUse,
    /// It is none, or its structure is not as expected.
    Strange,
}

impl Span {
    /// Looks at a span's record. The slots are not numbered yet.
    pub fn look_at(place: VirtAddr, record: &[u8], layout: &HeapLayout) -> Seen {
        let word = |offset| u64_at(record, offset).unwrap_or(u64::MAX);
        match u8_at(record, layout.state) {
            Some(IN_USE) => {}
            Some(..=MAX_STATE) => return Seen::NotInUse,
            _ => return Seen::Strange,
        }
        let (start, object_bytes) = (word(layout.start), word(layout.elemsize));
        let bytes = word(layout.npages).checked_mul(PAGE_BYTES).unwrap_or(0);
        let is_span = start.is_multiple_of(PAGE_BYTES)
            && bytes != 0
            && object_bytes <= bytes
            && start.checked_add(bytes).is_some();
        if !is_span {
            return Seen::Strange;
        }
        // Since Go 1.22 numbers of slots have two bytes.
        let is_narrow = layout.nelems.abs_diff(layout.freeindex) < 8;
        let number = |offset| {
            if is_narrow { u16_at(record, offset).map_or(0, u64::from) } else { word(offset) }
        };
        let objects = number(layout.nelems);
        let class = u8_at(record, layout.spanclass).unwrap_or(0);
        Seen::InUse(Self {
            place,
            start: VirtAddr(start),
            bytes,
            object_bytes,
            objects: objects.min(bytes.checked_div(object_bytes).unwrap_or(0)),
            first_slot: 0,
            is_noscan: class & NO_SCAN != 0,
            specials: VirtAddr(word(layout.specials)),
            free_index: number(layout.freeindex),
            alloc_bits: VirtAddr(word(layout.alloc_bits)),
            large_type: VirtAddr(layout.large_type.map_or(0, word)),
            is_large: class >> 1 == 0,
        })
    }

    /// The slot with this number among those of the span.
    pub fn object(&self, index: u64) -> VirtAddr {
        VirtAddr(self.start.0.wrapping_add(index.wrapping_mul(self.object_bytes)))
    }
}

/// A slot: its span's place in the list, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Of the span.
    pub span: usize,
    /// In the span.
    pub index: u64,
}

/// All spans that hold objects.
#[derive(Debug, Default)]
pub struct Spans {
    list: Vec<Span>,
    /// Of each arena's pages, the place of their span in the list plus one.
    arenas: HashMap<u64, Box<[u32]>, FixedState>,
    lowest: u64,
    highest: u64,
    slots: u64,
}

impl Spans {
    /// Reads them. Refused when they are not laid out as this version of Go has them.
    pub fn read(
        memory: RemoteMemory,
        heap: VirtAddr,
        layout: &HeapLayout,
    ) -> Result<Self, GoError> {
        let places = addresses(memory, heap, layout)?;
        let mut found = Self { lowest: u64::MAX, ..Self::default() };
        for some in places.chunks(SPANS_AT_ONCE) {
            for span in in_use(memory, some, layout)? {
                found.add(span)?;
            }
        }
        Ok(found)
    }

    fn add(&mut self, mut span: Span) -> Result<(), GoError> {
        let number = self.list.len() as u32 + 1;
        span.first_slot = self.slots;
        self.slots += span.objects;
        let (first, last) =
            (span.start.0 / PAGE_BYTES, (span.start.0 + span.bytes - 1) / PAGE_BYTES);
        let arenas = first / ARENA_PAGES..=last / ARENA_PAGES;
        let is_absurd = (last - first) / ARENA_PAGES > MAX_ARENAS as u64;
        if self.slots > MAX_SLOTS || is_absurd {
            return Err(too_large());
        }
        for arena in arenas {
            let pages = self
                .arenas
                .entry(arena)
                .or_insert_with(|| vec![0; ARENA_PAGES as usize].into_boxed_slice());
            let base = arena * ARENA_PAGES;
            let from = first.saturating_sub(base) as usize;
            let to = (last + 1 - base).min(ARENA_PAGES) as usize;
            pages[from..to].fill(number);
            if self.arenas.len() > MAX_ARENAS {
                return Err(too_large());
            }
        }
        self.lowest = self.lowest.min(span.start.0);
        self.highest = self.highest.max(span.start.0 + span.bytes);
        self.list.push(span);
        Ok(())
    }

    /// All of them, in no particular order.
    pub fn list(&self) -> &[Span] {
        &self.list
    }

    /// Slots of all spans.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The slot that an address lies in.
    pub fn find(&self, address: VirtAddr) -> Option<Slot> {
        if !(self.lowest..self.highest).contains(&address.0) {
            return None;
        }
        let page = address.0 / PAGE_BYTES;
        let pages = self.arenas.get(&(page / ARENA_PAGES))?;
        let span = (*pages.get((page % ARENA_PAGES) as usize)?).checked_sub(1)? as usize;
        let found = self.list.get(span)?;
        let index = address.0.checked_sub(found.start.0)?.checked_div(found.object_bytes)?;
        (index < found.objects).then_some(Slot { span, index })
    }

    /// The number of a slot among those of all spans.
    pub fn number(&self, slot: Slot) -> u64 {
        self.list.get(slot.span).map_or(0, |span| span.first_slot) + slot.index
    }

    /// The bytes of the slot that an address lies in.
    pub fn extent(&self, address: VirtAddr) -> Option<(VirtAddr, u64)> {
        let slot = self.find(address)?;
        let span = self.list.get(slot.span)?;
        Some((span.object(slot.index), span.object_bytes))
    }
}

fn too_large() -> GoError {
    GoError::refused("its heap is larger than outlive walks")
}

/// Whether the heap has never had a span: the runtime has not started.
pub fn is_unused(
    memory: RemoteMemory,
    heap: VirtAddr,
    layout: &HeapLayout,
) -> Result<bool, GoError> {
    let header = memory.read(VirtAddr(heap.0.wrapping_add(layout.allspans)), 24)?;
    Ok(header.iter().all(|byte| *byte == 0))
}

/// The addresses of all spans.
pub fn addresses(
    memory: RemoteMemory,
    heap: VirtAddr,
    layout: &HeapLayout,
) -> Result<Vec<VirtAddr>, GoError> {
    let mut failure = None;
    for _ in 0..ATTEMPTS {
        let header = memory.read(VirtAddr(heap.0.wrapping_add(layout.allspans)), 24)?;
        let word = |number: u64| u64_at(&header, 8 * number).unwrap_or(u64::MAX);
        let (first, length, capacity) = (word(0), word(1), word(2));
        if length > capacity || length > MAX_SPANS || first == 0 {
            let reason = format!("the list of its heap's spans is absurd ({length} of {capacity})");
            return Err(GoError::refused(reason));
        }
        match memory.read(VirtAddr(first), 8 * length as usize) {
            Ok(bytes) => {
                let words = bytes.chunks_exact(8).filter_map(|word| u64_at(word, 0));
                return Ok(words.map(VirtAddr).collect());
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or_else(|| GoError::refused("its heap has no list of spans"), GoError::Memory))
}

/// Those of some spans that hold objects.
pub fn in_use(
    memory: RemoteMemory,
    places: &[VirtAddr],
    layout: &HeapLayout,
) -> Result<Vec<Span>, GoError> {
    let records = memory.read_records(places, layout.span_size as usize)?;
    let mut spans = Vec::new();
    let mut strange = 0;
    for (place, record) in places.iter().zip(records.iter()) {
        match record.map_or(Seen::Strange, |record| Span::look_at(*place, record, layout)) {
            Seen::InUse(span) => spans.push(span),
            Seen::NotInUse => {}
            Seen::Strange => strange += 1,
        }
    }
    // A span that is being set up may look strange, but not many are.
    if strange * 100 > places.len() {
        let reason = format!("{strange} of {} spans of its heap are not as expected", places.len());
        return Err(GoError::refused(reason));
    }
    Ok(spans)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::golang::layout::Layout;
    use crate::golang::version::GoVersion;
    use crate::target::Pid;

    /// Words of a page.
    pub(in crate::golang::heap) const PAGE_WORDS: usize = 1024;

    /// A heap in this process's own memory: a page for each span.
    pub(in crate::golang::heap) struct Heap {
        words: Vec<u64>,
        kinds: Vec<(u64, bool)>,
    }

    impl Heap {
        /// Of spans with slots of this size, with or without addresses.
        pub(in crate::golang::heap) fn new(kinds: &[(u64, bool)]) -> Self {
            Self { words: vec![0; (kinds.len() + 1) * PAGE_WORDS], kinds: kinds.to_vec() }
        }

        /// Where a page starts.
        pub(in crate::golang::heap) fn page(&self, number: usize) -> u64 {
            let start = (self.words.as_ptr() as u64).next_multiple_of(PAGE_BYTES);
            start + number as u64 * PAGE_BYTES
        }

        /// Writes a word of a page.
        pub(in crate::golang::heap) fn put(&mut self, page: usize, word: usize, value: u64) {
            let skew = (self.page(0) - self.words.as_ptr() as u64) / 8;
            self.words[skew as usize + page * PAGE_WORDS + word] = value;
        }

        /// Its spans.
        pub(in crate::golang::heap) fn spans(&self) -> Spans {
            let mut spans = Spans { lowest: u64::MAX, ..Spans::default() };
            for (page, (object_bytes, is_noscan)) in self.kinds.iter().enumerate() {
                spans.add(span(self.page(page), *object_bytes, *is_noscan)).expect("a small heap");
            }
            spans
        }

        /// This process's memory.
        pub(in crate::golang::heap) fn memory() -> RemoteMemory {
            RemoteMemory::new(Pid(std::process::id()))
        }
    }

    fn span(start: u64, object_bytes: u64, is_noscan: bool) -> Span {
        Span {
            place: VirtAddr(0),
            start: VirtAddr(start),
            bytes: PAGE_BYTES,
            object_bytes,
            objects: PAGE_BYTES / object_bytes,
            first_slot: 0,
            is_noscan,
            specials: VirtAddr(0),
            free_index: PAGE_BYTES / object_bytes,
            alloc_bits: VirtAddr(0),
            large_type: VirtAddr(0),
            is_large: false,
        }
    }

    fn layout(version: &str) -> HeapLayout {
        Layout::of(&GoVersion::parse(version).expect("a version")).expect("known").heap
    }

    #[test]
    fn addresses_are_brought_to_their_slot() {
        let heap = Heap::new(&[(48, false), (8192, true)]);
        let (spans, page) = (heap.spans(), heap.page(0));
        let find = |at: u64| spans.find(VirtAddr(at)).map(|slot| (slot.index, spans.number(slot)));
        assert_eq!(
            (find(page), find(page + 47), find(page + 48)),
            (Some((0, 0)), Some((0, 0)), Some((1, 1)))
        );
        // 170 slots of 48 bytes leave 32 bytes over.
        assert_eq!((find(page + 8159), find(page + 8160)), (Some((169, 169)), None));
        assert_eq!((find(page + 8192 + 8191), find(page - 1)), (Some((0, 170)), None));
        assert_eq!((find(page + 2 * 8192), find(u64::MAX), find(0)), (None, None, None));
        assert_eq!(spans.slots(), 171);
        let extent = spans.extent(VirtAddr(page + 100)).map(|(at, size)| (at.0, size));
        assert_eq!(extent, Some((page + 96, 48)));
    }

    #[test]
    fn records_are_read_as_each_version_writes_them() {
        for version in ["go1.19", "go1.21", "go1.22", "go1.27"] {
            let layout = layout(version);
            let mut record = vec![0_u8; layout.span_size as usize];
            let mut put = |at: u64, bytes: &[u8]| {
                record[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            };
            put(layout.start, &0xc000_0000_u64.to_le_bytes());
            put(layout.npages, &1_u64.to_le_bytes());
            put(layout.elemsize, &16_u64.to_le_bytes());
            put(layout.nelems, &512_u16.to_le_bytes());
            put(layout.spanclass, &[5]);
            put(layout.state, &[IN_USE]);
            let Seen::InUse(span) = Span::look_at(VirtAddr(0), &record, &layout) else {
                panic!("{version}")
            };
            assert_eq!((span.start.0, span.objects, span.is_noscan), (0xc000_0000, 512, true));
            record[layout.state as usize] = 9;
            assert!(matches!(Span::look_at(VirtAddr(0), &record, &layout), Seen::Strange));
            assert!(matches!(Span::look_at(VirtAddr(0), &record[..8], &layout), Seen::Strange));
        }
    }

    #[test]
    fn heaps_that_cannot_be_are_refused() {
        let mut spans = Spans { lowest: u64::MAX, ..Spans::default() };
        let absurd = Span { bytes: 1 << 50, ..span(0, 8, false) };
        assert!(spans.add(absurd).is_err());
        let mut spans = Spans { lowest: u64::MAX, ..Spans::default() };
        let many = Span { objects: MAX_SLOTS, ..span(1 << 30, 8, false) };
        assert!(spans.add(many).is_ok() && spans.add(span(1 << 31, 8, false)).is_err());
    }
}
