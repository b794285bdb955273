//! Probes one by one, as perf events: for kernels without uprobe multi links (before 6.6).
//!
//! In: the kernel programs, places. Out: descriptors that hold one probe each. A perf event of an old kernel has no
//! cookie, so that each function has a copy of its program with the cookie written into it, loaded when it is first used.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use crate::fault::Fault;
use crate::probes::attach::{ENTER, LEAVE, Placed, RELEASE, cannot_attach};
use crate::probes::features::has_loop;
use crate::probes::object::{KernelObject, LoadedProgram};
use crate::sys::perf::{self, Probe};
use crate::target::Pid;

/// Entry of allocations on kernels before 5.17.
pub(super) const ENTER_EARLY: &str = "allocate_enter_early";

/// Which program of a pair a probe runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The entry of an allocating function.
    Enter,
    /// Its return.
    Leave,
    /// The entry of a releasing function.
    Release,
}

/// Programs by name and function.
pub struct SinglePrograms {
    enter: &'static str,
    loaded: BTreeMap<(&'static str, u32), LoadedProgram>,
}

impl SinglePrograms {
    /// Loads each program once, to see that the kernel accepts it.
    pub fn load(object: &KernelObject) -> Result<Self, Fault> {
        let enter = if has_loop() { ENTER } else { ENTER_EARLY };
        let mut programs = Self { enter, loaded: BTreeMap::new() };
        for moment in [Moment::Enter, Moment::Leave, Moment::Release] {
            programs.of_function(object, moment, 0)?;
        }
        Ok(programs)
    }

    /// Attaches to each place.
    pub fn attach(
        &mut self,
        object: &KernelObject,
        moment: Moment,
        path: &Path,
        pid: Pid,
        placed: &[&Placed<'_>],
    ) -> Result<Vec<OwnedFd>, Fault> {
        let text = path.to_string_lossy().into_owned();
        let path = CString::new(text.clone()).map_err(|error| cannot_attach(&text, &error))?;
        let at_return = moment == Moment::Leave;
        let mut links = Vec::new();
        for placed in placed {
            let program = self.of_function(object, moment, placed.cookie)?;
            let probe = Probe { path: &path, offset: placed.site.offset.0, pid: pid.0, at_return };
            let link = perf::attach(program.fd.as_fd(), &probe);
            links.push(link.map_err(|error| cannot_attach(&placed.site.name, &error))?);
        }
        Ok(links)
    }

    /// Instructions the verifier walked through for each program, where the kernel tells.
    pub fn verified_instructions(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let counts = self.loaded.iter().map(|((name, _), program)| (*name, program));
        counts.filter_map(|(name, program)| Some((name, program.verified_instructions?)))
    }

    fn of_function(
        &mut self,
        object: &KernelObject,
        moment: Moment,
        cookie: u32,
    ) -> Result<&LoadedProgram, Fault> {
        use std::collections::btree_map::Entry;
        let key = match moment {
            Moment::Enter => (self.enter, cookie),
            // A return knows its function from the entry.
            Moment::Leave => (LEAVE, 0),
            Moment::Release => (RELEASE, cookie),
        };
        match self.loaded.entry(key) {
            Entry::Occupied(loaded) => Ok(loaded.into_mut()),
            Entry::Vacant(vacant) => Ok(vacant.insert(object.load_for(key.0, key.1)?)),
        }
    }
}
