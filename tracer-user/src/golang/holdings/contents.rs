//! What is in the slots of the heap: which are allocated, and of what type.
//!
//! In: spans, and the walk that tells who has what. Out: each allocated slot, told once. Since Go 1.22 the runtime keeps the type of objects with
//! addresses that are larger than 512 bytes; of all others only the size of the slot is known.

use std::collections::HashMap;

use crate::golang::GoError;
use crate::golang::bytes::u64_at;
use crate::golang::code::GoCode;
use crate::golang::heap::owners::Owner;
use crate::golang::heap::spans::Span;
use crate::golang::heap::spans::{Slot, Spans};
use crate::golang::heap::walk::Walk;
use crate::golang::layout::TypeLayout;
use crate::golang::types::{self, TypeFacts, TypeSection};
use crate::target::{ElfAddr, RemoteMemory, VirtAddr};

/// Largest slot whose type is nowhere.
const MAX_UNTYPED_BYTES: u64 = 512;
/// Spans whose bits are read at a time.
const SPANS_AT_ONCE: usize = 1 << 14;
/// Bytes of the bits of a span of 8 KiB, which has at most 1024 slots.
const BITS_BYTES: usize = 128;

/// Objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes of their slots.
    pub bytes: u64,
    /// How many.
    pub count: u64,
}

impl Amount {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.count = self.count.saturating_add(other.count);
    }
}

/// What objects are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Contents {
    /// Of this type, `[]` before it when there is room for several.
    Typed(String),
    /// In slots of this size; the type is not known.
    Sized {
        /// Of the slot.
        bytes: u64,
        /// Some of their words may be addresses.
        has_pointers: bool,
    },
    /// Too large for a size class; the type is not known.
    Large {
        /// Some of their words may be addresses.
        has_pointers: bool,
    },
}

impl Contents {
    /// Whether the type is known.
    pub fn is_typed(&self) -> bool {
        matches!(self, Self::Typed(_))
    }
}

/// Names of types, by the address of their description.
pub(in crate::golang) struct Types<'c> {
    pub(in crate::golang) code: &'c GoCode,
    pub(in crate::golang) section: TypeSection,
    pub(in crate::golang) layout: &'c TypeLayout,
    /// What the loader added to the file's addresses.
    pub(in crate::golang) bias: u64,
    /// The runtime keeps types beside objects (since Go 1.22).
    pub(in crate::golang) are_kept: bool,
}

impl Types<'_> {
    fn facts(&self, at: VirtAddr) -> Option<TypeFacts> {
        let at = ElfAddr(at.0.checked_sub(self.bias)?);
        types::facts(self.code, self.section, self.layout, at)
    }
}

/// Tells of each allocated slot who has it and what it is.
pub(super) fn count(
    memory: RemoteMemory,
    spans: &Spans,
    walk: &Walk<'_>,
    types: &Types<'_>,
    tell: &mut dyn FnMut(Option<Owner>, Contents, Amount),
) -> Result<(), GoError> {
    let mut known: HashMap<VirtAddr, Option<TypeFacts>> = HashMap::new();
    for (chunk, some) in spans.list().chunks(SPANS_AT_ONCE).enumerate() {
        let places: Vec<_> = some.iter().map(|span| span.alloc_bits).collect();
        let all_bits = memory.read_records(&places, BITS_BYTES)?;
        for (number, (span, bits)) in some.iter().zip(all_bits.iter()).enumerate() {
            let bits = bits.filter(|_| span.objects <= 8 * BITS_BYTES as u64).map_or_else(
                || memory.read(span.alloc_bits, span.objects.div_ceil(8) as usize),
                |bits| Ok(bits.to_vec()),
            );
            // A span that is freed meanwhile has no bits any more.
            let bits = bits.unwrap_or_default();
            let slots = allocated(span, &bits);
            let headers = headers(memory, span, &slots, types)?;
            for (place, index) in slots.iter().enumerate() {
                let header = headers.get(place).copied().unwrap_or(VirtAddr(0));
                let facts = known.entry(header).or_insert_with(|| types.facts(header)).as_ref();
                let slot = Slot { span: chunk * SPANS_AT_ONCE + number, index: *index };
                let amount = Amount { bytes: span.object_bytes, count: 1 };
                tell(walk.owner(spans.number(slot)), contents(span, facts), amount);
            }
        }
    }
    Ok(())
}

/// The slots of a span that are allocated: those before the free index, and those that the last sweep left.
fn allocated(span: &Span, bits: &[u8]) -> Vec<u64> {
    let is_set = |index: u64| {
        bits.get((index / 8) as usize).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    };
    (0..span.objects).filter(|index| *index < span.free_index || is_set(*index)).collect()
}

/// Where the types of some slots of a span are described; nothing when the runtime does not keep them.
fn headers(
    memory: RemoteMemory,
    span: &Span,
    slots: &[u64],
    types: &Types<'_>,
) -> Result<Vec<VirtAddr>, GoError> {
    if !types.are_kept || span.is_noscan || span.object_bytes <= MAX_UNTYPED_BYTES {
        return Ok(Vec::new());
    }
    if span.is_large {
        return Ok(vec![span.large_type; slots.len()]);
    }
    let places: Vec<_> = slots.iter().map(|index| span.object(*index)).collect();
    let words = memory.read_records(&places, 8)?;
    let words = words.iter().map(|word| word.and_then(|word| u64_at(word, 0)).unwrap_or(0));
    Ok(words.map(VirtAddr).collect())
}

fn contents(span: &Span, facts: Option<&TypeFacts>) -> Contents {
    let has_pointers = !span.is_noscan;
    match facts {
        Some(TypeFacts { name, bytes }) if *bytes > 0 && 2 * bytes <= span.object_bytes => {
            Contents::Typed(format!("[]{name}"))
        }
        Some(TypeFacts { name, .. }) => Contents::Typed(name.clone()),
        None if span.is_large => Contents::Large { has_pointers },
        None => Contents::Sized { bytes: span.object_bytes, has_pointers },
    }
}
