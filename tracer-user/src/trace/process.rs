//! One traced process: its ledger, its stacks, and the links that hold its probes.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use crate::collector::event::{Event, Happening};
use crate::fault::{Fault, Status};
use crate::ledger::Ledger;
use crate::probes::attach::Links;
use crate::sys::usage::monotonic_ns;
use crate::target::memory::ProcessMemory;
use crate::target::{AddressSpace, CodeLocation, ModuleId, ModuleTable, Pid, Target, VirtAddr};
use crate::trace::kernel::Kernel;

/// One traced process.
pub struct TracedProcess {
    /// The process.
    pub target: Target,
    /// Its outstanding allocations.
    pub ledger: Ledger,
    /// Allocators hooked.
    pub allocators: BTreeSet<String>,
    /// Allocators loaded since, that nobody was told of.
    pub loaded: Vec<String>,
    /// What a reader must know, in words.
    pub notices: Vec<String>,
    /// When tracing started, by the calendar.
    pub started: SystemTime,
    /// When tracing started, `CLOCK_MONOTONIC`, nanoseconds.
    pub started_ns: u64,
    /// It has ended.
    pub ended: bool,
    /// The end of the window, `CLOCK_MONOTONIC`, nanoseconds; what happens later is not recorded.
    pub cut_ns: Option<u64>,
    /// Its memory when it was last looked at.
    pub memory: ProcessMemory,
    /// It has mapped code since its mappings were read.
    pub mapped_code: bool,
    code_left_out: bool,
    space: AddressSpace,
    links: HashMap<ModuleId, Links>,
    /// When the mappings were last followed, `CLOCK_MONOTONIC`, nanoseconds.
    refreshed_ns: u64,
}

/// Least time between two readings of the mappings, nanoseconds.
const REFRESH_NS: u64 = 20_000_000;

impl TracedProcess {
    /// Admits a process. Nothing is attached yet.
    pub fn new(
        target: Target,
        mean_bytes: u64,
        modules: &mut ModuleTable,
        kernel: &mut Kernel,
    ) -> Result<Self, Fault> {
        let space = AddressSpace::open(std::sync::Arc::clone(&target.process), modules)
            .map_err(|error| gone(target.pid, &error))?;
        kernel.admit(target.pid)?;
        let started_ns = monotonic_ns();
        let memory = ProcessMemory::read(&target.process).unwrap_or_default();
        Ok(Self {
            ledger: Ledger::new(mean_bytes, started_ns),
            target,
            allocators: BTreeSet::new(),
            loaded: Vec::new(),
            notices: Vec::new(),
            started: SystemTime::now(),
            started_ns,
            ended: false,
            cut_ns: None,
            memory,
            mapped_code: false,
            code_left_out: false,
            space,
            links: HashMap::new(),
            refreshed_ns: 0,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.target.pid
    }

    /// Attaches to every allocator that is mapped and not attached yet; true when there was one.
    pub fn attach_new(
        &mut self,
        modules: &mut ModuleTable,
        kernel: &mut Kernel,
    ) -> Result<bool, Fault> {
        if let Err(error) = self.space.refresh(modules) {
            return Err(gone(self.pid(), &error));
        }
        self.map_code(modules, kernel)?;
        let mut attached = false;
        for id in self.space.modules() {
            attached |= self.attach_module(id, modules, kernel)?;
        }
        Ok(attached)
    }

    /// Attaches to the allocator in a module, if there is one and it is not attached yet.
    fn attach_module(
        &mut self,
        id: ModuleId,
        modules: &ModuleTable,
        kernel: &mut Kernel,
    ) -> Result<bool, Fault> {
        let (Some(module), false) = (modules.get(id), self.links.contains_key(&id)) else {
            return Ok(false);
        };
        let Some(planned) = kernel.plan(id, module)? else { return Ok(false) };
        let allocator = planned.allocator.clone();
        let single_stepped = planned.single_stepped();
        let Some(links) = kernel.attach(id, modules, self.target.pid)? else { return Ok(false) };
        self.links.insert(id, links);
        if !single_stepped.is_empty() {
            self.notices.push(format!(
                "{allocator}: no instruction of {} can be emulated by the kernel, so each call is single-stepped, \
                 about ten times as expensive in a virtual machine",
                single_stepped.join(", ")
            ));
        }
        self.allocators.insert(allocator);
        Ok(true)
    }

    /// Reads the mappings anew: code that is new gets its unwind tables, and its allocators are attached to. True when
    /// something changed. Not more often than every few milliseconds.
    pub fn follow_mappings(&mut self, modules: &mut ModuleTable, kernel: &mut Kernel) -> bool {
        let now_ns = monotonic_ns();
        if self.cut_ns.is_some() || now_ns - self.refreshed_ns < REFRESH_NS {
            return false;
        }
        self.mapped_code = false;
        self.refreshed_ns = now_ns;
        let changed = self.space.refresh(modules).unwrap_or_else(|error| {
            tracing::debug!("{}: mappings cannot be read: {error}", self.target.pid);
            false
        });
        if changed {
            self.attach_late(modules, kernel);
        }
        changed
    }

    /// Attaches to allocators that were loaded while the window was open, and says so.
    fn attach_late(&mut self, modules: &mut ModuleTable, kernel: &mut Kernel) {
        let before = self.allocators.clone();
        if let Err(fault) = self.attach_new(modules, kernel) {
            self.notices.push(format!("code that was loaded later is not traced: {}", fault.why));
        }
        let after_s = monotonic_ns().saturating_sub(self.started_ns) as f64 / 1e9;
        for allocator in self.allocators.difference(&before) {
            self.notices.push(format!(
                "{allocator} was loaded after tracing had started; it is traced from {after_s:.1} s on"
            ));
            self.loaded.push(allocator.clone());
        }
    }

    /// Tells the kernel side how to walk stacks of what is mapped now.
    fn map_code(&mut self, modules: &ModuleTable, kernel: &mut Kernel) -> Result<(), Fault> {
        if self.cut_ns.is_some() {
            return Ok(());
        }
        if !kernel.map_code(self.target.pid, &self.space, modules)? && !self.code_left_out {
            self.code_left_out = true;
            self.notices.push(
                "some of its code has no unwind table, there was no room for all: stacks are followed by frame pointers there"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Whether any allocator is hooked.
    pub fn is_hooked(&self) -> bool {
        !self.links.is_empty()
    }

    /// The first moment of the window is now: called when everything is attached.
    pub fn start_window(&mut self) {
        self.started = SystemTime::now();
        self.started_ns = monotonic_ns();
        self.ledger.start_at(self.started_ns);
    }

    /// Applies an event of this process. What needs the kernel side is left to the caller.
    ///
    /// Probes go one after the other when they are released: only what happened before the first one went is complete.
    pub fn apply(&mut self, event: &Event) {
        if self.cut_ns.is_some_and(|cut_ns| event.at_ns > cut_ns) {
            return;
        }
        if event.what == Happening::Executed {
            self.notices.push(format!(
                "the process replaced its program {:.1} s into the window; {} blocks of the old one are gone with its memory",
                event.at_ns.saturating_sub(self.started_ns) as f64 / 1e9,
                self.ledger.live_count()
            ));
        }
        self.ledger.apply(event);
    }

    /// Where an address of its memory lies.
    pub fn locate(&self, address: VirtAddr) -> CodeLocation {
        self.space.locate(address)
    }

    /// Ends the window, and hands out the links for [`crate::probes::attach::release`]: once they are released the process
    /// runs as if nothing had been.
    pub fn detach(&mut self, kernel: &mut Kernel) -> Vec<Links> {
        self.cut_ns.get_or_insert_with(monotonic_ns);
        kernel.dismiss(self.target.pid);
        self.links.drain().map(|(_, links)| links).collect()
    }
}

fn gone(pid: Pid, error: &std::io::Error) -> Fault {
    Fault::new(
        Status::NoTarget,
        format!("cannot trace process {pid}"),
        format!("its mappings cannot be read: {error}; it has probably ended"),
        "check the PID; a short-lived program can be traced from its start with `outlive run -- CMD`",
    )
}
