//! The runtime's heap profile: for each call site, what was allocated and freed of the objects that it sampled.
//!
//! In: the list of buckets in memory. Out: [`Buckets`], as `runtime.MemProfile` would publish them now and as they really are.
//!
//! The runtime holds allocations and frees back until the collection cycle that they belong to is swept, so that an object that is garbage
//! already does not look alive: the published profile is the heap at the end of the last finished cycle.

use std::collections::HashSet;
use std::ops::Range;

use super::GoError;
use super::bytes::u64_at;
use super::layout::BucketLayout;
use crate::target::remote_memory::ReadAhead;
use crate::target::{RemoteMemory, VirtAddr};

/// Parts of the profile that are not published yet.
const FUTURE_CYCLES: u64 = 3;
/// The kind of bucket that the heap profile has.
const MEMORY_PROFILE: u64 = 1;
/// Deepest stack that is believed; the runtime's own limit is 128, or 1024 when the program asks for more.
const MAX_STACK: u64 = 1024;
/// Largest object that is believed.
const MAX_OBJECT_BYTES: u64 = 1 << 47;
/// Most buckets that are read. The runtime's hash table has 179,999 places.
const MAX_BUCKETS: usize = 1_000_000;
/// Most stack frames that are kept of all buckets.
const MAX_FRAMES: u64 = 32_000_000;
/// How often the profile is read anew when a cycle ends meanwhile.
const ATTEMPTS: usize = 5;

/// Sampled objects, not scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects allocated.
    pub allocs: u64,
    /// Objects freed.
    pub frees: u64,
    /// Bytes of `allocs`.
    pub alloc_bytes: u64,
    /// Bytes of `frees`.
    pub free_bytes: u64,
}

impl Counts {
    /// Objects in use; none when more were freed than allocated, which cannot be.
    pub fn in_use(self) -> u64 {
        self.allocs.saturating_sub(self.frees)
    }

    /// Bytes in use.
    pub fn in_use_bytes(self) -> u64 {
        self.alloc_bytes.saturating_sub(self.free_bytes)
    }

    fn plus(self, other: Self) -> Self {
        // The runtime's own sums wrap, and one of a part may be below zero.
        Self {
            allocs: self.allocs.wrapping_add(other.allocs),
            frees: self.frees.wrapping_add(other.frees),
            alloc_bytes: self.alloc_bytes.wrapping_add(other.alloc_bytes),
            free_bytes: self.free_bytes.wrapping_add(other.free_bytes),
        }
    }
}

/// A call site and size of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Where it is: the runtime's own name for the site, valid as long as the process lives.
    pub address: VirtAddr,
    /// Size of each object: the whole slot that it takes.
    pub object_bytes: u64,
    /// Return addresses, innermost first. Inlined calls have addresses of their own.
    pub stack: Vec<VirtAddr>,
    active: Counts,
    future: [Counts; FUTURE_CYCLES as usize],
}

impl Bucket {
    /// A bucket with what is published, and what is not yet in the part that is next but one.
    #[cfg(test)]
    pub(crate) fn sample(
        address: u64,
        object_bytes: u64,
        stack: &[u64],
        published: [u64; 2],
        later: u64,
    ) -> Self {
        let counts = |allocs: u64, frees: u64| Counts {
            allocs,
            frees,
            alloc_bytes: allocs * object_bytes,
            free_bytes: frees * object_bytes,
        };
        Self {
            address: VirtAddr(address),
            object_bytes,
            stack: stack.iter().copied().map(VirtAddr).collect(),
            active: counts(published[0], published[1]),
            future: [Counts::default(), counts(later, 0), Counts::default()],
        }
    }

    /// What the runtime's samples say now, garbage that is not swept yet included.
    pub fn now(&self) -> Counts {
        self.future.iter().fold(self.active, |sum, part| sum.plus(*part))
    }
}

/// The heap profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Newest site first.
    pub list: Vec<Bucket>,
    /// The profile's cycle: it says which part is published next.
    pub cycle: u32,
    /// A cycle ended each time that the profile was read: its parts may be of two cycles.
    pub torn: bool,
    /// There are more than outlive reads.
    pub cut: bool,
}

/// Where the profile is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfilePlace {
    /// `runtime.mbuckets`.
    pub head: VirtAddr,
    /// `runtime.mProfCycle`.
    pub cycle: VirtAddr,
}

impl Buckets {
    /// Reads the profile. Refused when it is not laid out as this version of Go has it; `text` is where return addresses lie.
    pub fn read(
        memory: RemoteMemory,
        place: ProfilePlace,
        layout: &BucketLayout,
        text: &Range<VirtAddr>,
    ) -> Result<Self, GoError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let cycle = memory.read_u32(place.cycle)?;
            let head = VirtAddr(memory.read_u64(place.head)?);
            let (list, cut) = read_list(memory, head, layout)?;
            let torn = memory.read_u32(place.cycle)? != cycle;
            if !torn || attempt == ATTEMPTS {
                check_stacks(&list, text)?;
                // The lowest bit says whether the cycle's part was published already.
                return Ok(Self { list, cycle: cycle >> 1, torn, cut });
            }
        }
    }

    /// What `runtime.MemProfile` would say now, in the order of the list.
    pub fn published(&self) -> Vec<Counts> {
        let next = (u64::from(self.cycle) % FUTURE_CYCLES) as usize;
        let published: Vec<_> =
            self.list.iter().map(|bucket| bucket.active.plus(bucket.future[next])).collect();
        // Before the first collection nothing is published, and all that is there is told.
        if published.iter().all(|counts| counts.allocs == 0 && counts.frees == 0) {
            return self.list.iter().map(Bucket::now).collect();
        }
        published
    }
}

/// Objects and bytes that samples stand for, as pprof scales them: `rate` is the mean of bytes between samples.
pub fn scale(count: u64, bytes: u64, rate: u64) -> (u64, u64) {
    if count == 0 || bytes == 0 {
        return (0, 0);
    }
    if rate <= 1 {
        return (count, bytes);
    }
    let mean = bytes as f64 / count as f64;
    let scale = 1.0 / (1.0 - (-mean / rate as f64).exp());
    ((count as f64 * scale) as u64, (bytes as f64 * scale) as u64)
}

/// Reads the bucket at an address; `None` when there is none.
pub(crate) fn read_one(
    memory: RemoteMemory,
    at: VirtAddr,
    layout: &BucketLayout,
) -> Result<Option<Bucket>, GoError> {
    let bucket = read_bucket(&mut ReadAhead::new(memory), at, layout)?;
    Ok(bucket.map(|(bucket, _)| bucket))
}

fn read_list(
    memory: RemoteMemory,
    head: VirtAddr,
    layout: &BucketLayout,
) -> Result<(Vec<Bucket>, bool), GoError> {
    let mut ahead = ReadAhead::new(memory);
    let mut list = Vec::new();
    let mut seen = HashSet::new();
    let mut frames = 0;
    let mut at = head;
    while at.0 != 0 {
        if list.len() == MAX_BUCKETS || frames > MAX_FRAMES {
            return Ok((list, true));
        }
        if !seen.insert(at) {
            return Err(GoError::refused("the list of its heap profile runs in a circle"));
        }
        let Some((bucket, next)) = read_bucket(&mut ahead, at, layout)? else {
            let reason = format!("entry {} of its heap profile is not as expected", list.len() + 1);
            return Err(GoError::refused(reason));
        };
        frames += bucket.stack.len() as u64;
        list.push(bucket);
        at = next;
    }
    Ok((list, false))
}

/// A bucket and the next one; `None` when it is none.
fn read_bucket(
    ahead: &mut ReadAhead,
    at: VirtAddr,
    layout: &BucketLayout,
) -> Result<Option<(Bucket, VirtAddr)>, GoError> {
    let Some(head) = ahead.read(at, layout.size as usize)? else { return Ok(None) };
    let word = |offset| u64_at(&head, offset).unwrap_or(u64::MAX);
    let (depth, object_bytes) = (word(layout.nstk), word(layout.object_size));
    if word(layout.typ) != MEMORY_PROFILE || depth > MAX_STACK || object_bytes > MAX_OBJECT_BYTES {
        return Ok(None);
    }
    let stack_bytes = 8 * depth;
    let size = stack_bytes + (1 + FUTURE_CYCLES) * layout.cycle_size;
    let Some(tail_at) = at.0.checked_add(layout.size) else { return Ok(None) };
    let Some(tail) = ahead.read(VirtAddr(tail_at), size as usize)? else { return Ok(None) };
    let part =
        |number: u64| counts(&tail, stack_bytes + number * layout.cycle_size, object_bytes, layout);
    let bucket = Bucket {
        address: at,
        object_bytes,
        stack: (0..depth).filter_map(|n| u64_at(&tail, 8 * n)).map(VirtAddr).collect(),
        active: part(0),
        future: [part(1), part(2), part(3)],
    };
    Ok(Some((bucket, VirtAddr(word(layout.allnext)))))
}

fn counts(bytes: &[u8], at: u64, object_bytes: u64, layout: &BucketLayout) -> Counts {
    let word = |offset: u64| u64_at(bytes, at + offset).unwrap_or(0);
    let (allocs, frees) = (word(layout.allocs), word(layout.frees));
    let in_bytes = |counted: Option<u64>, objects: u64| {
        counted.map_or_else(|| objects.wrapping_mul(object_bytes), word)
    };
    Counts {
        allocs,
        frees,
        alloc_bytes: in_bytes(layout.alloc_bytes, allocs),
        free_bytes: in_bytes(layout.free_bytes, frees),
    }
}

/// Return addresses lie in Go code, apart from those in plugins.
fn check_stacks(list: &[Bucket], text: &Range<VirtAddr>) -> Result<(), GoError> {
    let all: usize = list.iter().map(|bucket| bucket.stack.len()).sum();
    let addresses = list.iter().flat_map(|bucket| &bucket.stack);
    let inside = addresses.filter(|address| text.contains(address)).count();
    if inside * 2 < all {
        let reason =
            format!("only {inside} of {all} addresses in its heap profile are in its code");
        return Err(GoError::refused(reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::layout::Layout;
    use crate::golang::version::GoVersion;
    use crate::target::Pid;

    fn layout(version: &str) -> BucketLayout {
        Layout::of(&GoVersion::parse(version).expect("a version")).expect("known").bucket
    }

    fn own() -> RemoteMemory {
        RemoteMemory::new(Pid(std::process::id()))
    }

    /// A bucket as Go 1.24 lays it out, in this process's own memory.
    fn bucket(next: u64, object_bytes: u64, stack: &[u64], parts: [[u64; 2]; 4]) -> Box<[u64]> {
        let mut words = vec![0, next, MEMORY_PROFILE, 0, object_bytes, stack.len() as u64];
        words.extend(stack);
        for [allocs, frees] in parts {
            words.extend([allocs, frees, allocs * object_bytes, frees * object_bytes]);
        }
        words.into()
    }

    fn address(of: &[u64]) -> u64 {
        of.as_ptr() as u64
    }

    fn read(first: u64, cycle: u32) -> Result<Buckets, GoError> {
        let (head, cycle) = ([first], [cycle << 1]);
        let place =
            ProfilePlace { head: VirtAddr(address(&head)), cycle: VirtAddr(cycle.as_ptr() as u64) };
        Buckets::read(own(), place, &layout("go1.24"), &(VirtAddr(0x1000)..VirtAddr(0x2000)))
    }

    #[test]
    fn the_published_profile_has_the_part_that_is_next() {
        let last = bucket(0, 64, &[0x1010], [[5, 1], [1, 0], [0, 2], [7, 0]]);
        let first = bucket(address(&last), 32, &[0x1020, 0x1030], [[0, 0]; 4]);
        let buckets = read(address(&first), 4).expect("a profile");
        let published = buckets.published();
        assert_eq!((published[1].in_use(), published[1].in_use_bytes()), (2, 128));
        let now = buckets.list[1].now();
        assert_eq!((now.allocs, now.frees, now.in_use_bytes()), (13, 3, 640));
        assert_eq!(buckets.list[0].stack, [VirtAddr(0x1020), VirtAddr(0x1030)]);
    }

    #[test]
    fn before_the_first_collection_all_is_told() {
        let only = bucket(0, 64, &[0x1010], [[0, 0], [3, 0], [0, 0], [2, 0]]);
        assert_eq!(read(address(&only), 4).expect("a profile").published()[0].in_use(), 5);
        assert!(read(0, 1).expect("no bucket").list.is_empty());
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let mut cyclic = bucket(0, 8, &[0x1010], [[1, 0]; 4]);
        cyclic[1] = address(&cyclic);
        let mut deep = bucket(0, 8, &[0x1010], [[1, 0]; 4]);
        deep[5] = u64::MAX;
        let other_kind = {
            let mut words = bucket(0, 8, &[0x1010], [[1, 0]; 4]);
            words[2] = 2;
            words
        };
        let elsewhere = bucket(0, 8, &[0x9000, 0x9000, 0x1010], [[1, 0]; 4]);
        let astray = bucket(16, 8, &[0x1010], [[1, 0]; 4]);
        for words in [cyclic, deep, other_kind, elsewhere, astray] {
            assert!(matches!(read(address(&words), 1), Err(GoError::Refused(_))), "{words:?}");
        }
        assert!(read(16, 1).is_err());
    }

    #[test]
    fn scaling_is_pprofs() {
        // runtime/pprof's scaleHeapSample, in Go, gives these.
        assert_eq!(scale(1, 64, 512 << 10), (8192, 524_320));
        assert_eq!(scale(3, 3 << 20, 512 << 10), (3, 3_638_089));
        assert_eq!(
            (scale(7, 70, 1), scale(0, 5, 100), scale(5, 0, 100)),
            ((7, 70), (0, 0), (0, 0))
        );
        assert_eq!(scale(u64::MAX, u64::MAX, 2).0, u64::MAX);
    }

    #[test]
    fn since_go_1_27_bytes_follow_from_the_number() {
        let bytes: Vec<u8> = [4_u64, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
        let counts = counts(&bytes, 0, 48, &layout("go1.27"));
        assert_eq!((counts.in_use(), counts.in_use_bytes()), (3, 144));
    }
}
