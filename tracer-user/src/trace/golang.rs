//! The Go heap of a traced process: what its runtime had sampled before, and what its sampler tells since.
//!
//! In: a process, and the events of its hooks. Out: its sampled objects by call site, and names for its stacks. The probes come first and
//! then the heap is read, so that the two together miss nothing ([`GoBook`]).

mod beginning;

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use tracer_common::stack::{NO_STACK, StackEnd};

use self::beginning::Beginning;
use crate::collector::event::{Event, GoObject, Happening};
use crate::fault::Fault;
use crate::golang::{GoError, GoProcess, profiling::ForcedRate};
use crate::ledger::GoBook;
use crate::ledger::golang::SampledObject;
use crate::ledger::snapshot::{Filter, Snapshot};
use crate::probes::attach::Links;
use crate::report::Stack;
use crate::snapshot::frames;
use crate::sys::usage::monotonic_ns;
use crate::target::{Target, VirtAddr};
use crate::trace::kernel::Kernel;
use crate::units::human_size;

/// The mean bytes between samples where a program sets no other (`runtime.MemProfileRate`).
const DEFAULT_RATE: u64 = 512 << 10;

/// Whether outlive was there when a process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It was running.
    Unseen,
    /// outlive has started it.
    Seen,
}

/// Why the Go heap of a process is not followed.
#[derive(Debug, thiserror::Error)]
pub enum NotFollowed {
    /// There is none.
    #[error("it is no Go program")]
    NotGo,
    /// Its profiler is off.
    #[error(
        "its Go runtime does not sample allocations (runtime.MemProfileRate is 0): the linker turns that off in programs that never read the profile"
    )]
    ProfilerOff,
    /// It cannot be read.
    #[error("its Go heap cannot be followed: {0}")]
    Refused(GoError),
    /// The kernel does not let probes be attached.
    #[error("{}", .0.why)]
    NotAttached(Fault),
}

impl From<GoError> for NotFollowed {
    fn from(error: GoError) -> Self {
        if matches!(error, GoError::NotGo) { Self::NotGo } else { Self::Refused(error) }
    }
}

/// The Go heap of one process.
pub struct GoHeap {
    process: GoProcess,
    book: GoBook,
    /// Mean bytes between the runtime's samples.
    rate: u64,
    links: Option<Links>,
    /// Identifiers of stacks by the runtime's record of the call site.
    ids: HashMap<VirtAddr, u64, FixedState>,
    stacks: HashMap<u64, Vec<VirtAddr>, FixedState>,
    /// The rate was set by this tracer, who sets it back.
    forced: Option<ForcedRate>,
    /// Processors of the runtime whose first sample has come, since the rate was set.
    started_processors: HashSet<u64>,
    /// Samples that the change of the rate forced: they stand for nothing.
    unfair: HashSet<VirtAddr>,
    /// The latest garbage collection that an event was told of.
    last_cycle: u32,
    /// Samples whose call site could not be read any more.
    without_stack: u64,
    /// The program has only just begun.
    beginning: Option<Beginning>,
    notices: Vec<String>,
}

impl GoHeap {
    /// Attaches to the runtime, and takes over what it had sampled. With `rate` a profiler that is off is turned on.
    pub fn follow(
        target: &Target,
        rate: Option<u64>,
        start: Start,
        kernel: &mut Kernel,
    ) -> Result<Self, NotFollowed> {
        let process = GoProcess::open(target)?;
        let hooks = process.hooks()?;
        let runtime = process.runtime(&hooks)?;
        let own_rate = process.sampling_rate()?;
        let is_new = start == Start::Seen && process.has_no_heap()?;
        let (sampling_rate, must_force) = match (own_rate, rate) {
            // Whether there is a sampler is not decided yet.
            (0, _) if is_new => (DEFAULT_RATE, false),
            (0, None) => return Err(NotFollowed::ProfilerOff),
            (0, Some(rate)) => (rate, true),
            (own, _) => (own, false),
        };
        // Whether the heap can be read is known before anything is attached.
        if !is_new {
            process.specials()?;
        }
        let links = kernel.attach_go(&process.module, runtime, &hooks, target.pid);
        let links = links.map_err(NotFollowed::NotAttached)?;
        let mut heap = Self {
            book: GoBook::new(sampling_rate, monotonic_ns()),
            rate: sampling_rate,
            links: Some(links),
            ids: HashMap::default(),
            stacks: HashMap::default(),
            forced: None,
            started_processors: HashSet::new(),
            unfair: HashSet::new(),
            last_cycle: 0,
            without_stack: 0,
            beginning: is_new.then(|| Beginning::new(rate)),
            notices: Vec::new(),
            process,
        };
        if hooks.sampled.single_stepped {
            heap.notices.push(
                "the kernel single-steps the instruction where samples are seen (Go before 1.21): a few microseconds for each, which is not often"
                    .to_owned(),
            );
        }
        if !is_new {
            heap.inherit()?;
        }
        if must_force {
            heap.force()?;
        }
        Ok(heap)
    }

    /// Turns the profiler on.
    fn force(&mut self) -> Result<(), GoError> {
        self.forced = Some(self.process.force_rate(self.rate)?);
        self.notices.push(format!(
            "outlive has turned the runtime's profiler on, one sample in {}: what was allocated before is not known; it is turned off again when tracing ends",
            human_size(self.rate as f64)
        ));
        Ok(())
    }

    /// What it is, for people.
    pub fn name(&self) -> String {
        format!("{} runtime", self.process.version)
    }

    /// The version of Go.
    pub fn version(&self) -> &str {
        &self.process.version.text
    }

    /// Mean bytes between samples; 0 when everything is sampled.
    pub fn mean_bytes(&self) -> u64 {
        if self.rate <= 1 { 0 } else { self.rate }
    }

    /// The window starts then.
    pub fn start_at(&mut self, start_ns: u64) {
        self.book.start_at(start_ns);
    }

    /// Applies an event of the process.
    pub fn apply(&mut self, event: &Event) {
        match &event.what {
            Happening::GoSampled(object) => self.sampled(object, event.at_ns),
            Happening::GoFreed(address) if !self.unfair.remove(address) => {
                self.book.freed(*address, event.at_ns);
            }
            Happening::Executed => self.book.executed(),
            _ => {}
        }
    }

    /// After events were lost: what the heap itself says is right.
    pub fn resynchronise(&mut self) {
        match self.read_objects() {
            Ok((objects, cycle)) => self.book.resynchronise(&objects, cycle, monotonic_ns()),
            Err(error) => tracing::debug!("the heap cannot be read anew: {error}"),
        }
    }

    /// What lives at `now_ns`.
    pub fn snapshot(&self, now_ns: u64, filter: &Filter) -> Snapshot {
        // A process that has ended does not tell any more.
        let cycle = self.process.cycle().unwrap_or(self.last_cycle);
        self.book.snapshot(now_ns, cycle, filter)
    }

    /// The stack with an identifier, named; `None` when it is not one of this heap.
    pub fn stack(&self, id: u64) -> Option<Stack> {
        let stack = self.stacks.get(&id)?;
        let named = frames::name(&self.process, stack);
        let end = if named.end == "root" { StackEnd::Root } else { StackEnd::TooDeep };
        Some(Stack {
            frames: named.frames,
            end: Some(end),
            own_frames: Some(named.runtime_frames),
            type_name: named.type_name,
        })
    }

    /// Stacks that the runtime cut.
    pub fn truncated_stacks(&self) -> u64 {
        self.stacks.values().filter(|stack| frames::is_cut(&self.process, stack)).count() as u64
    }

    /// What a reader must know, in words.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = self.notices.clone();
        let is_off = self.beginning.as_ref().is_some_and(Beginning::is_off);
        notices.extend(self.beginning.as_ref().and_then(Beginning::notice));
        match self.process.sampling_rate() {
            Ok(rate) if rate != self.rate && self.links.is_some() && !is_off => notices.push(format!(
                "the program has changed runtime.MemProfileRate from {} to {rate} meanwhile: what was sampled since counts wrong",
                self.rate
            )),
            _ => {}
        }
        if self.without_stack > 0 {
            notices.push(format!(
                "{} samples have no stack: the runtime's record of their call site could not be read, as when the process ends at once",
                self.without_stack
            ));
        }
        notices.extend(self.process.notices());
        notices
    }

    /// Leaves the process as it was, and hands out the links, to be released.
    pub fn detach(&mut self) -> Option<Links> {
        self.forced = None;
        self.links.take()
    }

    fn sampled(&mut self, object: &GoObject, at_ns: u64) {
        let is_forced = self.forced.is_some() && self.started_processors.insert(object.processor);
        if is_forced {
            self.unfair.insert(object.address);
            return;
        }
        self.look_at_sample();
        let stack_id = self.stack_id(object.bucket);
        let GoObject { address, size_bytes, cycle, .. } = *object;
        self.last_cycle = self.last_cycle.max(cycle);
        self.book.sampled(&SampledObject { address, size_bytes, stack_id }, at_ns, cycle);
    }

    fn inherit(&mut self) -> Result<(), GoError> {
        for bucket in self.process.buckets()?.list {
            self.keep(bucket.address, bucket.stack);
        }
        if self.beginning.is_some() && self.process.has_no_heap()? {
            return Ok(());
        }
        let (objects, cycle) = self.read_objects()?;
        self.book.inherit(&objects, cycle, monotonic_ns());
        Ok(())
    }

    fn read_objects(&mut self) -> Result<(Vec<SampledObject>, u32), GoError> {
        let specials = self.process.specials()?;
        if specials.cut {
            self.notices.push(
                "there are more sampled objects than outlive reads: some from before tracing are missing"
                    .to_owned(),
            );
        }
        let mut objects = Vec::new();
        for object in &specials.objects {
            if self.unfair.contains(&object.address) {
                continue;
            }
            let stack_id = self.stack_id(object.bucket);
            objects.push(SampledObject {
                address: object.address,
                size_bytes: object.bytes,
                stack_id,
            });
        }
        Ok((objects, self.process.cycle()?))
    }

    /// The identifier of a call site's stack. What the runtime says of a call site never changes.
    fn stack_id(&mut self, bucket: VirtAddr) -> u64 {
        if let Some(id) = self.ids.get(&bucket) {
            return *id;
        }
        if let Ok(Some(found)) = self.process.bucket(bucket) {
            return self.keep(bucket, found.stack);
        }
        self.without_stack += 1;
        NO_STACK
    }

    fn keep(&mut self, bucket: VirtAddr, stack: Vec<VirtAddr>) -> u64 {
        let id =
            FixedState::with_seed(bucket_seed(&self.process)).hash_one(&stack).max(NO_STACK + 1);
        self.ids.insert(bucket, id);
        self.stacks.entry(id).or_insert(stack);
        id
    }
}

/// Processes of the same program at other addresses have other stacks.
fn bucket_seed(process: &GoProcess) -> u64 {
    process.bias()
}
