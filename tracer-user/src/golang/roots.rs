//! Where everything that lives begins: variables, goroutines, processors, and what the runtime keeps beside the heap.
//!
//! In: where those are. Out: what they lead to is reached. The runtime's collector begins at the same places.

use std::collections::HashSet;
use std::ops::Range;

use super::GoError;
use super::bytes::{u32_at, u64_at};
use super::goroutines::{Goroutine, Goroutines};
use super::heap::globals;
use super::heap::spans::Spans;
use super::heap::walk::Walk;
use super::layout::Layout;
use super::moduledata::Variables;
use super::specials::Specials;
use crate::target::proc_dir::ProcDir;
use crate::target::{RemoteMemory, VirtAddr};

/// Bytes of a block of finalizers (`finblock`), in every release.
const FINALIZER_BLOCK_BYTES: usize = 4096;
/// Bytes of a block of cleanups (`cleanupBlock`), and of the queue that leads to them.
const CLEANUP_BLOCK_BYTES: usize = 512;
/// Where each kind of block leads to the next of all blocks.
const NEXT_FINALIZERS: u64 = 0;
const NEXT_CLEANUPS: u64 = 16;
/// Most blocks that are followed.
const MAX_BLOCKS: usize = 1 << 16;
/// Bytes of a record beside an object, of any kind.
const RECORD_BYTES: usize = 56;
/// Most processors.
const MAX_PROCESSORS: u64 = 1 << 16;

/// Where to look.
pub struct Places<'p> {
    /// The process's memory.
    pub memory: RemoteMemory,
    /// The process.
    pub process: &'p ProcDir,
    /// `runtime.mheap_`.
    pub heap: VirtAddr,
    /// Where fields are.
    pub layout: &'p Layout,
    /// The program's variables.
    pub variables: &'p [Variables; 2],
    /// Of these one is the list of goroutines.
    pub goroutines: Vec<VirtAddr>,
    /// Of these one is the list of processors.
    pub processors: Vec<VirtAddr>,
    /// Of these one is the first thread.
    pub threads: Vec<VirtAddr>,
    /// Among these are blocks of finalizers to be run.
    pub finalizers: Vec<VirtAddr>,
    /// Among these is the queue of cleanups to be run.
    pub cleanups: Vec<VirtAddr>,
    /// There are variables that are not known.
    pub has_plugins: bool,
}

/// Reaches what lives whatever goroutines do.
pub(super) fn reach(places: &Places<'_>, walk: &mut Walk<'_>) -> Result<(), GoError> {
    for variables in places.variables {
        globals::for_each_address(places.memory, variables, |_, word| walk.reach(word))?;
    }
    reach_besides(places, walk)
}

/// Reaches what the runtime keeps beside the heap and its variables.
pub(super) fn reach_besides(places: &Places<'_>, walk: &mut Walk<'_>) -> Result<(), GoError> {
    reach_records(places, walk)?;
    let finalizers = places.finalizers.iter().filter_map(|at| places.memory.read_u64(*at).ok());
    reach_blocks(places.memory, finalizers, FINALIZER_BLOCK_BYTES, NEXT_FINALIZERS, walk)?;
    for queue in &places.cleanups {
        let Ok(bytes) = places.memory.read(*queue, CLEANUP_BLOCK_BYTES) else { continue };
        let words = bytes.chunks_exact(8).filter_map(|word| u64_at(word, 0));
        reach_blocks(places.memory, words, CLEANUP_BLOCK_BYTES, NEXT_CLEANUPS, walk)?;
    }
    Ok(())
}

/// Reaches what processors hold, but for the notes of the collector and the allocator: what these lead to, nobody who runs could use.
pub(super) fn reach_processors(places: &Places<'_>, walk: &mut Walk<'_>) -> Result<(), GoError> {
    let layout = &places.layout.scheduler;
    for processor in processors(places) {
        let mut bytes = places.memory.read(processor, layout.processor_size as usize)?;
        let notes = [
            (layout.write_barriers, layout.write_barriers_size),
            (layout.collector_work, layout.collector_work_size),
            (layout.free_pages, layout.free_pages_size),
        ];
        for (from, size) in notes {
            let Some(from) = from else { continue };
            let place = bytes.get_mut(from as usize..(from + size) as usize);
            place.unwrap_or_default().fill(0);
        }
        walk.close(processor);
        walk.reach_words(&bytes);
    }
    Ok(())
}

/// Objects with a finalizer, a cleanup, or a weak pointer: somebody may get hold of them although nothing leads to them.
fn reach_records(places: &Places<'_>, walk: &mut Walk<'_>) -> Result<(), GoError> {
    let layout = places.layout;
    let specials = Specials::read(places.memory, places.heap, &layout.heap, &layout.special)?;
    if specials.cut {
        return Err(GoError::refused("there are more records beside its heap than outlive reads"));
    }
    specials.others.iter().for_each(|other| walk.reach(other.address.0));
    let records: Vec<_> = specials.others.iter().map(|other| other.record).collect();
    let records = places.memory.read_records(&records, RECORD_BYTES)?;
    records.iter().flatten().for_each(|record| walk.reach_words(record));
    Ok(())
}

/// Reaches what is in blocks outside the heap, and in those that they lead to. Words that are no addresses of blocks lead nowhere.
fn reach_blocks(
    memory: RemoteMemory,
    first: impl Iterator<Item = u64>,
    size: usize,
    next: u64,
    walk: &mut Walk<'_>,
) -> Result<(), GoError> {
    let mut seen = HashSet::new();
    for mut at in first {
        while at != 0 && walk.is_reached(VirtAddr(at)).is_none() && seen.insert(at) {
            if seen.len() > MAX_BLOCKS {
                return Err(GoError::refused("its finalizers to be run do not end"));
            }
            let Ok(block) = memory.read(VirtAddr(at), size) else { break };
            walk.reach_words(&block);
            at = u64_at(&block, next).unwrap_or(0);
        }
    }
    Ok(())
}

/// The runtime's processors: of the candidates, the list in which each has the number of its place. None when it is not found, which makes
/// more appear to live, not less.
pub(super) fn processors(places: &Places<'_>) -> Vec<VirtAddr> {
    let id_offset = places.layout.scheduler.processor_id;
    let list = |at: &VirtAddr| {
        let header = places.memory.read(*at, 24).ok()?;
        let (first, length) = (u64_at(&header, 0)?, u64_at(&header, 8)?);
        if !(1..=MAX_PROCESSORS).contains(&length) {
            return None;
        }
        let bytes = places.memory.read(VirtAddr(first), 8 * length as usize).ok()?;
        let found: Vec<_> =
            bytes.chunks_exact(8).filter_map(|w| u64_at(w, 0)).map(VirtAddr).collect();
        let has_its_number = |(number, at): (usize, &VirtAddr)| {
            let id = places.memory.read(VirtAddr(at.0.wrapping_add(id_offset)), 4);
            id.is_ok_and(|id| u32_at(&id, 0) == Some(number as u32))
        };
        found.iter().enumerate().all(has_its_number).then_some(found)
    };
    places.processors.iter().find_map(list).unwrap_or_default()
}

/// All goroutines.
pub(super) fn goroutines(places: &Places<'_>) -> Result<Goroutines, GoError> {
    let layout = places.layout;
    let found = Goroutines::read(
        places.memory,
        &places.goroutines,
        &layout.goroutine,
        &layout.wait_reasons,
    )?;
    if found.cut {
        return Err(GoError::refused("it has more goroutines than outlive reads"));
    }
    Ok(found)
}

/// Reaches what a goroutine leads to by its description, and by the part of its stack that is in use.
pub(super) fn reach_goroutine(
    places: &Places<'_>,
    spans: &Spans,
    goroutine: &Goroutine,
    used_stack: Range<VirtAddr>,
    walk: &mut Walk<'_>,
) -> Result<(), GoError> {
    let described = spans.extent(goroutine.address);
    let (start, size) = described.unwrap_or((goroutine.address, places.layout.goroutine.size));
    let mut description = places.memory.read(start, size as usize)?;
    // Where its stack ends may be where an object begins.
    let stack = goroutine.stack.start.0..=goroutine.stack.end.0;
    for word in description.chunks_exact_mut(8) {
        if stack.contains(&u64_at(word, 0).unwrap_or(0)) {
            word.fill(0);
        }
    }
    walk.reach_words(&description);
    walk.reach_from(used_stack)?;
    Ok(())
}
