//! Links: exactly one for each file and kind of program. Dropping them detaches.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use aya::programs::UProbe;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use tracer_common::function::Shape;

use crate::fault::{Fault, Status};
use crate::probes::features::LinkKind;
use crate::probes::object::{KernelObject, LoadedProgram};
use crate::probes::plan::Site;
use crate::sys::bpf::{self, AttachType, MultiLink};
use crate::target::Pid;

/// A planned site and the cookie that stands for it.
pub struct Placed<'a> {
    /// The site.
    pub site: &'a Site,
    /// Index of its row in the kernel's function table.
    pub cookie: u64,
}

/// The programs that probes run, loaded once and shared by all targets.
pub enum Programs {
    /// Entry and return of allocations in one program; releases.
    Session {
        /// Allocations.
        both: LoadedProgram,
        /// Releases.
        release: LoadedProgram,
    },
    /// Entry and return of allocations in two programs; releases.
    Multi {
        /// Entry of allocations.
        enter: LoadedProgram,
        /// Return of allocations.
        leave: LoadedProgram,
        /// Releases.
        release: LoadedProgram,
    },
    /// As `Multi`, through aya's perf events.
    Single,
}

/// Probes of one process in one file; detached when dropped.
pub struct Links {
    multi: Vec<OwnedFd>,
    single: Vec<UProbeLink>,
}

impl Links {
    /// How many kernel objects hold the probes.
    pub fn len(&self) -> usize {
        self.multi.len() + self.single.len()
    }

    /// Whether nothing is attached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        }
    });
}

const ENTER: &str = "allocate_enter";
const LEAVE: &str = "allocate_leave";
const RELEASE: &str = "release_enter";

impl Programs {
    /// Loads what this kind of link needs.
    pub fn load(object: &mut KernelObject, kind: LinkKind) -> Result<Self, Fault> {
        match kind {
            LinkKind::Session => Ok(Self::Session {
                both: object.load("allocate_both", AttachType::UprobeSession)?,
                release: object.load(RELEASE, AttachType::UprobeMulti)?,
            }),
            LinkKind::Multi => Ok(Self::Multi {
                enter: object.load(ENTER, AttachType::UprobeMulti)?,
                leave: object.load(LEAVE, AttachType::UprobeMulti)?,
                release: object.load(RELEASE, AttachType::UprobeMulti)?,
            }),
            LinkKind::Single => {
                for name in [ENTER, LEAVE, RELEASE] {
                    uprobe(object, name)?.load().map_err(|error| cannot_attach(name, &error))?;
                }
                Ok(Self::Single)
            }
        }
    }

    /// Attaches all sites of one file in one process.
    pub fn attach(
        &self,
        object: &mut KernelObject,
        path: &Path,
        pid: Pid,
        placed: &[Placed<'_>],
    ) -> Result<Links, Fault> {
        let (releases, allocations): (Vec<&Placed<'_>>, Vec<&Placed<'_>>) =
            placed.iter().partition(|placed| placed.site.shape == Shape::Release);
        let link = |program: &LoadedProgram, kind, sites: &[&Placed<'_>], at_return| {
            link_file(program, kind, path, pid, sites, at_return)
        };
        let mut links = Links { multi: Vec::new(), single: Vec::new() };
        match self {
            Self::Session { both, release } => {
                // Releases first: a block given out before they are there would seem to live for ever.
                links.multi.push(link(release, AttachType::UprobeMulti, &releases, false)?);
                links.multi.push(link(both, AttachType::UprobeSession, &allocations, false)?);
            }
            Self::Multi { enter, leave, release } => {
                links.multi.push(link(release, AttachType::UprobeMulti, &releases, false)?);
                links.multi.push(link(leave, AttachType::UprobeMulti, &allocations, true)?);
                links.multi.push(link(enter, AttachType::UprobeMulti, &allocations, false)?);
            }
            Self::Single => {
                for (name, sites) in
                    [(RELEASE, &releases), (LEAVE, &allocations), (ENTER, &allocations)]
                {
                    links.single.extend(link_each(object, name, path, pid, sites)?);
                }
            }
        }
        Ok(links)
    }

    /// Programs and the instructions the verifier walked through for each, where the kernel tells.
    pub fn verified_instructions(&self) -> BTreeMap<&'static str, u32> {
        let programs: Vec<(&'static str, &LoadedProgram)> = match self {
            Self::Session { both, release } => vec![("allocate_both", both), (RELEASE, release)],
            Self::Multi { enter, leave, release } => {
                vec![(ENTER, enter), (LEAVE, leave), (RELEASE, release)]
            }
            Self::Single => Vec::new(),
        };
        programs
            .into_iter()
            .filter_map(|(name, program)| Some((name, program.verified_instructions?)))
            .collect()
    }
}

fn link_file(
    program: &LoadedProgram,
    attach_type: AttachType,
    path: &Path,
    pid: Pid,
    placed: &[&Placed<'_>],
    at_return: bool,
) -> Result<OwnedFd, Fault> {
    let text = path.to_string_lossy().into_owned();
    let path = CString::new(text.clone()).map_err(|error| cannot_attach(&text, &error))?;
    let offsets: Vec<u64> = placed.iter().map(|placed| placed.site.offset.0).collect();
    let cookies: Vec<u64> = placed.iter().map(|placed| placed.cookie).collect();
    let link =
        MultiLink { path: &path, offsets: &offsets, cookies: &cookies, pid: pid.0, at_return };
    bpf::link_uprobes(program.fd.as_fd(), attach_type, &link)
        .map_err(|error| cannot_attach(&text, &error))
}

fn link_each(
    object: &mut KernelObject,
    name: &str,
    path: &Path,
    pid: Pid,
    placed: &[&Placed<'_>],
) -> Result<Vec<UProbeLink>, Fault> {
    let Some(process) = NonZeroU32::new(pid.0) else { return Ok(Vec::new()) };
    let program = uprobe(object, name)?;
    let mut links = Vec::new();
    for placed in placed {
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(placed.site.offset.0),
            cookie: Some(placed.cookie),
        };
        let id = program
            .attach(point, path, UProbeScope::OneProcess(process))
            .map_err(|error| cannot_attach(placed.site.name, &error))?;
        links.push(program.take_link(id).map_err(|error| cannot_attach(placed.site.name, &error))?);
    }
    Ok(links)
}

fn uprobe<'a>(object: &'a mut KernelObject, name: &str) -> Result<&'a mut UProbe, Fault> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let program = object.ebpf.program_mut(name).ok_or_else(|| cannot_attach(name, &missing()))?;
    program.try_into().map_err(|error: aya::programs::ProgramError| cannot_attach(name, &error))
}

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
