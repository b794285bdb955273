//! Which mapping each mapped page belongs to: ranges that do not overlap, cut and put in by interval arithmetic.

use std::collections::BTreeMap;

use super::MappingId;
use crate::target::{PageRange, VirtAddr};

/// Part of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it is.
    pub(super) range: PageRange,
    /// The mapping it is of.
    pub(super) mapping: MappingId,
}

/// All that is mapped and known.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// By start address; no two overlap.
    by_start: BTreeMap<VirtAddr, Piece>,
}

impl Pieces {
    /// Takes out what lies in a range. Pieces that reach out of it stay in part.
    pub(super) fn cut(&mut self, range: PageRange) -> Vec<Piece> {
        let overlapping = self.overlapping(range);
        let mut taken = Vec::with_capacity(overlapping.len());
        for piece in overlapping {
            self.by_start.remove(&piece.range.start());
            let before = PageRange::between(piece.range.start(), range.start());
            let after = PageRange::between(range.end(), piece.range.end());
            for range in before.into_iter().chain(after) {
                self.by_start.insert(range.start(), Piece { range, ..piece });
            }
            if let Some(range) = piece.range.intersection(range) {
                taken.push(Piece { range, ..piece });
            }
        }
        taken
    }

    /// Puts in a piece where nothing is: the caller has cut the range.
    pub(super) fn put(&mut self, piece: Piece) {
        debug_assert!(self.overlapping(piece.range).is_empty(), "the range was cut");
        self.by_start.insert(piece.range.start(), piece);
    }

    /// The parts of a range where nothing is.
    pub(super) fn gaps(&self, range: PageRange) -> Vec<PageRange> {
        let mut gaps = Vec::new();
        let mut from = range.start();
        for piece in self.overlapping(range) {
            gaps.extend(PageRange::between(from, piece.range.start()));
            from = piece.range.end();
        }
        gaps.extend(PageRange::between(from, range.end()));
        gaps
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.by_start.clear();
    }

    fn overlapping(&self, range: PageRange) -> Vec<Piece> {
        let before = self.by_start.range(..range.start()).next_back();
        let inside = self.by_start.range(range.start()..range.end());
        let reaches_in = before.filter(|(_, piece)| piece.range.end() > range.start());
        reaches_in.into_iter().chain(inside).map(|(_, piece)| *piece).collect()
    }
}
