//! One traced process: its ledger, its stacks, and the links that hold its probes.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use tracer_common::stack::StackEnd;

use crate::collector::event::{Event, Happening, Stack};
use crate::fault::{Fault, Status};
use crate::ledger::Ledger;
use crate::probes::attach::Links;
use crate::sys::usage::monotonic_ns;
use crate::target::memory::ProcessMemory;
use crate::target::{AddressSpace, CodeLocation, ModuleId, ModuleTable, Pid, Target};
use crate::trace::kernel::Kernel;

/// A stack in terms of files, so that it outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownStack {
    /// Leaf first: the probed instruction, then return addresses.
    pub locations: Vec<CodeLocation>,
    /// Why it has no further frame.
    pub end: StackEnd,
}

/// One traced process.
pub struct TracedProcess {
    /// The process.
    pub target: Target,
    /// Its outstanding allocations.
    pub ledger: Ledger,
    /// Stacks by identifier.
    pub stacks: HashMap<u64, KnownStack>,
    /// Allocators hooked.
    pub allocators: BTreeSet<String>,
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
    /// Its mappings were read anew and the kernel side was not told.
    pub mappings_changed: bool,
    code_left_out: bool,
    space: AddressSpace,
    links: HashMap<ModuleId, Links>,
    /// When the mappings were last read because an address lay in none, `CLOCK_MONOTONIC`, nanoseconds.
    refreshed_ns: u64,
}

/// Least time between two readings of the mappings because of addresses that lie in none, nanoseconds.
const REFRESH_NS: u64 = 50_000_000;

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
            stacks: HashMap::new(),
            allocators: BTreeSet::new(),
            notices: Vec::new(),
            started: SystemTime::now(),
            started_ns,
            ended: false,
            cut_ns: None,
            memory,
            mappings_changed: false,
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
            let Some(module) = modules.get(id) else { continue };
            if self.links.contains_key(&id) {
                continue;
            }
            let Some(planned) = kernel.plan(id, module)? else { continue };
            let allocator = planned.allocator.clone();
            let single_stepped = planned.single_stepped();
            let Some(links) = kernel.attach(id, modules, self.target.pid)? else { continue };
            self.links.insert(id, links);
            if !single_stepped.is_empty() {
                self.notices.push(format!(
                    "{allocator}: no instruction of {} can be emulated by the kernel, so each call is single-stepped, \
                     about ten times as expensive in a virtual machine",
                    single_stepped.join(", ")
                ));
            }
            self.allocators.insert(allocator);
            attached = true;
        }
        Ok(attached)
    }

    /// Tells the kernel side how to walk stacks of what is mapped now.
    pub fn map_code(&mut self, modules: &ModuleTable, kernel: &mut Kernel) -> Result<(), Fault> {
        self.mappings_changed = false;
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
    pub fn apply(&mut self, event: &Event, modules: &mut ModuleTable) {
        if self.cut_ns.is_some_and(|cut_ns| event.at_ns > cut_ns) {
            return;
        }
        match &event.what {
            Happening::Stack(stack) => self.keep_stack(stack, modules),
            Happening::Executed => {
                self.notices.push(format!(
                    "the process replaced its program {:.1} s into the window; {} blocks of the old one are gone with its memory",
                    event.at_ns.saturating_sub(self.started_ns) as f64 / 1e9,
                    self.ledger.live_count()
                ));
                self.ledger.apply(event);
            }
            _ => self.ledger.apply(event),
        }
    }

    /// Ends the window, and hands out the links for [`crate::probes::attach::release`]: once they are released the process
    /// runs as if nothing had been.
    pub fn detach(&mut self, kernel: &mut Kernel) -> Vec<Links> {
        self.cut_ns.get_or_insert_with(monotonic_ns);
        kernel.dismiss(self.target.pid);
        self.links.drain().map(|(_, links)| links).collect()
    }

    fn keep_stack(&mut self, stack: &Stack, modules: &mut ModuleTable) {
        let mut locations = self.locate(stack);
        let is_unknown = |location: &CodeLocation| matches!(location, CodeLocation::Unknown(_));
        let now_ns = monotonic_ns();
        if locations.iter().any(is_unknown) && now_ns - self.refreshed_ns >= REFRESH_NS {
            self.refreshed_ns = now_ns;
            match self.space.refresh(modules) {
                Ok(changed) => {
                    self.mappings_changed |= changed;
                    locations = self.locate(stack);
                }
                Err(error) => {
                    tracing::debug!("{}: mappings cannot be read: {error}", self.target.pid);
                }
            }
        }
        self.stacks.insert(stack.id, KnownStack { locations, end: stack.end });
    }

    fn locate(&self, stack: &Stack) -> Vec<CodeLocation> {
        stack.frames.iter().map(|address| self.space.locate(*address)).collect()
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
