//! Rows of the kernel's tables by process: how often its probes ran, and how they shall work.
//!
//! In: processes that are admitted. Out: the place of each in the tables, and the sums over CPUs of what is counted there.

use std::collections::BTreeMap;

use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use tracer_common::limits::MAX_PROCESSES;
use tracer_common::process::{Hits, ProcessControl};

use crate::fault::Fault;
use crate::probes::object::KernelObject;
use crate::sys::pod::{ControlRow, HitsRow};
use crate::target::Pid;
use crate::trace::kernel::unusable;

/// The tables, and who has which row. Row 0 is nobody's.
pub struct Places {
    controls: Array<MapData, ControlRow>,
    hits: PerCpuArray<MapData, HitsRow>,
    by_process: BTreeMap<Pid, u32>,
    free: Vec<u32>,
}

impl Places {
    /// Takes the tables of the kernel side.
    pub fn open(object: &mut KernelObject) -> Result<Self, Fault> {
        Ok(Self {
            controls: Array::try_from(object.take_map("PROCESSES")?).map_err(unusable)?,
            hits: PerCpuArray::try_from(object.take_map("HITS_BY_CPU")?).map_err(unusable)?,
            by_process: BTreeMap::new(),
            free: (1..MAX_PROCESSES).rev().collect(),
        })
    }

    /// Gives a process a row with nothing in it.
    pub fn admit(&mut self, pid: Pid) -> Result<u32, Fault> {
        if let Some(place) = self.by_process.get(&pid) {
            return Ok(*place);
        }
        let place = self.free.pop().ok_or_else(|| unusable("too many processes to trace"))?;
        self.by_process.insert(pid, place);
        self.control(pid, ProcessControl::default())?;
        let cpus = nr_cpus().map_err(|(_, error)| unusable(error))?;
        let zeros = PerCpuValues::try_from(vec![HitsRow(Hits::default()); cpus]);
        self.hits.set(place, zeros.map_err(unusable)?, 0).map_err(unusable)?;
        Ok(place)
    }

    /// Takes back the row of a process.
    pub fn forget(&mut self, pid: Pid) {
        self.free.extend(self.by_process.remove(&pid));
    }

    /// The row of an admitted process; nobody's for another.
    pub fn of(&self, pid: Pid) -> u32 {
        self.by_process.get(&pid).copied().unwrap_or(0)
    }

    /// Tells the probes of a process how to work.
    pub fn control(&mut self, pid: Pid, control: ProcessControl) -> Result<(), Fault> {
        self.controls.set(self.of(pid), ControlRow(control), 0).map_err(unusable)
    }

    /// How often the probes of a process ran; none when that cannot be read.
    pub fn hits(&self, pid: Pid) -> Hits {
        let mut sum = Hits::default();
        let Ok(rows) = self.hits.get(&self.of(pid), 0) else { return sum };
        for HitsRow(row) in rows.iter() {
            sum = sum.combined(row, u64::wrapping_add);
        }
        sum
    }
}
