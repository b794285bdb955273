//! What threads that are held have beside the heap: registers, and the stacks that they run on.
//!
//! In: their registers. Out: what they lead to is reached.

use std::ops::Range;

use crate::golang::GoError;
use crate::golang::bytes::u64_at;
use crate::golang::goroutines::Goroutine;
use crate::golang::heap::walk::Walk;
use crate::golang::roots::Places;
use crate::target::VirtAddr;
use crate::target::hold::Registers;

/// Most threads: the runtime ends a program that has more than 10,000.
const MAX_THREADS: usize = 1 << 16;
/// How much is read of a stack whose end is not known: the runtime's own code calls no deeper.
const SYSTEM_STACK_BYTES: u64 = 16 << 10;
/// Largest stack of a thread that is read.
const MAX_STACK_BYTES: u64 = 8 << 20;

/// The stacks on which threads run the runtime's own code. They belong to goroutines that are in no list; nothing is reached through their
/// descriptions, since where such a stack ends may be where an object begins.
pub(in crate::golang) fn system_stacks(
    places: &Places<'_>,
    walk: &mut Walk<'_>,
) -> Result<Vec<Range<VirtAddr>>, GoError> {
    let (scheduler, described) = (&places.layout.scheduler, &places.layout.goroutine);
    let mut stacks = Vec::new();
    for thread in threads(places) {
        let record = places.memory.read(thread, scheduler.thread_size as usize)?;
        let words = record.chunks_exact(8).filter_map(|word| u64_at(word, 0));
        let candidates: Vec<_> = words.map(VirtAddr).collect();
        let records = places.memory.read_records(&candidates, described.size as usize)?;
        for (at, goroutine) in candidates.iter().zip(records.iter()) {
            let word = |offset| goroutine.and_then(|bytes| u64_at(bytes, offset));
            if word(scheduler.thread) != Some(thread.0) {
                continue;
            }
            walk.close(*at);
            let bound = |offset| word(described.stack + offset).map_or(VirtAddr(0), VirtAddr);
            stacks.push(bound(described.stack_low)..bound(described.stack_high));
        }
    }
    Ok(stacks)
}

/// The runtime's descriptions of its threads, closed: they hold stale words. Gives what is in them.
pub(in crate::golang) fn close(
    places: &Places<'_>,
    walk: &mut Walk<'_>,
) -> Result<Vec<Vec<u8>>, GoError> {
    let size = places.layout.scheduler.thread_size as usize;
    let mut records = Vec::new();
    for thread in threads(places) {
        walk.close(thread);
        records.push(places.memory.read(thread, size)?);
    }
    Ok(records)
}

/// The runtime's threads: of the candidates, the list of those whose own goroutine knows them. None when it is not found, which makes more
/// appear to live, not less.
fn threads(places: &Places<'_>) -> Vec<VirtAddr> {
    let layout = &places.layout.scheduler;
    let read = |at: u64| places.memory.read_u64(VirtAddr(at)).unwrap_or(0);
    let is_thread = |at: u64| {
        let own = read(at.wrapping_add(layout.system_goroutine));
        own != 0 && read(own.wrapping_add(layout.thread)) == at
    };
    let firsts = places.threads.iter().map(|at| read(at.0));
    let mut found = Vec::new();
    let mut next = firsts.into_iter().find(|at| *at != 0 && is_thread(*at));
    while let Some(at) = next.filter(|_| found.len() < MAX_THREADS) {
        found.push(VirtAddr(at));
        let link = layout.next_thread.map_or(0, |offset| read(at.wrapping_add(offset)));
        next = (link != 0 && is_thread(link)).then_some(link);
    }
    found
}

/// Reaches what is in registers, and on stacks that are no goroutine's.
pub(super) fn reach(
    places: &Places<'_>,
    threads: &[Registers],
    list: &[Goroutine],
    system_stacks: &[Range<VirtAddr>],
    walk: &mut Walk<'_>,
) -> Result<(), GoError> {
    for thread in threads {
        walk.reach_words(&thread.bytes);
        let start = VirtAddr(thread.stack_pointer.0 & !7);
        if list.iter().any(|goroutine| goroutine.stack.contains(&start)) {
            continue;
        }
        let stack = system_stacks.iter().find(|stack| stack.contains(&start));
        // C code runs on stacks of its own.
        let size = stack.map_or(SYSTEM_STACK_BYTES, |stack| stack.end.0 - start.0);
        let mut bytes = vec![0; size.min(MAX_STACK_BYTES) as usize];
        let read = places.memory.read_available(start, &mut bytes)?;
        walk.reach_words(&bytes[..read]);
    }
    Ok(())
}

/// The part of a goroutine's stack that is in use: the thread that runs it knows, if it is held.
pub(super) fn used_stack(goroutine: &Goroutine, threads: &[Registers]) -> Range<VirtAddr> {
    let mut pointers = threads.iter().map(|thread| thread.stack_pointer);
    match pointers.find(|at| goroutine.stack.contains(at)) {
        Some(at) => at..goroutine.stack.end,
        None => goroutine.used_stack(),
    }
}
