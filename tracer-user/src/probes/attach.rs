//! Links: exactly one for each file and kind of program. Dropping them detaches.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use tracer_common::function::Shape;

use crate::fault::{Fault, Status};
use crate::probes::features::LinkKind;
use crate::probes::object::{KernelObject, LoadedProgram};
use crate::probes::plan::Site;
use crate::probes::single::{Moment, SinglePrograms};
use crate::sys::bpf::{self, AttachType, MultiLink};
use crate::target::Pid;

/// A planned site and the cookie that stands for it.
pub struct Placed<'a> {
    /// The site.
    pub site: &'a Site,
    /// Index of its row in the kernel's function table.
    pub cookie: u32,
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
    /// As `Multi`, one probe after the other.
    Single(SinglePrograms),
}

/// Probes of one process in one file; detached when dropped.
pub struct Links {
    multi: Vec<OwnedFd>,
    single: Vec<OwnedFd>,
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

/// Entry of allocations, where their return is another program.
pub(super) const ENTER: &str = "allocate_enter";
/// Return of allocations.
pub(super) const LEAVE: &str = "allocate_leave";
/// Releases.
pub(super) const RELEASE: &str = "release_enter";

impl Programs {
    /// Loads what this kind of link needs.
    pub fn load(object: &KernelObject, kind: LinkKind) -> Result<Self, Fault> {
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
            LinkKind::Single => SinglePrograms::load(object).map(Self::Single),
        }
    }

    /// Attaches all sites of one file in one process.
    pub fn attach(
        &mut self,
        object: &KernelObject,
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
            Self::Single(programs) => {
                for (moment, sites) in [
                    (Moment::Release, &releases),
                    (Moment::Leave, &allocations),
                    (Moment::Enter, &allocations),
                ] {
                    links.single.extend(programs.attach(object, moment, path, pid, sites)?);
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
            Self::Single(programs) => return programs.verified_instructions().collect(),
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
    let cookies: Vec<u64> = placed.iter().map(|placed| u64::from(placed.cookie)).collect();
    let link =
        MultiLink { path: &path, offsets: &offsets, cookies: &cookies, pid: pid.0, at_return };
    bpf::link_uprobes(program.fd.as_fd(), attach_type, &link)
        .map_err(|error| cannot_attach(&text, &error))
}

/// Why a probe was not attached.
pub(super) fn cannot_attach(what: &str, error: &dyn std::error::Error) -> Fault {
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
