//! The sampled objects that live: the runtime keeps a record of each beside the span of memory that the object is in.
//!
//! In: the list of all spans of the heap. Out: [`Specials`]: each object's address, size and call site.

use std::collections::HashMap;

use super::GoError;
use super::bytes::{u8_at, u16_at, u64_at};
use super::heap::spans::{self, Span};
use super::layout::{HeapLayout, SpecialLayout};
use crate::target::{RemoteMemory, VirtAddr};

/// Spans that are read at a time.
const SPANS_AT_ONCE: usize = 1 << 16;
/// Most objects that are listed.
const MAX_OBJECTS: usize = 2_000_000;
/// Longest list of one span that is followed: one of 8 KiB has at most 1024 objects, each with a few records.
const MAX_LIST: usize = 16_384;
/// How often lists that change are read anew.
const ATTEMPTS: usize = 8;
/// Kinds of records are small numbers.
const MAX_KIND: u8 = 31;

/// A live object that the runtime sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledObject {
    /// Where it is.
    pub address: VirtAddr,
    /// Size of its slot.
    pub bytes: u64,
    /// The [`Bucket`](super::buckets::Bucket) of its call site.
    pub bucket: VirtAddr,
}

/// A record that is not of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherRecord {
    /// The object, or an address in it.
    pub address: VirtAddr,
    /// The record.
    pub record: VirtAddr,
}

/// The live sampled objects, garbage that is not swept yet included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specials {
    /// In no particular order.
    pub objects: Vec<SampledObject>,
    /// Records that are not of the profile: finalizers, cleanups, weak pointers.
    pub others: Vec<OtherRecord>,
    /// Spans of the heap.
    pub spans: u64,
    /// There are more objects than outlive lists.
    pub cut: bool,
}

/// The records of one span, by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Records {
    objects: Vec<SampledObject>,
    others: Vec<OtherRecord>,
}

/// Where one is in the list of a span's records.
#[derive(Clone, Copy)]
struct Cursor {
    span: Span,
    at: VirtAddr,
    /// Offset and kind of the record before: they only grow.
    last: Option<(u64, u8)>,
}

impl Specials {
    /// Reads them. Refused when spans or records are not laid out as this version of Go has them.
    pub fn read(
        memory: RemoteMemory,
        heap: VirtAddr,
        layout: &HeapLayout,
        special: &SpecialLayout,
    ) -> Result<Self, GoError> {
        let spans = spans::addresses(memory, heap, layout)?;
        let mut found = Self { spans: spans.len() as u64, ..Self::default() };
        for some in spans.chunks(SPANS_AT_ONCE) {
            found.read_settled(memory, some, layout, special)?;
            if found.cut {
                break;
            }
        }
        Ok(found)
    }

    /// Reads the lists of spans until each was the same twice: one that changes while it is read leads astray, since the memory of a
    /// record that goes is that of another one at once.
    fn read_settled(
        &mut self,
        memory: RemoteMemory,
        spans: &[VirtAddr],
        layout: &HeapLayout,
        special: &SpecialLayout,
    ) -> Result<(), GoError> {
        let mut lists: HashMap<VirtAddr, Records> = HashMap::new();
        let mut open = spans.to_vec();
        for _ in 0..ATTEMPTS {
            let cursors = spans_with_records(memory, &open, layout)?;
            let mut read = self.follow(memory, cursors, special)?;
            open.retain(|span| {
                let (before, now) = (lists.remove(span), read.remove(span).unwrap_or_default());
                let is_open = before.as_ref() != Some(&now);
                lists.insert(*span, now);
                is_open
            });
            if open.is_empty() || self.cut {
                break;
            }
        }
        for records in lists.into_values() {
            self.objects.extend(records.objects);
            self.others.extend(records.others);
        }
        Ok(())
    }

    /// Follows the lists of many spans together, a record of each at a time.
    fn follow(
        &mut self,
        memory: RemoteMemory,
        mut cursors: Vec<Cursor>,
        layout: &SpecialLayout,
    ) -> Result<HashMap<VirtAddr, Records>, GoError> {
        let mut lists: HashMap<VirtAddr, Records> = HashMap::new();
        let mut count = self.objects.len().max(self.others.len());
        for _ in 0..MAX_LIST {
            if cursors.is_empty() {
                return Ok(lists);
            }
            let places: Vec<_> = cursors.iter().map(|cursor| cursor.at).collect();
            let records = memory.read_records(&places, layout.size as usize)?;
            let mut next = Vec::new();
            for (cursor, record) in cursors.iter().zip(records.iter()) {
                // Gone meanwhile, with its object.
                let Some(record) = record else { continue };
                let list = lists.entry(cursor.span.place).or_default();
                next.extend(list.take(cursor, record, layout));
                count += 1;
                if count >= MAX_OBJECTS {
                    self.cut = true;
                    return Ok(lists);
                }
            }
            cursors = next;
        }
        self.cut = true;
        Ok(lists)
    }
}

impl Records {
    /// Takes a record, and gives the place of the next. A list that changes while it is read, or runs in a circle, ends.
    fn take(&mut self, cursor: &Cursor, record: &[u8], layout: &SpecialLayout) -> Option<Cursor> {
        let kind = u8_at(record, layout.kind)?;
        // Until Go 1.23 the offset has two bytes, and the kind follows it.
        let narrow = layout.kind - layout.offset < 8;
        let offset = if narrow {
            u64::from(u16_at(record, layout.offset)?)
        } else {
            u64_at(record, layout.offset)?
        };
        let is_next = cursor.last.is_none_or(|last| last < (offset, kind));
        if kind > MAX_KIND || offset >= cursor.span.bytes || !is_next {
            return None;
        }
        let address = VirtAddr(cursor.span.start.0.wrapping_add(offset));
        if kind == layout.kind_profile {
            self.objects.push(SampledObject {
                address,
                bytes: cursor.span.object_bytes,
                bucket: VirtAddr(u64_at(record, layout.bucket)?),
            });
        } else {
            self.others.push(OtherRecord { address, record: cursor.at });
        }
        let at = VirtAddr(u64_at(record, layout.next)?);
        (at.0 != 0).then_some(Cursor { span: cursor.span, at, last: Some((offset, kind)) })
    }
}

/// The spans in use that have records.
fn spans_with_records(
    memory: RemoteMemory,
    places: &[VirtAddr],
    layout: &HeapLayout,
) -> Result<Vec<Cursor>, GoError> {
    let spans = spans::in_use(memory, places, layout)?;
    let with_records = spans.into_iter().filter(|span| span.specials.0 != 0);
    Ok(with_records.map(|span| Cursor { span, at: span.specials, last: None }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::layout::Layout;
    use crate::golang::version::GoVersion;
    use crate::target::Pid;

    fn layout() -> Layout {
        Layout::of(&GoVersion::parse("go1.24").expect("a version")).expect("known")
    }

    fn put(bytes: &mut [u8], at: u64, value: u64) {
        bytes[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn special(next: u64, offset: u64, kind: u8, bucket: u64) -> Box<[u8]> {
        let layout = layout().special;
        let mut bytes = vec![0; layout.size as usize];
        put(&mut bytes, layout.next, next);
        put(&mut bytes, layout.offset, offset);
        put(&mut bytes, layout.bucket, bucket);
        bytes[layout.kind as usize] = kind;
        bytes.into()
    }

    fn span_bytes(start: u64, pages: u64, elemsize: u64, specials: u64, state: u8) -> Box<[u8]> {
        let layout = layout().heap;
        let mut bytes = vec![0; layout.span_size as usize];
        put(&mut bytes, layout.start, start);
        put(&mut bytes, layout.npages, pages);
        put(&mut bytes, layout.elemsize, elemsize);
        put(&mut bytes, layout.specials, specials);
        bytes[layout.state as usize] = state;
        bytes.into()
    }

    const IN_USE: u8 = 1;

    fn address<T>(of: &[T]) -> u64 {
        of.as_ptr() as u64
    }

    /// A heap in this process's own memory; its list of spans is what `list` says.
    fn read(list: [u64; 3]) -> Result<Specials, GoError> {
        let layout = layout();
        let memory = RemoteMemory::new(Pid(std::process::id()));
        let heap = VirtAddr(address(&list).wrapping_sub(layout.heap.allspans));
        Specials::read(memory, heap, &layout.heap, &layout.special)
    }

    fn read_spans(spans: &[Box<[u8]>]) -> Result<Specials, GoError> {
        let addresses: Vec<u64> = spans.iter().map(|span| address(span)).collect();
        let count = addresses.len() as u64;
        read([address(&addresses), count, count])
    }

    #[test]
    fn objects_are_those_with_a_record_of_the_profile() {
        let profile = layout().special.kind_profile;
        let last = special(0, 96, profile, 0xb2);
        let other = special(address(&last), 48, 1, 0);
        let first = special(address(&other), 48, 0, 0);
        let only = special(0, 0, profile, 0xb1);
        let spans = [
            span_bytes(0x2000, 1, 48, address(&first), IN_USE),
            span_bytes(0x4000, 4, 32768, address(&only), IN_USE),
            span_bytes(0, 0, 0, 8, 0),
            span_bytes(0x6000, 1, 8, 0, IN_USE),
        ];
        let found = read_spans(&spans).expect("a heap");
        let mut objects: Vec<_> =
            found.objects.iter().map(|o| (o.address.0, o.bytes, o.bucket.0)).collect();
        objects.sort_unstable();
        assert_eq!(objects, [(0x2060, 48, 0xb2), (0x4000, 32768, 0xb1)]);
        assert_eq!((found.spans, found.cut), (4, false));
    }

    #[test]
    fn circles_and_wild_pointers_end() {
        let profile = layout().special.kind_profile;
        let mut circle = special(0, 16, profile, 1);
        let own = address(&circle);
        put(&mut circle, 0, own);
        let wild = special(24, 16, profile, 2);
        let outside = special(0, 1 << 40, profile, 3);
        let spans = [
            span_bytes(0x2000, 1, 16, own, IN_USE),
            span_bytes(0x4000, 1, 16, address(&wild), IN_USE),
            span_bytes(0x6000, 1, 16, address(&outside), IN_USE),
            span_bytes(0x8000, 1, 16, 40, IN_USE),
        ];
        let found = read_spans(&spans).expect("a heap");
        assert_eq!(found.objects.len(), 2);
    }

    #[test]
    fn absurd_heaps_are_refused() {
        let strange = [span_bytes(0x2000, 1, 16, 0, 77)];
        assert!(matches!(read_spans(&strange), Err(GoError::Refused(_))));
        for list in [[0, 1, 1], [4096, 9, 8], [4096, u64::MAX, u64::MAX], [16, 4, 4]] {
            assert!(read(list).is_err(), "{list:?}");
        }
    }
}
