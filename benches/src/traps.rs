//! The least that probes on an allocator can cost: the kernel is trapped at each call, counts it, and does nothing else.
//!
//! In: a process. Out: traps in its C library's functions, where outlive would put its probes, until they are dropped.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use outlive::allocators::discover::discover;
use outlive::probes::module_code::ModuleCode;
use outlive::probes::plan::{Site, plan};
use outlive::sys::perf::{self, Probe};
use outlive::target::elf::Elf;
use outlive::target::{AddressSpace, Module, ModuleTable, Pid, Target};

use crate::evidence::Evidence;

/// How long a program may take to load its C library.
const PATIENCE: Duration = Duration::from_secs(10);

/// Traps; they go when this is dropped.
pub(crate) struct Traps {
    /// One for each function.
    events: Vec<File>,
}

impl Traps {
    /// Sets them in a process.
    pub(crate) fn set(pid: u32) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = traps_of_process(pid)?;
            if !events.is_empty() {
                return Ok(Self { events });
            }
            // It has only just been started, and its loader is at work.
            ensure!(Instant::now() < deadline, "there is no allocator in process {pid}");
            thread::yield_now();
        }
    }

    /// Sets them at instructions of a file.
    pub(crate) fn at(path: &Path, offsets: &[u64], pid: u32) -> Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let events =
            offsets.iter().map(|offset| trap(&path, *offset, pid)).collect::<Result<_>>()?;
        Ok(Self { events })
    }

    /// Checks that they were hit.
    ///
    /// `least` as for other tracers; hits in threads other than the first are not counted.
    pub(crate) fn evidence(mut self, least: u64) -> Result<Evidence> {
        let mut hits = 0;
        for event in &mut self.events {
            let mut count = [0; 8];
            event.read_exact(&mut count).context("a trap does not tell how often it was hit")?;
            hits += u64::from_ne_bytes(count);
        }
        ensure!(hits >= least, "traps were hit {hits} times, not even {least}");
        Ok(Evidence::default())
    }
}

fn traps_of_process(pid: u32) -> Result<Vec<File>> {
    let target = Target::open(Pid(pid)).map_err(|fault| anyhow!("{}", fault.why))?;
    let mut modules = ModuleTable::new();
    AddressSpace::open(Arc::clone(&target.process), &mut modules)
        .context("its memory cannot be read")?;
    let mut events = Vec::new();
    for (_, module) in modules.iter() {
        events.extend(traps(module, pid)?);
    }
    Ok(events)
}

fn traps(module: &Module, pid: u32) -> Result<Vec<File>> {
    let (Some(file), Some(allocator)) = (&module.file, discover(module, &[])) else {
        return Ok(Vec::new());
    };
    let elf = Elf::read(file)?;
    let code = ModuleCode::new(file, &elf);
    let planned = plan(&allocator.hooks, code.segments(), &code);
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let trap = |site: Site| {
        let event = trap(&path, site.offset.0, pid);
        event.with_context(|| format!("{} cannot be trapped", site.name))
    };
    planned.sites.into_iter().map(trap).collect()
}

fn trap(path: &CStr, offset: u64, pid: u32) -> Result<File> {
    let probe = Probe { path, offset, semaphore: 0, pid, at_return: false };
    Ok(perf::count(&probe).map(File::from)?)
}
