//! What is attached in each module, planned once for every target that maps it; and the kernel's tables that explain the
//! places.

use std::collections::BTreeSet;

use aya::Pod;
use aya::maps::{Array, MapData};
use tracer_common::function::FunctionInfo;
use tracer_common::golang::{GoAllocated, GoRuntime, GoSweep};
use tracer_common::limits::{
    MAX_EXITS, MAX_FUNCTIONS, MAX_GO_EXITS, MAX_GO_RUNTIMES, MAX_PROBE_POINTS,
};

use crate::allocators::code::AllocatorCode;
use crate::allocators::cxx::readable;
use crate::allocators::discover::{Allocator, discover};
use crate::allocators::named::NamedFunction;
use crate::allocators::usdt::{Provider, Sampler, Tells, samplers};
use crate::fault::Fault;
use crate::probes::attach::{Moment, Placed};
use crate::probes::module_code::ModuleCode;
use crate::probes::object::KernelObject;
use crate::probes::plan::{ExitSite, Plan, Site, plan};
use crate::sys::pod::{AllocatedRow, ExitRow, FunctionRow, PointRow, RuntimeRow, SweepRow};
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
    row: u32,
}

impl Place {
    fn placed(&self) -> Placed<'_> {
        Placed {
            name: &self.name,
            moment: self.moment,
            offset: self.offset,
            semaphore: self.semaphore,
            row: self.row,
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
    exits: Table<ExitRow>,
    points: Table<PointRow>,
    runtimes: Table<RuntimeRow>,
    go_exits: Table<AllocatedRow>,
    go_sweeps: Table<SweepRow>,
}

impl Tables {
    /// Takes the maps.
    pub fn open(object: &mut KernelObject) -> Result<Self, Fault> {
        Ok(Self {
            functions: Table::open(object, "FUNCTIONS", MAX_FUNCTIONS)?,
            exits: Table::open(object, "EXITS", MAX_EXITS)?,
            points: Table::open(object, "PROBE_POINTS", MAX_PROBE_POINTS)?,
            runtimes: Table::open(object, "GO_RUNTIMES", MAX_GO_RUNTIMES)?,
            go_exits: Table::open(object, "GO_EXITS", MAX_GO_EXITS)?,
            go_sweeps: Table::open(object, "GO_SWEEPS", MAX_GO_RUNTIMES)?,
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

    /// Makes a Go runtime known to kernel programs; gives its row.
    pub fn add_runtime(&mut self, runtime: GoRuntime) -> Result<u32, Fault> {
        self.runtimes.add(RuntimeRow(runtime))
    }

    /// Makes a place known where a Go runtime has allocated; gives its row.
    pub fn add_go_exit(&mut self, place: GoAllocated) -> Result<u32, Fault> {
        self.go_exits.add(AllocatedRow(place))
    }

    /// Makes a place known where a Go runtime sweeps; gives its row.
    pub fn add_go_sweep(&mut self, place: GoSweep) -> Result<u32, Fault> {
        self.go_sweeps.add(SweepRow(place))
    }

    /// Makes a function known to kernel programs; gives its row.
    pub fn add_function(&mut self, info: FunctionInfo) -> Result<u32, Fault> {
        self.functions.add(FunctionRow(info))
    }

    fn plan_allocator(
        &mut self,
        module: &Module,
        allocator: Allocator,
    ) -> Result<Option<PlannedAllocator>, Fault> {
        let Some(file) = &module.file else { return Ok(None) };
        let Ok(elf) = Elf::read(file) else { return Ok(None) };
        let code = ModuleCode::new(file, &elf);
        let Plan { sites, exits, stepped_returns, unseen } =
            plan(&allocator.hooks, code.segments(), &code);
        let notices = allocator_notices(&allocator.name, &sites, &stepped_returns, &unseen);
        let mut places = Vec::new();
        for site in sites {
            let moment = moment(&site);
            let Site { name, offset, info, .. } = site;
            let row = self.add_function(info)?;
            places.push(Place { name, moment, offset, semaphore: None, row });
        }
        for ExitSite { offset, info } in exits {
            let (name, moment) = (format!("an exit in {}", allocator.name), Moment::Exit);
            let row = self.exits.add(ExitRow(info))?;
            places.push(Place { name, moment, offset, semaphore: None, row });
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
                row: self.points.add(PointRow(point.row))?,
            });
        }
        Ok(PlannedSampler { provider: sampler.provider, notices, places })
    }
}

fn moment(site: &Site) -> Moment {
    if site.shape.releases() {
        Moment::Release
    } else if site.leaves_by_exits() {
        Moment::Entry
    } else {
        Moment::Allocation
    }
}

fn allocator_notices(
    name: &str,
    sites: &[Site],
    stepped_returns: &[String],
    unseen: &[String],
) -> Vec<String> {
    let mut notices = Vec::new();
    let mut add = |functions: &[&str], text: &dyn Fn(String) -> String| {
        let different: BTreeSet<&str> = functions.iter().copied().collect();
        if !different.is_empty() {
            let list = different.into_iter().collect::<Vec<_>>().join(", ");
            notices.push(format!("{name}: {}", text(list)));
        }
    };
    let unseen: Vec<&str> = unseen.iter().map(String::as_str).collect();
    add(&unseen, &|list| {
        format!(
            "blocks from {list} are not seen, only those from malloc and the like: it throws, no exception can pass a return \
             probe, and not all ways out of it are known"
        )
    });
    let stepped: Vec<&str> =
        sites.iter().filter(|site| site.single_stepped).map(|site| readable(&site.name)).collect();
    add(&stepped, &|list| {
        format!(
            "no instruction of {list} can be emulated by the kernel, so each call is single-stepped, \
             about ten times as expensive in a virtual machine"
        )
    });
    let stepped_returns: Vec<&str> = stepped_returns.iter().map(String::as_str).collect();
    add(&stepped_returns, &|list| {
        format!(
            "{list} may throw, so it is probed where it returns, by an instruction that the kernel has to single-step: \
             its calls are about ten times as expensive in a virtual machine"
        )
    });
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
