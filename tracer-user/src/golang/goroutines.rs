//! Goroutines: what each does or waits for, who started it, and its stack.
//!
//! In: the runtime's list of all goroutines. Out: [`Goroutines`]. Nothing is stopped, so that a goroutine may run on while it is read: the stack
//! of one that runs is not read, and that of one that has just begun to run may end early.

use std::collections::HashSet;
use std::ops::Range;

use super::GoError;
use super::bytes::{u8_at, u32_at, u64_at};
use super::goroutine_state::{DEAD, EXTRA, IDLE, SCAN};
pub use super::goroutine_state::{State, is_system};
use super::layout::GoroutineLayout;
use crate::target::{RemoteMemory, VirtAddr};

/// Most goroutines that are read.
const MAX_GOROUTINES: u64 = 4_000_000;
/// Goroutines that are read at a time.
const AT_ONCE: usize = 1 << 14;
/// How often the list is asked for anew: the runtime moves it when it grows.
const ATTEMPTS: usize = 8;
/// Deepest stack that is followed.
const MAX_FRAMES: usize = 128;
/// Bytes of a stack that are read at first; most have no more.
const WINDOW_BYTES: u64 = 4096;
/// A goroutine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub state: State,
    /// What it waits for, in the runtime's words: `chan receive`.
    pub waits_for: Option<String>,
    /// When it was first seen waiting, nanoseconds of the monotonic clock: the collector notes that, so that it waits for longer. `None` when it
    /// has not waited since before the last collection.
    pub waiting_since_ns: Option<u64>,
    /// The return address of the `go` statement that started it.
    pub created_at: VirtAddr,
    /// The first instruction of its function.
    pub start: VirtAddr,
    /// The number of the goroutine that started it (since Go 1.21).
    pub parent: Option<u64>,
    /// Its stack.
    pub stack: Range<VirtAddr>,
    /// Where the runtime describes it.
    pub address: VirtAddr,
    /// The first of its places in the queues of channels; 0 is none.
    pub waiter: VirtAddr,
    /// The lowest byte of how often it has stopped running.
    pub stops: u8,
    registers: Option<Registers>,
}

impl Goroutine {
    /// One that waits, with no stack to speak of.
    #[cfg(test)]
    pub(crate) fn sample(created_at: VirtAddr, since: Option<u64>, reason: Option<&str>) -> Self {
        Self {
            id: 1,
            state: State::Waiting,
            waits_for: reason.map(str::to_owned),
            waiting_since_ns: since,
            created_at,
            start: VirtAddr(1),
            parent: None,
            stack: VirtAddr(0)..VirtAddr(2048),
            address: VirtAddr(0),
            waiter: VirtAddr(0),
            stops: 0,
            registers: None,
        }
    }

    /// Bytes of its stack.
    pub fn stack_bytes(&self) -> u64 {
        self.stack.end.0.saturating_sub(self.stack.start.0)
    }

    /// The part of its stack that is in use; all of it while it runs.
    pub fn used_stack(&self) -> Range<VirtAddr> {
        let Range { start, end } = self.stack;
        let sp = self.registers.map_or(start.0, |registers| registers.sp);
        if (start.0..end.0).contains(&sp) { VirtAddr(sp)..end } else { start..end }
    }

    /// Its return addresses, innermost first; none while it runs.
    pub fn return_addresses(&self, memory: RemoteMemory) -> Result<Vec<VirtAddr>, GoError> {
        let Some(Registers { pc, sp, mut bp }) = self.registers else { return Ok(Vec::new()) };
        let mut found = vec![VirtAddr(pc)];
        let Range { start, end } = self.stack;
        if !(start.0..end.0).contains(&sp) {
            return Ok(found);
        }
        let mut window = vec![0; (end.0 - sp).min(WINDOW_BYTES) as usize];
        let read = memory.read_available(VirtAddr(sp), &mut window)?;
        window.truncate(read);
        while found.len() < MAX_FRAMES && bp >= sp && bp <= end.0.saturating_sub(16) {
            let at = bp - sp;
            let far;
            let (bytes, at) = if at + 16 <= window.len() as u64 {
                (&window, at)
            } else {
                let Ok(bytes) = memory.read(VirtAddr(bp), 16) else { break };
                far = bytes;
                (&far, 0)
            };
            let (next, back) = (u64_at(bytes, at).unwrap_or(0), u64_at(bytes, at + 8).unwrap_or(0));
            if back == 0 {
                break;
            }
            found.push(VirtAddr(back));
            // Frames lie one above the other: a chain that turns back is none.
            if next <= bp {
                break;
            }
            bp = next;
        }
        Ok(found)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registers {
    pc: u64,
    sp: u64,
    bp: u64,
}

/// All goroutines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goroutines {
    /// In the order that the runtime first made them.
    pub list: Vec<Goroutine>,
    /// Where the runtime describes them, and those that have ended.
    pub descriptions: Vec<VirtAddr>,
    /// There are more than outlive reads.
    pub cut: bool,
}

impl Goroutines {
    /// Reads them. Refused when they are not laid out as this version of Go has them. `candidates` are the variables of which one is the
    /// list.
    pub fn read(
        memory: RemoteMemory,
        candidates: &[VirtAddr],
        layout: &GoroutineLayout,
        reasons: &[String],
    ) -> Result<Self, GoError> {
        let (all, cut) = list(memory, candidates)?;
        let mut found = Self { list: Vec::new(), descriptions: Vec::new(), cut };
        let (mut strange, mut threads) = (0, Vec::new());
        for some in all.chunks(AT_ONCE) {
            let records = memory.read_records(some, layout.size as usize)?;
            for (at, record) in some.iter().zip(records.iter()) {
                match record.map_or(Seen::Strange, |record| look_at(*at, record, layout, reasons)) {
                    Seen::Ended => {}
                    Seen::Strange => strange += 1,
                    Seen::Alive(goroutine, thread) => {
                        threads.extend((thread.0 != 0).then_some((thread, *at)));
                        found.list.push(*goroutine);
                    }
                }
            }
        }
        if strange * 100 > all.len() {
            let reason = format!("{strange} of {} goroutines are not as expected", all.len());
            return Err(GoError::refused(reason));
        }
        check_threads(memory, &threads, layout)?;
        found.descriptions = all;
        Ok(found)
    }
}

/// What a record turned out to be.
enum Seen {
    /// A goroutine, and its thread, if it has one.
    Alive(Box<Goroutine>, VirtAddr),
    Ended,
    Strange,
}

fn look_at(address: VirtAddr, record: &[u8], layout: &GoroutineLayout, reasons: &[String]) -> Seen {
    let Some(status) = u32_at(record, layout.status) else { return Seen::Strange };
    if matches!(status & !SCAN, IDLE | DEAD | EXTRA) {
        return Seen::Ended;
    }
    let Some(state) = State::of(status) else { return Seen::Strange };
    let word = |offset| u64_at(record, offset).unwrap_or(0);
    let stack = VirtAddr(word(layout.stack + layout.stack_low))
        ..VirtAddr(word(layout.stack + layout.stack_high));
    let id = word(layout.goid);
    if stack.start >= stack.end || id == 0 {
        return Seen::Strange;
    }
    let waits = matches!(state, State::Waiting | State::Leaked);
    // Reason 0 is none.
    let reason = u8_at(record, layout.waitreason).filter(|number| waits && *number != 0);
    let since = word(layout.waitsince);
    let may_be_long = waits || state == State::Syscall;
    Seen::Alive(
        Box::new(Goroutine {
            id,
            state,
            waits_for: reason.and_then(|number| reasons.get(usize::from(number)).cloned()),
            waiting_since_ns: (may_be_long && since != 0).then_some(since),
            created_at: VirtAddr(word(layout.gopc)),
            start: VirtAddr(word(layout.startpc)),
            parent: layout.parent.map(word).filter(|parent| *parent != 0),
            address,
            waiter: VirtAddr(word(layout.waiting)),
            stops: u8_at(record, layout.stops).unwrap_or(0),
            registers: state.has_stack().then(|| registers(&word, layout)),
            stack,
        }),
        VirtAddr(word(layout.thread)),
    )
}

/// Where it will go on. In a system call, where it called it: C code may have used the other registers.
fn registers(word: &dyn Fn(u64) -> u64, layout: &GoroutineLayout) -> Registers {
    let saved = |offset| word(layout.sched + offset);
    let bp = saved(layout.saved_bp);
    if word(layout.syscallsp) == 0 {
        return Registers { pc: saved(layout.saved_pc), sp: saved(layout.saved_sp), bp };
    }
    let syscall_bp = layout.syscallbp.map_or(0, word);
    Registers {
        pc: word(layout.syscallpc),
        sp: word(layout.syscallsp),
        bp: if syscall_bp == 0 { bp } else { syscall_bp },
    }
}

/// A goroutine's thread says that it runs that goroutine. Those that changed meanwhile do not count.
fn check_threads(
    memory: RemoteMemory,
    threads: &[(VirtAddr, VirtAddr)],
    layout: &GoroutineLayout,
) -> Result<(), GoError> {
    let places: Vec<_> = threads
        .iter()
        .map(|(thread, _)| VirtAddr(thread.0.saturating_add(layout.thread_goroutine)))
        .collect();
    let records = memory.read_records(&places, 8)?;
    let says = |record: Option<&[u8]>| record.and_then(|record| u64_at(record, 0));
    let agree = threads.iter().zip(records.iter());
    let agree = agree.filter(|((_, own), record)| says(*record) == Some(own.0)).count();
    if threads.len() >= 8 && agree * 2 < threads.len() {
        let reason = format!("only {agree} of {} threads know their goroutine", threads.len());
        return Err(GoError::refused(reason));
    }
    Ok(())
}

/// The addresses of all goroutines, ended ones too, and whether there are more.
fn list(memory: RemoteMemory, candidates: &[VirtAddr]) -> Result<(Vec<VirtAddr>, bool), GoError> {
    for _ in 0..ATTEMPTS {
        // Besides the list, the runtime keeps the address of its first element in a variable of its own.
        let values: HashSet<u64> =
            candidates.iter().filter_map(|at| memory.read_u64(*at).ok()).collect();
        let headers =
            candidates.iter().flat_map(|at| [0, 8, 16].map(|back| at.0.wrapping_sub(back)));
        let header =
            headers.filter_map(|at| header(memory, at)).find(|h| values.contains(&h.first));
        let Some(header) = header else { continue };
        let length = header.length.min(MAX_GOROUTINES);
        if let Ok(bytes) = memory.read(VirtAddr(header.first), 8 * length as usize) {
            let words = bytes.chunks_exact(8).filter_map(|word| u64_at(word, 0));
            return Ok((words.map(VirtAddr).collect(), length < header.length));
        }
    }
    Err(GoError::refused(
        "the list of its goroutines is not where the code of its runtime refers to",
    ))
}

/// A slice of pointers.
struct Header {
    first: u64,
    length: u64,
}

fn header(memory: RemoteMemory, at: u64) -> Option<Header> {
    let bytes = memory.read(VirtAddr(at), 24).ok()?;
    let (first, length, capacity) = (u64_at(&bytes, 0)?, u64_at(&bytes, 8)?, u64_at(&bytes, 16)?);
    let is_sane = first != 0 && (1..=capacity).contains(&length) && capacity < 1 << 32;
    is_sane.then_some(Header { first, length })
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

    fn own() -> RemoteMemory {
        RemoteMemory::new(Pid(std::process::id()))
    }

    fn address<T>(of: &[T]) -> u64 {
        of.as_ptr() as u64
    }

    fn goroutine(id: u64, status: u32, stack: &[u64], registers: [u64; 3]) -> Box<[u8]> {
        let layout = layout().goroutine;
        let mut bytes = vec![0; layout.size as usize];
        let mut put = |at: u64, value: &[u8]| {
            bytes[at as usize..at as usize + value.len()].copy_from_slice(value);
        };
        put(layout.goid, &id.to_le_bytes());
        put(layout.status, &status.to_le_bytes());
        put(layout.stack, &address(stack).to_le_bytes());
        put(
            layout.stack + layout.stack_high,
            &(address(stack) + stack.len() as u64 * 8).to_le_bytes(),
        );
        let [pc, sp, bp] = registers;
        for (offset, value) in [(layout.saved_pc, pc), (layout.saved_sp, sp), (layout.saved_bp, bp)]
        {
            put(layout.sched + offset, &value.to_le_bytes());
        }
        put(layout.waitreason, &[14]);
        put(layout.waitsince, &77_u64.to_le_bytes());
        bytes.into()
    }

    fn read(goroutines: &[Box<[u8]>]) -> Result<Goroutines, GoError> {
        let addresses: Vec<u64> = goroutines.iter().map(|g| address(g)).collect();
        let count = addresses.len() as u64;
        let list = [address(&addresses), count, count, address(&addresses)];
        let at = |word: u64| VirtAddr(address(&list) + 8 * word);
        let layout = layout();
        // The code refers to the length and to the copy of the pointer.
        Goroutines::read(own(), &[at(1), at(3)], &layout.goroutine, &layout.wait_reasons)
    }

    #[test]
    fn the_living_are_listed_with_what_they_wait_for_and_their_stack() {
        let mut stack = [0_u64; 64];
        let base = address(&stack);
        // Frame pointers at words 4 and 40, then the end.
        (stack[4], stack[5]) = (base + 8 * 40, 0x2000);
        (stack[40], stack[41]) = (base + 8 * 50, 0x3000);
        let waiting = goroutine(7, 4 | SCAN, &stack, [0x1000, base + 8, base + 8 * 4]);
        let dead = goroutine(8, DEAD, &stack, [0; 3]);
        let running = goroutine(9, 2, &stack, [0x1000, base, base]);
        let found = read(&[waiting, dead, running]).expect("goroutines").list;
        let (first, second) = (&found[0], &found[1]);
        assert_eq!((found.len(), first.id, second.id), (2, 7, 9));
        assert_eq!(first.waits_for.as_deref(), Some(layout().wait_reasons[14].as_str()));
        assert_eq!((first.waiting_since_ns, second.waiting_since_ns), (Some(77), None));
        let stack = first.return_addresses(own()).expect("read");
        assert_eq!(stack, [VirtAddr(0x1000), VirtAddr(0x2000), VirtAddr(0x3000)]);
        assert!(second.return_addresses(own()).expect("none").is_empty());
    }

    #[test]
    fn chains_that_turn_back_or_leave_the_stack_end() {
        let mut stack = [0_u64; 8];
        let base = address(&stack);
        (stack[2], stack[3]) = (base + 16, 0x2000);
        for (registers, depth) in [
            ([1, base, base + 16], 2),
            ([1, base, u64::MAX - 8], 1),
            ([1, base + 8 * 100, base + 16], 1),
            ([1, base, base + 8 * 7], 1),
        ] {
            let found = read(&[goroutine(1, 4, &stack, registers)]).expect("one").list;
            assert_eq!(found[0].return_addresses(own()).expect("read").len(), depth);
        }
    }

    #[test]
    fn what_are_no_goroutines_are_refused() {
        let stack = [0_u64; 8];
        assert!(read(&[goroutine(1, 77, &stack, [0; 3])]).is_err());
        assert!(read(&[goroutine(0, 4, &stack, [0; 3])]).is_err());
        assert!(read(&[]).is_err());
        let layout = layout();
        let none = Goroutines::read(own(), &[VirtAddr(16)], &layout.goroutine, &[]);
        assert!(matches!(none, Err(GoError::Refused(_))));
    }
}
