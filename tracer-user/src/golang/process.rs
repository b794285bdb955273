//! A running Go process, found and checked.
//!
//! In: a [`Target`]. Out: a [`GoProcess`], by which its heap profile, its sampled objects and its code are read.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tracer_common::golang::{GoAllocated, GoRuntime, GoSweep};

use super::GoError;
use super::anchors::Anchors;
use super::buckets::{self, Bucket, Buckets, ProfilePlace};
use super::code::{CodeFrame, GoCode};
use super::debug_info::RuntimeDescription;
use super::goroutines::{Goroutine, Goroutines, is_system};
use super::heap::spans;
use super::holdings::{self, Holdings, Types, VariableNames};
use super::hooks::{AllocatedPlace, AllocationHooks, RuntimeHooks};
use super::layout::Layout;
use super::moduledata::{Moduledata, Variables};
use super::never_wake::{self, NeverWake};
use super::pclntab::Pclntab;
use super::profiling::ForcedRate;
use super::roots::Places;
use super::specials::Specials;
use super::types::{self, TypeSection};
use super::version::GoVersion;
use crate::target::address_space::Region;
use crate::target::proc_dir::ProcDir;
use crate::target::{
    AddressSpace, ElfAddr, FileOffset, Image, Module, ModuleTable, RemoteMemory, Target, VirtAddr,
};

/// The first release whose small spans have the marks of their objects in themselves.
const FIRST_WITH_INLINE_MARKS: u32 = 26;

/// A process with a Go runtime in it. Nothing of it is changed or stopped.
#[derive(Debug)]
pub struct GoProcess {
    /// The version of Go that built it.
    pub version: GoVersion,
    /// The file with the runtime: the program, or a library.
    pub module: Module,
    /// There are plugins, whose code is not named.
    pub has_plugins: bool,
    directory: Arc<ProcDir>,
    memory: RemoteMemory,
    layout: Layout,
    code: GoCode,
    text: Range<VirtAddr>,
    types: TypeSection,
    variables: [Variables; 2],
    anchors: Anchors,
    bias: u64,
}

impl GoProcess {
    /// Finds the runtime in the process, and checks that it is laid out as its version says.
    pub fn open(target: &Target) -> Result<Self, GoError> {
        let (module, bias) = find_runtime(target)?;
        let file = module.file.clone().ok_or(GoError::NotGo)?;
        let image = Image::read(file).map_err(|error| GoError::refused(error.to_string()))?;
        let version = GoVersion::read(&image).ok_or(GoError::NoVersion)?;
        let layout = Layout::described(&version, RuntimeDescription::read(&image).as_ref())?;
        let memory = RemoteMemory::new(target.pid);
        let (table, data) = find_module(memory, &image, bias, &layout)?;
        let in_file = |address: VirtAddr| ElfAddr(address.0.wrapping_sub(bias));
        let code = GoCode::new(table, image, in_file(data.text), in_file(data.functions_data));
        let anchors = Anchors::find(&code, &layout.heap);
        tracing::debug!(pid = %target.pid, %version, ?data, ?anchors, "a Go process");
        Ok(Self {
            version,
            module,
            has_plugins: data.has_next,
            directory: Arc::clone(&target.process),
            memory,
            layout,
            code,
            text: data.text..data.text_end,
            types: TypeSection { start: in_file(data.types), end: in_file(data.types_end) },
            variables: data.variables,
            anchors,
            bias,
        })
    }

    /// What a reader must know of how it was read.
    pub fn notices(&self) -> Vec<String> {
        let newer = self.layout.is_newer.then(|| {
            format!(
                "{} is newer than outlive knows: its structures are taken from the program's own debug information, and were checked; what goroutines wait for has no words",
                self.version
            )
        });
        let plugins = self
            .has_plugins
            .then(|| "it has loaded plugins: their functions are not named".to_owned());
        newer.into_iter().chain(plugins).collect()
    }

    /// Mean bytes between the runtime's samples; 0 when its profiler is off.
    pub fn sampling_rate(&self) -> Result<u64, GoError> {
        let rate = self.memory.read_u64(self.variable(self.anchors.rate, "MemProfileRate")?)?;
        // A program may set it to a negative number, which is off too.
        Ok(if rate.cast_signed() < 0 { 0 } else { rate })
    }

    /// The heap profile.
    pub fn buckets(&self) -> Result<Buckets, GoError> {
        let place = ProfilePlace {
            head: self.variable(self.anchors.buckets, "mbuckets")?,
            cycle: self.variable(self.anchors.cycle, "mProfCycle")?,
        };
        // Return addresses of plugins are not in this module's code.
        let everywhere = VirtAddr(0)..VirtAddr(u64::MAX);
        let text = if self.has_plugins { &everywhere } else { &self.text };
        Buckets::read(self.memory, place, &self.layout.bucket, text)
    }

    /// The live sampled objects.
    pub fn specials(&self) -> Result<Specials, GoError> {
        let heap = self.variable(self.anchors.heap, "mheap_")?;
        Specials::read(self.memory, heap, &self.layout.heap, &self.layout.special)
    }

    /// Whether there is no heap yet: the program was only just started.
    pub fn has_no_heap(&self) -> Result<bool, GoError> {
        let heap = self.variable(self.anchors.heap, "mheap_")?;
        spans::is_unused(self.memory, heap, &self.layout.heap)
    }

    /// The call site at an address that the runtime gave; `None` when there is none.
    pub fn bucket(&self, at: VirtAddr) -> Result<Option<Bucket>, GoError> {
        buckets::read_one(self.memory, at, &self.layout.bucket)
    }

    /// Turns the profiler on, until what this gives is dropped.
    pub fn force_rate(&self, rate: u64) -> Result<ForcedRate, GoError> {
        let place = self.variable(self.anchors.rate, "MemProfileRate")?;
        ForcedRate::set(&self.directory, place, rate).map_err(|error| {
            GoError::refused(format!("runtime.MemProfileRate cannot be set: {error}"))
        })
    }

    /// What the loader added to the file's addresses.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// Collections of the heap so far.
    pub fn cycle(&self) -> Result<u32, GoError> {
        let heap = self.variable(self.anchors.heap, "mheap_")?;
        let sweepgen = VirtAddr(heap.0.wrapping_add(self.layout.heap.sweepgen));
        Ok(GoRuntime::cycle(u64::from(self.memory.read_u32(sweepgen)?)))
    }

    /// Where its sampler is probed.
    pub fn hooks(&self) -> Result<RuntimeHooks, GoError> {
        RuntimeHooks::find(&self.code)
    }

    /// What kernel programs must know of it, when the sampler is probed there.
    pub fn runtime(&self, hooks: &RuntimeHooks) -> Result<GoRuntime, GoError> {
        let heap = self.variable(self.anchors.heap, "mheap_")?;
        let sweepgen = heap.0.wrapping_add(self.layout.heap.sweepgen);
        let probed = hooks.sampled.address.0.wrapping_add(self.bias);
        Ok(GoRuntime {
            kind_offset: self.layout.special.kind as u32,
            kind_profile: u32::from(self.layout.special.kind_profile),
            object_size_offset: self.layout.bucket.object_size as u32,
            thread_offset: self.layout.scheduler.thread as u32,
            processor_offset: self.layout.scheduler.processor as u32,
            sampled_stepped: u16::from(hooks.sampled.single_stepped),
            freed_stepped: u16::from(hooks.freed.single_stepped),
            sweepgen_distance: sweepgen.wrapping_sub(probed),
        })
    }

    /// Its code.
    pub fn code(&self) -> &GoCode {
        &self.code
    }

    /// Where it allocates and sweeps.
    pub fn allocation_hooks(&self) -> Result<AllocationHooks, GoError> {
        AllocationHooks::find(&self.code)
    }

    /// What kernel programs must know where it begins to sweep a span.
    pub fn sweep(&self, hooks: &AllocationHooks) -> GoSweep {
        let heap = &self.layout.heap;
        GoSweep {
            start_offset: heap.start as u32,
            object_bytes_offset: heap.elemsize as u32,
            objects_offset: heap.nelems as u32,
            marks_offset: heap.mark_bits as u32,
            objects_bytes: if heap.nelems.abs_diff(heap.freeindex) < 8 { 2 } else { 8 },
            has_inline_marks: u32::from(self.version.minor >= FIRST_WITH_INLINE_MARKS),
            single_stepped: u32::from(hooks.swept.single_stepped),
            reserved: 0,
        }
    }

    /// What they must know at each place where it has allocated.
    pub fn allocated(
        &self,
        hooks: &AllocationHooks,
    ) -> Result<Vec<(FileOffset, GoAllocated)>, GoError> {
        let heap = self.variable(self.anchors.heap, "mheap_")?;
        let arenas = heap.0.wrapping_add(self.layout.heap.arenas);
        let (outer, outer_bytes) = hooks.outer;
        let row = |one: &AllocatedPlace| {
            let at = one.place.address.0;
            let row = GoAllocated {
                outer_distance: outer.0.wrapping_sub(at),
                // It does not call itself for what it allocates.
                outer_bytes: if one.is_outer { 0 } else { outer_bytes },
                arenas_distance: arenas.wrapping_sub(at.wrapping_add(self.bias)),
                spans_offset: self.layout.heap.arena_spans as u32,
                start_offset: self.layout.heap.start as u32,
                object_bytes_offset: self.layout.heap.elemsize as u32,
                reserved: 0,
            };
            (one.place.offset, row)
        };
        Ok(hooks.allocated.iter().map(row).collect())
    }

    /// All goroutines.
    pub fn goroutines(&self) -> Result<Goroutines, GoError> {
        let candidates = self.in_memory(&self.anchors.goroutine_candidates);
        let layout = &self.layout;
        Goroutines::read(self.memory, &candidates, &layout.goroutine, &layout.wait_reasons)
    }

    /// The goroutines that can never run again. With `hold` the process may be held for so long.
    pub fn never_wake(&self, hold: Option<Duration>) -> Result<NeverWake, GoError> {
        never_wake::find(&self.places()?, hold)
    }

    /// Names of its variables, for [`Self::holdings`].
    pub fn variable_names(&self) -> VariableNames {
        VariableNames::read(self.code.image().file(), self.variables, self.bias)
    }

    /// What its heap holds now, by type and by what holds it.
    pub fn holdings(&self, names: &VariableNames) -> Result<Holdings, GoError> {
        let types = Types {
            code: &self.code,
            section: self.types,
            layout: &self.layout.types,
            bias: self.bias,
            are_kept: self.layout.heap.large_type.is_some(),
        };
        let is_system = |goroutine: &Goroutine| {
            self.function_starting_at(goroutine.start)
                .is_some_and(|start| is_system(&start.function))
        };
        holdings::read(&self.places()?, names, &types, &is_system)
    }

    fn places(&self) -> Result<Places<'_>, GoError> {
        Ok(Places {
            memory: self.memory,
            process: &self.directory,
            heap: self.variable(self.anchors.heap, "mheap_")?,
            layout: &self.layout,
            variables: &self.variables,
            goroutines: self.in_memory(&self.anchors.goroutine_candidates),
            processors: self.in_memory(&self.anchors.processor_candidates),
            threads: self.in_memory(&self.anchors.thread_candidates),
            finalizers: self.in_memory(&self.anchors.finalizer_candidates),
            cleanups: self.in_memory(&self.anchors.cleanup_candidates),
            has_plugins: self.has_plugins,
        })
    }

    fn in_memory(&self, places: &[ElfAddr]) -> Vec<VirtAddr> {
        places.iter().map(|at| VirtAddr(at.0.wrapping_add(self.bias))).collect()
    }

    /// The return addresses of a goroutine, innermost first; none while it runs.
    pub fn return_addresses(&self, goroutine: &Goroutine) -> Result<Vec<VirtAddr>, GoError> {
        goroutine.return_addresses(self.memory)
    }

    /// The functions at one return address, inlined ones first. Empty when it is in no Go function.
    pub fn frames_at(&self, return_address: VirtAddr) -> Vec<CodeFrame> {
        self.code.frames(self.call(return_address))
    }

    /// The function that starts at an address.
    pub fn function_starting_at(&self, address: VirtAddr) -> Option<CodeFrame> {
        self.code.frames(ElfAddr(address.0.wrapping_sub(self.bias))).pop()
    }

    /// The functions at the return addresses of a bucket, innermost first.
    ///
    /// Each inlined call has a return address of its own, so that only the innermost function of each counts; the last one may be where
    /// a deep stack was cut, and what it is inlined into is known all the same.
    pub fn frames(&self, stack: &[VirtAddr]) -> Vec<CodeFrame> {
        let Some((last, others)) = stack.split_last() else { return Vec::new() };
        let mut frames: Vec<_> = others
            .iter()
            .map(|at| self.code.innermost(self.call(*at)).unwrap_or_else(|| self.unnamed(*at)))
            .collect();
        let outer = self.code.frames(self.call(*last));
        if outer.is_empty() {
            frames.push(self.unnamed(*last));
        }
        frames.extend(outer);
        frames
    }

    /// The type that the call before a return address allocates.
    pub fn type_allocated(&self, return_address: VirtAddr) -> Option<String> {
        let at = ElfAddr(return_address.0.wrapping_sub(self.bias));
        types::allocated_at(&self.code, self.types, &self.layout.types, at)
    }

    /// The address of a call in the file, from the return address.
    fn call(&self, return_address: VirtAddr) -> ElfAddr {
        ElfAddr(return_address.0.wrapping_sub(self.bias).wrapping_sub(1))
    }

    fn unnamed(&self, return_address: VirtAddr) -> CodeFrame {
        CodeFrame {
            function: format!("0x{:x}", return_address.0),
            file: None,
            line: None,
            address: self.call(return_address),
            inlined: false,
            wrapper: false,
        }
    }

    fn variable(&self, address: Option<ElfAddr>, name: &str) -> Result<VirtAddr, GoError> {
        let address = address.ok_or_else(|| {
            GoError::refused(format!(
                "the code of its runtime does not show where runtime.{name} is, as that of {} should",
                self.version
            ))
        })?;
        Ok(VirtAddr(address.0.wrapping_add(self.bias)))
    }
}

/// The file with the Go runtime, and what the loader added to its addresses: the program, or else a library.
fn find_runtime(target: &Target) -> Result<(Module, u64), GoError> {
    let mut modules = ModuleTable::new();
    let space = AddressSpace::open(Arc::clone(&target.process), &mut modules)?;
    let mut found: Vec<(&Region, &Module)> = space
        .regions()
        .iter()
        .filter_map(|region| Some((region, modules.get(region.module)?)))
        .filter(|(region, module)| {
            let is_program = module.path == target.exe;
            is_program || modules.elf(region.module).is_some_and(|elf| elf.is_go)
        })
        .collect();
    // A program without sections says what it is only when it is looked into.
    found.sort_by_key(|(_, module)| module.path != target.exe);
    let first = found.iter().find(|(region, module)| {
        modules.elf(region.module).is_some_and(|elf| elf.is_go) || has_version(module)
    });
    let (region, module) = first.ok_or(GoError::NotGo)?;
    Ok(((*module).clone(), region.bias))
}

fn has_version(module: &Module) -> bool {
    let image = module.file.clone().and_then(|file| Image::read(file).ok());
    image.is_some_and(|image| GoVersion::read(&image).is_some())
}

fn find_module(
    memory: RemoteMemory,
    image: &Image,
    bias: u64,
    layout: &Layout,
) -> Result<(Pclntab, Moduledata), GoError> {
    let mut failure = GoError::refused("its file has no table of functions (pclntab)");
    for table in Pclntab::candidates(image) {
        match Moduledata::find(memory, image, bias, &table, &layout.moduledata) {
            Ok(data) => return Ok((table, data)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
