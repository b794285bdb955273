//! What one process has mapped since tracing started, by call site. Pure: [`MappingChange`]s in, [`MappingsSnapshot`] out.
//!
//! A mapping is what one call gave; it is live as long as any page of it is mapped, and its live bytes are those pages.
//! Pages that mremap moves stay with the call that mapped them; what mremap adds is a mapping of its own.

#[cfg(test)]
mod model_test;
mod pieces;
mod snapshot;

use std::collections::HashMap;

use foldhash::fast::FixedState;

use self::pieces::{Piece, Pieces};
pub use self::snapshot::{MappingSite, MappingTotals, MappingsSnapshot};
use crate::collector::mapping::{Backing, MappingChange, Origin};
use crate::target::page_range::page_end;
use crate::target::{PageRange, VirtAddr};

/// Most mappings followed at a time. The kernel allows a process 65 530 by default, but joins neighbours that are alike,
/// so that a program can make more calls than it has mappings.
const MOST_MAPPINGS: usize = 1 << 20;

/// What one call gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MappingId(u64);

#[derive(Clone, Copy, Debug)]
struct Mapping {
    site: u32,
    at_ns: u64,
    live_bytes: u64,
}

/// What tells sites apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SiteKey {
    origin: Origin,
    backing: Backing,
}

/// What happened at a call site since the start.
#[derive(Clone, Copy, Debug)]
struct Site {
    key: SiteKey,
    mapped_bytes: u64,
    mapped_count: u64,
    unmapped_bytes: u64,
    /// Mappings of which nothing is left.
    gone_count: u64,
}

/// Pages that a thread's system call may be unmapping.
#[derive(Debug)]
enum UnderWay {
    /// munmap: taken as unmapped, and put back if it fails.
    Unmapping(Vec<(Piece, Mapping)>),
    /// mremap: still live, until it tells where they are.
    Remapping { old: Option<PageRange>, pieces: Vec<Piece> },
}

/// The mappings of one process.
#[derive(Debug)]
pub struct MappingBook {
    start_ns: u64,
    pieces: Pieces,
    mappings: HashMap<MappingId, Mapping, FixedState>,
    sites: Vec<Site>,
    site_by_key: HashMap<SiteKey, u32, FixedState>,
    /// By thread.
    under_way: HashMap<u32, UnderWay, FixedState>,
    /// The end of the last page below the break, once it is known.
    break_end: Option<VirtAddr>,
    next: u64,
    unknown_unmapped_bytes: u64,
    untracked_bytes: u64,
    resynchronised_bytes: u64,
}

impl MappingBook {
    /// An empty book. `start_ns` is `CLOCK_MONOTONIC` when tracing started, `break_end` the end of the page that the break
    /// lies in; without it the first call of brk tells.
    pub fn new(start_ns: u64, break_end: Option<VirtAddr>) -> Self {
        Self {
            start_ns,
            pieces: Pieces::default(),
            mappings: HashMap::default(),
            sites: Vec::new(),
            site_by_key: HashMap::default(),
            under_way: HashMap::default(),
            break_end,
            next: 0,
            unknown_unmapped_bytes: 0,
            untracked_bytes: 0,
            resynchronised_bytes: 0,
        }
    }

    /// Moves the start of the window, `CLOCK_MONOTONIC`, nanoseconds.
    pub fn start_at(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
    }

    /// Applies what a thread did.
    pub fn apply(&mut self, tid: u32, at_ns: u64, change: &MappingChange) {
        match *change {
            MappingChange::Mapped { range, backing, origin } => {
                self.map(range, SiteKey { origin, backing }, at_ns);
            }
            MappingChange::Unmapping(range) => {
                let taken = self.unmap(range);
                let known: u64 = taken.iter().map(|(piece, _)| piece.range.bytes()).sum();
                self.unknown_unmapped_bytes += range.bytes() - known;
                self.begin(tid, UnderWay::Unmapping(taken));
            }
            MappingChange::UnmappingFailed => {
                if let Some(UnderWay::Unmapping(taken)) = self.under_way.remove(&tid) {
                    self.put_back(taken);
                }
            }
            MappingChange::Remapping(old) => {
                let pieces = old.map_or_else(Vec::new, |old| self.pieces.cut(old));
                self.begin(tid, UnderWay::Remapping { old, pieces });
            }
            MappingChange::Remapped { old, new, keeps_old, origin } => {
                let pieces = self.finish_remapping(tid, old);
                match new {
                    Some(new) => self.remap(old, new, keeps_old, pieces, origin, at_ns),
                    None => self.restore(pieces),
                }
            }
            MappingChange::BreakMoved { to, origin } => self.move_break(to, origin, at_ns),
            MappingChange::Nothing => {}
        }
    }

    /// The process runs another program: its memory is gone.
    pub fn executed(&mut self) {
        for (_, mapping) in self.mappings.drain() {
            if let Some(site) = self.sites.get_mut(mapping.site as usize) {
                site.unmapped_bytes += mapping.live_bytes;
                site.gone_count += 1;
            }
        }
        self.pieces.clear();
        self.under_way.clear();
        self.break_end = None;
    }

    /// Drops what is not mapped any more, after events were lost. `mapped` is everything that is, in order.
    pub fn resynchronise(&mut self, mapped: &[PageRange]) {
        let starts = mapped.iter().map(|range| range.start()).chain([VirtAddr(u64::MAX)]);
        let ends = std::iter::once(VirtAddr(0)).chain(mapped.iter().map(|range| range.end()));
        for gap in ends.zip(starts).filter_map(|(end, start)| PageRange::between(end, start)) {
            let taken = self.unmap(gap);
            self.resynchronised_bytes +=
                taken.iter().map(|(piece, _)| piece.range.bytes()).sum::<u64>();
        }
    }

    fn map(&mut self, range: PageRange, key: SiteKey, at_ns: u64) {
        self.unmap(range);
        let site = self.site(key);
        if let Some(site) = self.sites.get_mut(site as usize) {
            site.mapped_bytes += range.bytes();
            site.mapped_count += 1;
        }
        if self.mappings.len() >= MOST_MAPPINGS {
            self.untracked_bytes += range.bytes();
            if let Some(site) = self.sites.get_mut(site as usize) {
                site.unmapped_bytes += range.bytes();
                site.gone_count += 1;
            }
            return;
        }
        let id = MappingId(self.next);
        self.next += 1;
        self.mappings.insert(id, Mapping { site, at_ns, live_bytes: range.bytes() });
        self.pieces.put(Piece { range, mapping: id });
    }

    /// Takes pages out of the books. Gives them, with their mappings as they were.
    fn unmap(&mut self, range: PageRange) -> Vec<(Piece, Mapping)> {
        let taken = self.pieces.cut(range);
        taken.into_iter().filter_map(|piece| Some((piece, self.release(piece)?))).collect()
    }

    /// Counts pages that were cut as unmapped. Gives their mapping as it was.
    fn release(&mut self, piece: Piece) -> Option<Mapping> {
        let mapping = self.mappings.get_mut(&piece.mapping)?;
        let before = *mapping;
        mapping.live_bytes -= piece.range.bytes();
        let is_gone = mapping.live_bytes == 0;
        if let Some(site) = self.sites.get_mut(before.site as usize) {
            site.unmapped_bytes += piece.range.bytes();
            site.gone_count += u64::from(is_gone);
        }
        if is_gone {
            self.mappings.remove(&piece.mapping);
        }
        Some(before)
    }

    /// Notes a call that takes pages. One whose end was lost before it is over.
    fn begin(&mut self, tid: u32, call: UnderWay) {
        if let Some(UnderWay::Remapping { pieces, .. }) = self.under_way.insert(tid, call) {
            // Nobody knows what became of these: they stay.
            self.restore(pieces);
        }
    }

    /// The pages of the mremap that now returns. Without the note of its entry they are cut now.
    fn finish_remapping(&mut self, tid: u32, range: Option<PageRange>) -> Vec<Piece> {
        match self.under_way.remove(&tid) {
            Some(UnderWay::Remapping { old, pieces }) if old == range => return pieces,
            Some(UnderWay::Remapping { pieces, .. }) => self.restore(pieces),
            Some(UnderWay::Unmapping(_)) | None => {}
        }
        range.map_or_else(Vec::new, |range| self.pieces.cut(range))
    }

    /// mremap has moved pages, cut some off, added some.
    fn remap(
        &mut self,
        old: Option<PageRange>,
        new: PageRange,
        keeps_old: bool,
        pieces: Vec<Piece>,
        origin: Origin,
        at_ns: u64,
    ) {
        let backing = pieces.last().and_then(|last| self.backing(last.mapping));
        // What was there at the new place is gone.
        self.unmap(new);
        let mut added = Some(new);
        if keeps_old {
            self.restore(pieces);
        } else if let Some(old) = old {
            for piece in pieces {
                self.move_piece(piece, old, new);
            }
            added = new.after(old.bytes());
        }
        if let Some(added) = added {
            // Of what was mapped before tracing it is not known what is behind it: most likely nothing but memory.
            let backing = backing.unwrap_or(Backing::Anonymous);
            self.map(added, SiteKey { origin, backing }, at_ns);
        }
    }

    fn move_piece(&mut self, piece: Piece, old: PageRange, new: PageRange) {
        let moved = piece.range.moved(old.start(), new.start());
        let kept = moved.and_then(|range| range.intersection(new));
        let kept_bytes = kept.map_or(0, PageRange::bytes);
        if let Some(range) = kept {
            self.pieces.put(Piece { range, ..piece });
        }
        if let Some(range) = piece.range.after(kept_bytes) {
            self.release(Piece { range, ..piece });
        }
    }

    /// Puts pieces back that are still counted as live, where nothing else is by now.
    fn restore(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let gaps = self.pieces.gaps(piece.range);
            let bytes: u64 = gaps.iter().map(|gap| gap.bytes()).sum();
            for range in gaps {
                self.pieces.put(Piece { range, ..piece });
            }
            if let Some(range) = piece.range.after(bytes) {
                self.release(Piece { range, ..piece });
            }
        }
    }

    /// Puts pages back that were counted as unmapped.
    fn put_back(&mut self, taken: Vec<(Piece, Mapping)>) {
        for (piece, before) in taken {
            for range in self.pieces.gaps(piece.range) {
                let bytes = range.bytes();
                let absent = Mapping { live_bytes: 0, ..before };
                let mapping = self.mappings.entry(piece.mapping).or_insert(absent);
                let was_gone = mapping.live_bytes == 0;
                mapping.live_bytes += bytes;
                if let Some(site) = self.sites.get_mut(before.site as usize) {
                    site.unmapped_bytes -= bytes;
                    site.gone_count -= u64::from(was_gone);
                }
                self.pieces.put(Piece { range, ..piece });
            }
        }
    }

    /// brk maps and unmaps whole pages. A call that only asks where the break is corrects what is known of it.
    fn move_break(&mut self, to: VirtAddr, origin: Option<Origin>, at_ns: u64) {
        let to = page_end(to);
        let Some(from) = self.break_end.replace(to) else { return };
        if let Some(range) = PageRange::between(to, from) {
            self.unmap(range);
        } else if let (Some(range), Some(origin)) = (PageRange::between(from, to), origin) {
            self.map(range, SiteKey { origin, backing: Backing::Anonymous }, at_ns);
        }
    }

    fn backing(&self, id: MappingId) -> Option<Backing> {
        let site = self.mappings.get(&id)?.site;
        Some(self.sites.get(site as usize)?.key.backing)
    }

    fn site(&mut self, key: SiteKey) -> u32 {
        let next = self.sites.len() as u32;
        let site = *self.site_by_key.entry(key).or_insert(next);
        if site == next {
            self.sites.push(Site {
                key,
                mapped_bytes: 0,
                mapped_count: 0,
                unmapped_bytes: 0,
                gone_count: 0,
            });
        }
        site
    }
}
