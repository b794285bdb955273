//! What a hit costs on this machine: the kernel programs at work on functions of outlive itself.
//!
//! In: the kernel side, as targets will meet it. Out: [`Costs`]. A few milliseconds, before any target is touched.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use tracer_common::function::{FunctionInfo, Shape, traits};

use crate::collector::ring::Ring;
use crate::fault::Fault;
use crate::governor::Costs;
use crate::probes::attach::{Moment, Placed, release};
use crate::sys::own_calls::{
    allocate_like, bare_like, release_like, stepped_release_like, thread_cpu_time,
};
use crate::target::maps::parse_executable;
use crate::target::{FileOffset, Pid, VirtAddr};
use crate::trace::kernel::{Kernel, unusable};

/// Calls between two looks at the clock; what they tell fits in the smallest ring buffer.
const CALLS: u32 = 24;
/// Looks; the median counts.
const ROUNDS: usize = 40;
/// The least of so many medians counts: the machine may have been busy with something else.
const PASSES: u32 = 3;
/// A size that is always sampled; no mean is near it.
const LARGE_BYTES: usize = 1 << 40;

/// No trap into the kernel is cheaper, whatever was measured.
const LEAST_HIT_NS: f64 = 100.0;

/// Memory that is read between two calls, in steps of a cache line: what a hit throws out of the caches is part of its cost.
const WORK_BYTES: usize = 32 << 10;
const LINE_BYTES: usize = 64;

/// A function of outlive that is probed.
type Probed = extern "C" fn(usize) -> usize;

/// Calls and what is between them, timed.
struct Bench {
    memory: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self { memory: vec![1; WORK_BYTES] }
    }

    /// CPU time that the probe adds to one call, the mean of a few: beside calls of a function without a probe, one right after
    /// the other, so that a slow moment of the machine is in both.
    fn added_ns(&self, function: Probed, argument: &mut dyn FnMut() -> usize) -> f64 {
        let bare_ns = self.call_ns(bare_like, argument);
        self.call_ns(function, argument) - bare_ns
    }

    fn call_ns(&self, function: Probed, argument: &mut dyn FnMut() -> usize) -> f64 {
        let start = thread_cpu_time();
        for _ in 0..CALLS {
            black_box(function(black_box(argument())));
            let lines = self.memory.iter().step_by(LINE_BYTES);
            black_box(lines.fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
        }
        let spent: Duration = thread_cpu_time().saturating_sub(start);
        spent.as_nanos() as f64 / f64::from(CALLS)
    }
}

/// Measures them.
pub fn measure(kernel: &mut Kernel, ring: &mut Ring) -> Result<Costs, Fault> {
    let own = Pid(std::process::id());
    let bench = Bench::new();
    let stepped = FunctionInfo { traits: traits::SINGLE_STEPPED, ..FunctionInfo::default() };
    let functions: [(Moment, Shape, Probed, FunctionInfo); 3] = [
        (Moment::Allocation, Shape::Size, allocate_like, FunctionInfo::default()),
        (Moment::Release, Shape::Release, release_like, FunctionInfo::default()),
        (Moment::Release, Shape::Release, stepped_release_like, stepped),
    ];
    let mut placed = Vec::new();
    for (moment, shape, function, info) in functions {
        placed.push(Placed {
            name: "a function of outlive",
            moment,
            offset: file_offset(function)?,
            semaphore: None,
            row: kernel.add_function(FunctionInfo { shape: shape as u32, ..info })?,
        });
    }
    kernel.reserve(own)?;
    let links = kernel.attach_placed(Path::new("/proc/self/exe"), own, &placed)?;
    let passes = (0..PASSES).map(|_| Added::measure(&bench, kernel, ring, own));
    let least = passes.reduce(|least, added| Ok(least?.least(&added?)));
    kernel.forget(own);
    release(vec![links]);
    least.unwrap_or_else(|| Err(unusable("nothing is measured"))).map(|added| added.costs())
}

/// What probes add to a call, nanoseconds.
struct Added {
    /// To one that is not recorded.
    allocation: f64,
    /// To one that is, without the time that the kernel programs count as work.
    recorded_allocation: f64,
    release: f64,
    stepped_release: f64,
}

impl Added {
    /// The process is not admitted at the start, nor at the end.
    fn measure(
        bench: &Bench,
        kernel: &mut Kernel,
        ring: &mut Ring,
        own: Pid,
    ) -> Result<Self, Fault> {
        let allocation = median(|| bench.added_ns(allocate_like, &mut || 0));
        kernel.admit(own)?;
        let mut told = |function: Probed, argument: &mut dyn FnMut() -> usize| {
            let each_ns = bench.added_ns(function, argument);
            // What is told of this process is nothing to anybody: it only must not fill the ring buffer.
            ring.drain(usize::MAX, |_| {});
            each_ns
        };
        let mut addresses = addresses();
        let release = median(|| told(release_like, &mut addresses));
        let stepped_release = median(|| told(stepped_release_like, &mut addresses));
        let recorded_allocation = median(|| {
            let before_ns = kernel.hits(own).work_ns;
            let each_ns = told(allocate_like, &mut || LARGE_BYTES);
            each_ns - (kernel.hits(own).work_ns - before_ns) as f64 / f64::from(CALLS)
        });
        kernel.dismiss(own);
        Ok(Self { allocation, recorded_allocation, release, stepped_release })
    }

    fn least(&self, other: &Self) -> Self {
        Self {
            allocation: self.allocation.min(other.allocation),
            recorded_allocation: self.recorded_allocation.min(other.recorded_allocation),
            release: self.release.min(other.release),
            stepped_release: self.stepped_release.min(other.stepped_release),
        }
    }

    fn costs(&self) -> Costs {
        Costs {
            allocation_ns: self.allocation.max(LEAST_HIT_NS),
            release_ns: self.release.max(LEAST_HIT_NS),
            return_ns: (self.recorded_allocation - self.allocation).max(0.0),
            step_ns: (self.stepped_release - self.release).max(0.0),
        }
    }
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut rounds = [0.0; ROUNDS];
    rounds.fill_with(&mut measure);
    rounds.sort_unstable_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Ever other addresses, as a program frees: each is looked up in another place of the kernel's table of sampled blocks.
fn addresses() -> impl FnMut() -> usize {
    let mut address = 0_usize;
    move || {
        address = address.wrapping_add(0x9e37_79b9_7f40);
        address & 0x7fff_ffff_fff0
    }
}

/// Where a function of this program lies in its file.
fn file_offset(function: Probed) -> Result<FileOffset, Fault> {
    let address = VirtAddr(function as usize as u64);
    let maps = std::fs::read("/proc/self/maps").map_err(unusable)?;
    let mappings = parse_executable(&maps);
    let mapping = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address));
    let mapping = mapping.ok_or_else(|| unusable("outlive does not find its own code"))?;
    Ok(FileOffset(mapping.file_offset.0 + (address.0 - mapping.start.0)))
}
