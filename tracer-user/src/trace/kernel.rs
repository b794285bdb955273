//! The kernel side of one tracing run: programs, maps, links.
//!
//! In: targets and their modules. Out: links held, and what the kernel knows.

use std::collections::{BTreeSet, HashMap as Table};
use std::path::Path;

use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{RawTracePoint, TracePoint};
use tracer_common::function::FunctionInfo;
use tracer_common::golang::{GoAllocated, GoRuntime, GoSweep};
use tracer_common::limits::STACK_COPIES;
use tracer_common::live::LiveBlock;
use tracer_common::process::{Hits, ProcessControl};
use tracer_common::target::TargetRow;
use tracer_common::unwind::Rule;

use crate::allocators::named::NamedFunction;
use crate::allocators::usdt::Provider;
use crate::collector::counts::Counts;
use crate::collector::ring::Ring;
use crate::fault::{Fault, Status};
use crate::golang::hooks::{HookPlace, RuntimeHooks};
use crate::probes::attach::{Links, Moment, Placed, Programs};
use crate::probes::features::{LinkKind, best_link_kind};
use crate::probes::mapping_calls;
use crate::probes::object::{KernelObject, KernelOptions};
use crate::sys::pod::{LiveEntry, LiveEntryKey, TargetEntry};
use crate::target::{
    AddressSpace, CodeLocation, ElfAddr, FileOffset, Module, ModuleId, ModuleTable, Pid, VirtAddr,
};
use crate::trace::hooks::Source;
use crate::trace::options::TraceOptions;
use crate::trace::places::Places;
use crate::trace::planning::{PlannedAllocator, PlannedModule, PlannedSampler, Tables};
use crate::trace::progress::PreparingListener;
use crate::trace::unwinding::UnwindTables;

/// Programs, maps, links.
pub struct Kernel {
    object: KernelObject,
    programs: Programs,
    /// How probes are attached.
    pub link_kind: LinkKind,
    tables: Tables,
    targets: HashMap<MapData, u32, TargetEntry>,
    live: HashMap<MapData, LiveEntryKey, LiveEntry>,
    counters: PerCpuArray<MapData, u64>,
    planned: Table<ModuleId, PlannedModule>,
    named: Vec<NamedFunction>,
    hears_samplers: bool,
    places: Places,
    log: Box<dyn FnMut()>,
    unwind: UnwindTables,
    /// Of the code that was mapped last; 0 stands for code that is not known.
    code_version: u16,
}

impl Kernel {
    /// Creates maps, loads programs, and attaches those that watch processes.
    pub fn open(options: &TraceOptions) -> Result<(Self, Ring), Fault> {
        require_initial_pid_namespace()?;
        let kernel_options = KernelOptions {
            sample_mean_bytes: options.selection.mean_bytes(),
            ring_bytes: options.ring_bytes,
            live_capacity: options.live_capacity,
        };
        let link_kind = choose_link_kind(options.force_link)?;
        let mut object = KernelObject::open(&kernel_options)?;
        let programs = Programs::load(&object, link_kind)?;
        watch_processes(&mut object, options.follow_fork)?;
        if options.mappings {
            mapping_calls::load(&mut object)?;
            mapping_calls::attach(&mut object)?;
        }
        let buffer = RingBuf::try_from(object.take_map("EVENTS")?).map_err(unusable)?;
        let ring = Ring::new(buffer).map_err(unusable)?;
        let kernel = Self {
            tables: Tables::open(&mut object)?,
            targets: HashMap::try_from(object.take_map("TARGETS")?).map_err(unusable)?,
            live: HashMap::try_from(object.take_map("LIVE")?).map_err(unusable)?,
            counters: PerCpuArray::try_from(object.take_map("COUNTERS_BY_CPU")?)
                .map_err(unusable)?,
            log: object.take_log()?,
            places: Places::open(&mut object)?,
            unwind: UnwindTables::open(&mut object)?,
            code_version: 0,
            object,
            programs,
            link_kind,
            planned: Table::new(),
            named: options.named_functions.clone(),
            hears_samplers: options.hears_samplers,
        };
        Ok((kernel, ring))
    }

    /// Gives a process its row in the tables: its probes run, and nothing is recorded.
    pub fn reserve(&mut self, pid: Pid) -> Result<(), Fault> {
        self.places.admit(pid).map(|_| ())
    }

    /// Lets programs record what this process does.
    pub fn admit(&mut self, pid: Pid) -> Result<(), Fault> {
        let row = TargetRow { process: self.places.admit(pid)?, ..TargetRow::default() };
        self.targets.insert(pid.0, TargetEntry(row), 0).map_err(unusable)
    }

    /// How often the probes of a process ran.
    pub fn hits(&self, pid: Pid) -> Hits {
        self.places.hits(pid)
    }

    /// Tells the probes of a process how to work.
    pub fn control(&mut self, pid: Pid, control: ProcessControl) -> Result<(), Fault> {
        self.places.control(pid, control)
    }

    /// Ends recording of a process. What is counted of it, and its sampled blocks, stay to be read.
    pub fn dismiss(&mut self, pid: Pid) {
        if let Err(error) = self.targets.remove(&pid.0) {
            tracing::debug!("{pid} was not admitted: {error}");
        }
        self.unwind.forget(pid);
    }

    /// Forgets a dismissed process altogether.
    pub fn forget(&mut self, pid: Pid) {
        self.forget_live(pid);
        self.places.forget(pid);
    }

    /// Has it told how far unwind tables are.
    pub fn tell_preparing(&mut self, listener: PreparingListener) {
        self.unwind.listener = Some(listener);
    }

    /// Makes the stacks of an admitted process walkable as it is mapped now; false when some of its code did not find
    /// room.
    pub fn map_code(
        &mut self,
        pid: Pid,
        space: &AddressSpace,
        modules: &ModuleTable,
    ) -> Result<bool, Fault> {
        let complete = self.unwind.map_process(pid, space, modules)?;
        self.code_version = self.code_version.checked_add(1).unwrap_or(1);
        let row = TargetRow {
            code_version: u32::from(self.code_version),
            stack_copies_left: STACK_COPIES,
            process: self.places.of(pid),
        };
        self.targets.insert(pid.0, TargetEntry(row), 0).map_err(unusable)?;
        Ok(complete)
    }

    /// Where a frame lies; an address of its process when it is in no file.
    pub fn locate(&self, frame: u64) -> CodeLocation {
        self.unwind.locate(frame)
    }

    /// The identifier of a stack through these places.
    pub fn identify(&self, locations: &[CodeLocation], pid: Pid) -> u64 {
        self.unwind.identify(locations, pid)
    }

    /// How to find the caller from an address in a module.
    pub fn rule_at(&self, module: ModuleId, address: ElfAddr) -> Option<Rule> {
        self.unwind.rule_at(module, address)
    }

    /// Plans a module, once.
    pub fn plan(&mut self, id: ModuleId, module: &Module) -> Result<&PlannedModule, Fault> {
        use std::collections::hash_map::Entry;
        match self.planned.entry(id) {
            Entry::Occupied(planned) => Ok(planned.into_mut()),
            Entry::Vacant(vacant) => Ok(vacant.insert(self.tables.plan(module, &self.named)?)),
        }
    }

    /// Functions that the user named and that none of these modules has.
    pub fn missing_functions(&self, modules: &BTreeSet<ModuleId>) -> Vec<&str> {
        let planned = modules.iter().filter_map(|id| self.planned.get(id)?.allocator.as_ref());
        let found: Vec<&str> = planned.flat_map(PlannedAllocator::functions).collect();
        let names = self.named.iter().map(|function| function.name.as_str());
        names.filter(|name| !found.contains(name)).collect()
    }

    /// Attaches to the sampler of a Go runtime in one process.
    pub fn attach_go(
        &mut self,
        module: &Module,
        runtime: GoRuntime,
        hooks: &RuntimeHooks,
        pid: Pid,
    ) -> Result<Links, Fault> {
        let path = module.openable_path().ok_or_else(|| unusable("its file is not open"))?;
        let row = self.tables.add_runtime(runtime)?;
        let placed = |name, moment, place: &HookPlace| Placed {
            name,
            moment,
            offset: place.offset,
            semaphore: None,
            row,
        };
        let both = [
            placed("runtime.freeSpecial", Moment::GoFreed, &hooks.freed),
            placed("runtime.setprofilebucket", Moment::GoSampled, &hooks.sampled),
        ];
        self.attach_placed(&path, pid, &both)
    }

    /// Attaches to where a Go runtime has allocated, and to where it sweeps, in one process.
    pub fn attach_go_exact(
        &mut self,
        module: &Module,
        (sweep_offset, sweep): (FileOffset, GoSweep),
        allocated: &[(FileOffset, GoAllocated)],
        pid: Pid,
    ) -> Result<Links, Fault> {
        let path = module.openable_path().ok_or_else(|| unusable("its file is not open"))?;
        let mut placed = vec![Placed {
            name: "runtime.(*sweepLocked).sweep",
            moment: Moment::GoSwept,
            offset: sweep_offset,
            semaphore: None,
            row: self.tables.add_go_sweep(sweep)?,
        }];
        for (offset, place) in allocated {
            placed.push(Placed {
                name: "an allocating function of the Go runtime",
                moment: Moment::GoAllocated,
                offset: *offset,
                semaphore: None,
                row: self.tables.add_go_exit(*place)?,
            });
        }
        self.attach_placed(&path, pid, &placed)
    }

    /// The sampler of these planned modules that is to be heard, if one is wanted.
    pub fn best_provider(&self, modules: &BTreeSet<ModuleId>) -> Option<Provider> {
        let planned = modules.iter().filter_map(|id| self.planned.get(id));
        let samplers = planned.flat_map(|module| &module.samplers);
        samplers.map(|sampler| sampler.provider).min().filter(|_| self.hears_samplers)
    }

    /// Attaches to what a planned module has from this source in one process; `None` when it has nothing.
    pub fn attach(
        &mut self,
        id: ModuleId,
        module: &Module,
        source: Source,
        pid: Pid,
    ) -> Result<Option<Links>, Fault> {
        let Some(planned) = self.planned.get(&id) else { return Ok(None) };
        let placed = match source {
            Source::Allocators => planned.allocator.as_ref().map(PlannedAllocator::placed),
            Source::Sampler(provider) => planned.sampler(provider).map(PlannedSampler::placed),
        };
        let (Some(placed), Some(path)) = (placed, module.openable_path()) else { return Ok(None) };
        let process = self.places.of(pid);
        self.programs.attach(&self.object, &path, (pid, process), &placed).map(Some)
    }

    /// Attaches to these places of a file in a process that has its row in the tables.
    pub fn attach_placed(
        &mut self,
        path: &Path,
        pid: Pid,
        placed: &[Placed<'_>],
    ) -> Result<Links, Fault> {
        self.programs.attach(&self.object, path, (pid, self.places.of(pid)), placed)
    }

    /// Explains a function that is in no module. Gives its row.
    pub fn add_function(&mut self, info: FunctionInfo) -> Result<u32, Fault> {
        self.tables.add_function(info)
    }

    /// Logs what the kernel programs have said since.
    pub fn flush_log(&mut self) {
        (self.log)();
    }

    /// The kernel's counters.
    pub fn counts(&self) -> Counts {
        Counts::read(&self.counters)
    }

    /// The sampled blocks of a process that the kernel follows.
    pub fn live_blocks(&self, pid: Pid) -> Table<VirtAddr, LiveBlock> {
        self.live
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, _)| key.0.tgid == pid.0)
            .map(|(key, block)| (VirtAddr(key.0.address), block.0))
            .collect()
    }

    /// Forgets the sampled blocks of a process: its memory is gone.
    pub fn forget_live(&mut self, pid: Pid) {
        let keys: Vec<LiveEntryKey> =
            self.live.keys().filter_map(Result::ok).filter(|key| key.0.tgid == pid.0).collect();
        for key in keys {
            if let Err(error) = self.live.remove(&key) {
                tracing::debug!("a sampled block is gone already: {error}");
            }
        }
    }
}

/// The initial PID namespace's inode (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Kernel programs know processes by their numbers in the initial namespace: in another one nothing would be recorded.
fn require_initial_pid_namespace() -> Result<(), Fault> {
    let namespace = std::fs::read_link("/proc/self/ns/pid").map_err(unusable)?;
    if namespace.to_string_lossy() == INITIAL_PID_NAMESPACE {
        return Ok(());
    }
    Err(Fault::new(
        Status::NotAllowed,
        "cannot trace from here",
        "outlive runs in a PID namespace of its own, where processes have other numbers than the kernel's",
        "run it on the host, or in a container that shares the host's PIDs (--pid=host, hostPID: true)",
    ))
}

fn choose_link_kind(forced: Option<LinkKind>) -> Result<LinkKind, Fault> {
    let best = best_link_kind();
    match forced {
        Some(kind) if kind > best => Err(Fault::new(
            Status::NotAllowed,
            format!("cannot attach by {} links", kind.name()),
            "this kernel, or these rights, do not offer them",
            format!("leave out --force-link, or force {}", best.name()),
        )),
        Some(kind) => Ok(kind),
        None => Ok(best),
    }
}

/// Runs a program at a tracepoint of the kernel.
fn watch(object: &mut KernelObject, program: &str, event: &str) -> Result<(), Fault> {
    let program: &mut RawTracePoint = object
        .ebpf
        .program_mut(program)
        .ok_or_else(|| unusable(program))?
        .try_into()
        .map_err(unusable)?;
    program.load().map_err(unusable)?;
    program.attach(event).map_err(unusable)?;
    Ok(())
}

/// exec and thread exit always; fork only when it is followed, since it needs tracefs.
fn watch_processes(object: &mut KernelObject, follow_fork: bool) -> Result<(), Fault> {
    watch(object, "process_executes", "sched_process_exec")?;
    watch(object, "thread_exits", "sched_process_exit")?;
    if let Err(fault) = watch(object, "process_maps", "vm_unmapped_area") {
        tracing::debug!("code mapped over other code is noticed a little later: {}", fault.why);
    }
    if follow_fork {
        let program: &mut TracePoint = object
            .ebpf
            .program_mut("process_forks")
            .ok_or_else(|| unusable("process_forks"))?
            .try_into()
            .map_err(unusable)?;
        program.load().map_err(unusable)?;
        program.attach("task", "task_newtask").map_err(|error| {
            Fault::new(
                Status::NotAllowed,
                "cannot follow forks",
                format!("the tracepoint task:task_newtask cannot be attached: {error}"),
                "mount tracefs (mount -t tracefs tracefs /sys/kernel/tracing), or leave out --follow-fork",
            )
        })?;
    }
    Ok(())
}

pub(super) fn unusable(why: impl std::fmt::Display) -> Fault {
    Fault::new(
        Status::NotAllowed,
        "cannot prepare the kernel side",
        why.to_string(),
        "run as root; `outlive doctor` tells what this host allows",
    )
}
