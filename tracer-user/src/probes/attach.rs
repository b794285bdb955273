//! Links: one for each file and kind of program, or one for each probe where the kernel has no better. Dropping them
//! detaches.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use tracer_common::process::ProbeId;

use crate::fault::{Fault, Status};
use crate::probes::features::{LinkKind, has_loop};
use crate::probes::object::{KernelObject, LoadedProgram};
use crate::sys::bpf::{self, AttachType, MultiLink};
use crate::sys::perf::{self, Probe};
use crate::target::{FileOffset, Pid};

/// What happens where a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A function takes a block back.
    Release,
    /// A function that may throw is about to return.
    Exit,
    /// A function that may throw is entered.
    Entry,
    /// A function that gives out blocks is entered; its return is wanted too.
    Allocation,
    /// The process's own sampler tells of a free.
    ReportedRelease,
    /// The process's own sampler tells of an allocation.
    ReportedAllocation,
    /// A Go runtime's sampler tells of the end of an object.
    GoFreed,
    /// A Go runtime's sampler chose an object.
    GoSampled,
    /// A Go runtime begins to sweep a span.
    GoSwept,
    /// A Go runtime has allocated an object.
    GoAllocated,
}

impl Moment {
    /// In the order of attaching. Ends first: a block given out before they are watched would seem to live for ever.
    const ALL: [Self; 10] = [
        Self::Release,
        Self::Exit,
        Self::Entry,
        Self::Allocation,
        Self::ReportedRelease,
        Self::ReportedAllocation,
        Self::GoFreed,
        Self::GoSampled,
        Self::GoSwept,
        Self::GoAllocated,
    ];
}

/// A place to attach to, and the number that stands for it.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// What it belongs to, for messages.
    pub name: &'a str,
    /// What happens there.
    pub moment: Moment,
    /// Position of the instruction in the file.
    pub offset: FileOffset,
    /// Position in the file of a counter that the kernel raises while the probe is there.
    pub semaphore: Option<FileOffset>,
    /// Index of its row in the kernel's table for such places.
    pub row: u32,
}

/// Entry of allocations on kernels before 5.17.
pub(super) const ENTER_EARLY: &str = "allocate_enter_early";
/// The same, of what a process's own sampler tells.
pub(super) const REPORT_EARLY: &str = "report_allocation_early";
/// The same, of every object of a Go heap.
pub(super) const GO_ALLOCATED_EARLY: &str = "go_allocated_early";
const LEAVE: &str = "allocate_leave";

/// A program, and how it is attached.
#[derive(Clone, Copy, Debug)]
struct Part {
    program: &'static str,
    attach_type: AttachType,
    at_return: bool,
}

/// The programs that probes run, each loaded when it is first needed and shared by all targets.
///
/// A perf event of an old kernel has no cookie, so that each place has a copy of its program with the cookie written into it.
pub struct Programs {
    kind: LinkKind,
    /// The kernel has no `bpf_loop`.
    is_early: bool,
    loaded: BTreeMap<(&'static str, u32), LoadedProgram>,
}

/// Probes of one process in one file; detached when dropped.
#[derive(Default)]
pub struct Links {
    multi: Vec<OwnedFd>,
    single: Vec<OwnedFd>,
    /// Of releasing functions.
    releases: Vec<OwnedFd>,
}

impl Links {
    /// Takes out the probes of releasing functions.
    #[must_use]
    pub fn take_releases(&mut self) -> Self {
        Self { releases: std::mem::take(&mut self.releases), ..Self::default() }
    }
}

/// Releases probes, all at once: for each link the kernel waits until nobody runs its program any more.
pub fn release(all: Vec<Links>) {
    std::thread::scope(|scope| {
        for links in all {
            for link in links.multi {
                scope.spawn(move || drop(link));
            }
            scope.spawn(move || drop(links.single));
            scope.spawn(move || drop(links.releases));
        }
    });
}

impl Programs {
    /// Loads what every allocator needs, to see that the kernel accepts it.
    pub fn load(object: &KernelObject, kind: LinkKind) -> Result<Self, Fault> {
        let is_early = kind == LinkKind::Single && !has_loop();
        let mut programs = Self { kind, is_early, loaded: BTreeMap::new() };
        for moment in [Moment::Release, Moment::Allocation] {
            programs.load_for(object, moment)?;
        }
        Ok(programs)
    }

    /// Loads the programs of all moments.
    pub fn load_all(&mut self, object: &KernelObject) -> Result<(), Fault> {
        Moment::ALL.into_iter().try_for_each(|moment| self.load_for(object, moment))
    }

    fn load_for(&mut self, object: &KernelObject, moment: Moment) -> Result<(), Fault> {
        for part in self.parts(moment) {
            self.program(object, part, 0)?;
        }
        Ok(())
    }

    /// Attaches to all places of one file in one process, named by its id and its place in the kernel's tables.
    pub fn attach(
        &mut self,
        object: &KernelObject,
        path: &Path,
        process: (Pid, u32),
        placed: &[Placed<'_>],
    ) -> Result<Links, Fault> {
        let mut links = Links::default();
        for moment in Moment::ALL {
            let here: Vec<&Placed<'_>> =
                placed.iter().filter(|placed| placed.moment == moment).collect();
            if here.is_empty() {
                continue;
            }
            for part in self.parts(moment) {
                let part_links = if part.attach_type == AttachType::PerfEvent {
                    self.attach_each(object, part, path, process.0, &here)?
                } else {
                    let program = self.program(object, part, 0)?;
                    vec![attach_together(program, part, path, process, &here)?]
                };
                match (moment, part.attach_type) {
                    (Moment::Release, _) => links.releases.extend(part_links),
                    (_, AttachType::PerfEvent) => links.single.extend(part_links),
                    _ => links.multi.extend(part_links),
                }
            }
        }
        Ok(links)
    }

    /// The programs of a moment, in the order of attaching.
    fn parts(&self, moment: Moment) -> Vec<Part> {
        let attach_type = match self.kind {
            LinkKind::Single => AttachType::PerfEvent,
            LinkKind::Multi | LinkKind::Session => AttachType::UprobeMulti,
        };
        let part = |program, at_return| Part { program, attach_type, at_return };
        let enter = part(if self.is_early { ENTER_EARLY } else { "allocate_enter" }, false);
        let go_allocated = if self.is_early { GO_ALLOCATED_EARLY } else { "go_allocated" };
        let report = if self.is_early { REPORT_EARLY } else { "report_allocation" };
        match moment {
            Moment::Release => vec![part("release_enter", false)],
            Moment::Exit => vec![part("allocate_exit", false)],
            Moment::Entry => vec![enter],
            Moment::Allocation if self.kind == LinkKind::Session => {
                let attach_type = AttachType::UprobeSession;
                vec![Part { program: "allocate_both", attach_type, at_return: false }]
            }
            Moment::Allocation => vec![part(LEAVE, true), enter],
            Moment::ReportedRelease => vec![part("report_release", false)],
            Moment::ReportedAllocation => vec![part(report, false)],
            Moment::GoFreed => vec![part("go_freed", false)],
            Moment::GoSampled => vec![part("go_sampled", false)],
            Moment::GoSwept => vec![part("go_swept", false)],
            Moment::GoAllocated => vec![part(go_allocated, false)],
        }
    }

    fn attach_each(
        &mut self,
        object: &KernelObject,
        part: Part,
        path: &Path,
        pid: Pid,
        places: &[&Placed<'_>],
    ) -> Result<Vec<OwnedFd>, Fault> {
        let path = c_path(path)?;
        let mut links = Vec::new();
        for placed in places {
            // One program serves all processes: it looks up which one it runs in. A return knows its function from the entry.
            let row = if part.at_return { 0 } else { placed.row };
            let cookie = ProbeId { process: 0, row }.cookie();
            let program = self.program(object, part, cookie)?;
            let probe = Probe {
                path: &path,
                offset: placed.offset.0,
                semaphore: semaphore(placed)?,
                pid: pid.0,
                at_return: part.at_return,
            };
            let link = perf::attach(program.fd.as_fd(), &probe);
            links.push(link.map_err(|error| cannot_attach(placed.name, &error))?);
        }
        Ok(links)
    }

    fn program(
        &mut self,
        object: &KernelObject,
        part: Part,
        cookie: u32,
    ) -> Result<&LoadedProgram, Fault> {
        use std::collections::btree_map::Entry;
        match self.loaded.entry((part.program, cookie)) {
            Entry::Occupied(loaded) => Ok(loaded.into_mut()),
            Entry::Vacant(vacant) => Ok(vacant.insert(match part.attach_type {
                AttachType::PerfEvent => object.load_for(part.program, cookie)?,
                attach_type => object.load(part.program, attach_type)?,
            })),
        }
    }

    /// Programs and the instructions the verifier walked through for each, where the kernel tells.
    pub fn verified_instructions(&self) -> BTreeMap<&'static str, u32> {
        let counts = self.loaded.iter().map(|((name, _), program)| (*name, program));
        counts.filter_map(|(name, program)| Some((name, program.verified_instructions?))).collect()
    }
}

fn attach_together(
    program: &LoadedProgram,
    part: Part,
    path: &Path,
    (pid, process): (Pid, u32),
    places: &[&Placed<'_>],
) -> Result<OwnedFd, Fault> {
    let path = c_path(path)?;
    let offsets: Vec<u64> = places.iter().map(|placed| placed.offset.0).collect();
    let probes = places.iter().map(|placed| ProbeId { process, row: placed.row });
    let cookies: Vec<u64> = probes.map(|probe| u64::from(probe.cookie())).collect();
    let mut semaphores: Vec<u64> =
        places.iter().map(|placed| placed.semaphore.map_or(0, |offset| offset.0)).collect();
    if semaphores.iter().all(|offset| *offset == 0) {
        semaphores.clear();
    }
    let link = MultiLink {
        path: &path,
        offsets: &offsets,
        cookies: &cookies,
        semaphores: &semaphores,
        pid: pid.0,
        at_return: part.at_return,
    };
    bpf::link_uprobes(program.fd.as_fd(), part.attach_type, &link)
        .map_err(|error| cannot_attach(&path.to_string_lossy(), &error))
}

/// The position of a place's semaphore, as a perf event takes it.
fn semaphore(placed: &Placed<'_>) -> Result<u32, Fault> {
    let position = placed.semaphore.map_or(0, |offset| offset.0);
    u32::try_from(position).map_err(|error| cannot_attach(placed.name, &error))
}

fn c_path(path: &Path) -> Result<CString, Fault> {
    let text = path.to_string_lossy().into_owned();
    CString::new(text.clone()).map_err(|error| cannot_attach(&text, &error))
}

/// Why a probe was not attached.
fn cannot_attach(what: &str, error: &dyn std::error::Error) -> Fault {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    Fault::new(
        Status::NotAllowed,
        format!("cannot attach probes to {what}"),
        why,
        "run as root; without uprobe_multi (kernel 6.6) CAP_SYS_ADMIN is needed; `outlive doctor` tells what this host allows",
    )
}
