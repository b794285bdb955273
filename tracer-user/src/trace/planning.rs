//! What is attached in each module, planned once for every target that maps it; and the kernel's tables that explain the
//! places.

use std::os::unix::fs::FileExt as _;

use aya::Pod;
use aya::maps::{Array, MapData};
use tracer_common::function::Shape;
use tracer_common::golang::GoRuntime;
use tracer_common::limits::{MAX_FUNCTIONS, MAX_GO_RUNTIMES, MAX_PROBE_POINTS};

use crate::allocators::code::AllocatorCode;
use crate::allocators::discover::{Allocator, discover};
use crate::allocators::named::NamedFunction;
use crate::allocators::usdt::{Provider, Sampler, Tells, samplers};
use crate::fault::Fault;
use crate::probes::attach::{Moment, Placed};
use crate::probes::object::KernelObject;
use crate::probes::plan::{self, Site, TextSegment};
use crate::sys::pod::{FunctionRow, PointRow, RuntimeRow};
use crate::target::elf::Elf;
use crate::target::{FileOffset, Module};
use crate::trace::kernel::unusable;

/// What a module has that can be attached to.
#[derive(Clone, Debug, Default)]
pub struct PlannedModule {
    /// Its allocator.
    pub allocator: Option<PlannedAllocator>,
    /// The samplers by which a process tells of its allocations itself.
    pub samplers: Vec<PlannedSampler>,
}

/// An allocator, and where it is probed.
#[derive(Clone, Debug)]
pub struct PlannedAllocator {
    /// Name for people.
    pub name: String,
    /// Its own code.
    pub code: AllocatorCode,
    /// What a reader of the report must know.
    pub notices: Vec<String>,
    places: Vec<Place>,
}

/// A sampler, and where it is probed.
#[derive(Clone, Debug)]
pub struct PlannedSampler {
    /// Who offers it.
    pub provider: Provider,
    /// What a reader of the report must know.
    pub notices: Vec<String>,
    places: Vec<Place>,
}

/// A place in a module.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    moment: Moment,
    offset: FileOffset,
    semaphore: Option<FileOffset>,
    cookie: u32,
}

impl Place {
    fn placed(&self) -> Placed<'_> {
        Placed {
            name: &self.name,
            moment: self.moment,
            offset: self.offset,
            semaphore: self.semaphore,
            cookie: self.cookie,
        }
    }
}

impl PlannedModule {
    /// Its sampler by this provider.
    pub fn sampler(&self, provider: Provider) -> Option<&PlannedSampler> {
        self.samplers.iter().find(|sampler| sampler.provider == provider)
    }
}

impl PlannedAllocator {
    /// Where it is probed.
    pub fn placed(&self) -> Vec<Placed<'_>> {
        self.places.iter().map(Place::placed).collect()
    }

    /// Names of the functions that are probed.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.name.as_str())
    }
}

impl PlannedSampler {
    /// Where it is probed.
    pub fn placed(&self) -> Vec<Placed<'_>> {
        self.places.iter().map(Place::placed).collect()
    }
}

/// The kernel's tables of places.
pub struct Tables {
    functions: Table<FunctionRow>,
    points: Table<PointRow>,
    runtimes: Table<RuntimeRow>,
}

impl Tables {
    /// Takes the maps.
    pub fn open(object: &mut KernelObject) -> Result<Self, Fault> {
        Ok(Self {
            functions: Table::open(object, "FUNCTIONS", MAX_FUNCTIONS)?,
            points: Table::open(object, "PROBE_POINTS", MAX_PROBE_POINTS)?,
            runtimes: Table::open(object, "GO_RUNTIMES", MAX_GO_RUNTIMES)?,
        })
    }

    /// Plans a module.
    pub fn plan(
        &mut self,
        module: &Module,
        named: &[NamedFunction],
    ) -> Result<PlannedModule, Fault> {
        let mut planned = PlannedModule::default();
        for sampler in samplers(module) {
            planned.samplers.push(self.plan_sampler(module, sampler)?);
        }
        if let Some(allocator) = discover(module, named) {
            planned.allocator = self.plan_allocator(module, allocator)?;
        }
        Ok(planned)
    }

    /// Makes a Go runtime known to kernel programs; gives its cookie.
    pub fn add_runtime(&mut self, runtime: GoRuntime) -> Result<u32, Fault> {
        self.runtimes.add(RuntimeRow(runtime))
    }

    fn plan_allocator(
        &mut self,
        module: &Module,
        allocator: Allocator,
    ) -> Result<Option<PlannedAllocator>, Fault> {
        let Some(file) = &module.file else { return Ok(None) };
        let Ok(elf) = Elf::read(file) else { return Ok(None) };
        let segments = text_segments(&elf);
        let read = |offset: FileOffset, bytes: u64| {
            let mut code = vec![0; bytes as usize];
            let read = file.read_at(&mut code, offset.0).unwrap_or(0);
            code.truncate(read);
            code
        };
        let sites = allocator.hooks.iter().filter_map(|hook| plan::site(hook, &segments, read));
        let sites: Vec<Site> = sites.collect();
        let notices = allocator_notices(&allocator, &sites);
        let mut places = Vec::new();
        for Site { name, shape, offset, info, .. } in sites {
            let moment = if shape == Shape::Release { Moment::Release } else { Moment::Allocation };
            let cookie = self.functions.add(FunctionRow(info))?;
            places.push(Place { name, moment, offset, semaphore: None, cookie });
        }
        let code = AllocatorCode::of(&allocator);
        Ok(Some(PlannedAllocator { name: allocator.name, code, notices, places }))
    }

    fn plan_sampler(&mut self, module: &Module, sampler: Sampler) -> Result<PlannedSampler, Fault> {
        let notices = sampler_notices(module, &sampler);
        let mut places = Vec::new();
        for point in sampler.points {
            places.push(Place {
                name: format!("the probe point {}", sampler.provider.name()),
                moment: match point.tells {
                    Tells::Allocation => Moment::ReportedAllocation,
                    Tells::Release => Moment::ReportedRelease,
                },
                offset: point.offset,
                semaphore: point.semaphore,
                cookie: self.points.add(PointRow(point.row))?,
            });
        }
        Ok(PlannedSampler { provider: sampler.provider, notices, places })
    }
}

fn text_segments(elf: &Elf) -> Vec<TextSegment> {
    let executable = elf.segments.iter().filter(|segment| segment.executable);
    let text = executable.map(|segment| TextSegment {
        address: segment.address.0,
        offset: segment.file_offset.0,
        size_bytes: segment.file_size,
    });
    text.collect()
}

fn allocator_notices(allocator: &Allocator, sites: &[Site]) -> Vec<String> {
    let name = &allocator.name;
    let unseen = allocator.unseen.iter().map(|what| format!("{name}: {what}"));
    let mut notices: Vec<String> = unseen.collect();
    let stepped = sites.iter().filter(|site| site.single_stepped);
    let stepped: Vec<&str> = stepped.map(|site| site.name.as_str()).collect();
    if !stepped.is_empty() {
        notices.push(format!(
            "{name}: no instruction of {} can be emulated by the kernel, so each call is single-stepped, \
             about ten times as expensive in a virtual machine",
            stepped.join(", ")
        ));
    }
    notices
}

fn sampler_notices(module: &Module, sampler: &Sampler) -> Vec<String> {
    let (provider, file) = (sampler.provider.name(), module.path.display());
    let mut notices = vec![format!(
        "allocations are those that the process samples and tells of itself, by the USDT points {provider} of {file}: \
         if its sampler is off, there are none; --sample or --exact hook its allocators instead"
    )];
    if !sampler.tells(Tells::Release) {
        notices.push(format!(
            "{provider} of {file} does not tell of frees: every block seems to live on"
        ));
    }
    if let Some((count, example)) = &sampler.unusable {
        notices.push(format!(
            "{count} of the USDT points in {file} cannot be attached to, such as {example}: what they tell is not seen"
        ));
    }
    notices
}

/// A table of the kernel side that is filled from its start.
struct Table<T: Pod> {
    map: Array<MapData, T>,
    next: u32,
    capacity: u32,
}

impl<T: Pod> Table<T> {
    fn open(object: &mut KernelObject, name: &str, capacity: u32) -> Result<Self, Fault> {
        let map = Array::try_from(object.take_map(name)?).map_err(unusable)?;
        Ok(Self { map, next: 0, capacity })
    }

    /// Adds a row; gives its index.
    fn add(&mut self, row: T) -> Result<u32, Fault> {
        let index = self.next;
        if index >= self.capacity {
            return Err(unusable("too many functions to hook"));
        }
        self.map.set(index, row, 0).map_err(unusable)?;
        self.next += 1;
        Ok(index)
    }
}
