//! What is attached in one process: the probes of its allocators, or those of the sampler that it brings itself.
//!
//! In: the modules it has mapped, planned. Out: links held, what they belong to, what a reader must know of them.

use std::collections::{BTreeSet, HashMap};

use crate::allocators::code::AllocatorCode;
use crate::allocators::usdt::Provider;
use crate::fault::Fault;
use crate::probes::attach::{Links, release};
use crate::target::{ElfAddr, ModuleId, ModuleTable, Pid};
use crate::trace::kernel::Kernel;

/// Who tells of a process's allocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Probes on its allocators.
    #[default]
    Allocators,
    /// Its own sampler.
    Sampler(Provider),
}

/// The probes of one process.
#[derive(Default)]
pub struct Hooks {
    /// Who tells of allocations.
    pub source: Source,
    /// Names of what is hooked, for people.
    pub allocators: BTreeSet<String>,
    /// What a reader must know of it, in words.
    pub notices: Vec<String>,
    links: HashMap<ModuleId, Links>,
    code: HashMap<ModuleId, AllocatorCode>,
    /// Frees are not probed any more.
    is_without_frees: bool,
    /// Samplers that came too late.
    unheard: BTreeSet<Provider>,
    /// The process runs another program since, whose source is chosen anew.
    has_executed: bool,
}

impl Hooks {
    /// Attaches to what these modules have and is not attached yet; true when there was something.
    ///
    /// While nothing has been recorded, a sampler takes the place of allocators that are hooked already.
    pub fn attach(
        &mut self,
        pid: Pid,
        mapped: &BTreeSet<ModuleId>,
        has_recorded: bool,
        modules: &ModuleTable,
        kernel: &mut Kernel,
    ) -> Result<bool, Fault> {
        for id in mapped {
            if let Some(module) = modules.get(*id) {
                let allocator = &kernel.plan(*id, module)?.allocator;
                let code = allocator.as_ref().map(|allocator| (*id, allocator.code.clone()));
                self.code.extend(code);
            }
        }
        let is_choice_open = !has_recorded || self.links.is_empty() || self.has_executed;
        self.choose_source(mapped, is_choice_open, kernel);
        self.has_executed = false;
        let mut attached = false;
        for id in mapped {
            attached |= self.attach_module(pid, *id, modules, kernel)?;
        }
        Ok(attached)
    }

    /// Whether anything is attached.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether an address is in the code of a hooked allocator.
    pub fn is_allocators(&self, module: ModuleId, address: ElfAddr) -> bool {
        self.code.get(&module).is_some_and(|code| code.contains(address))
    }

    /// Hands out the links, to be released.
    pub fn take(&mut self) -> Vec<Links> {
        self.links.drain().map(|(_, links)| links).collect()
    }

    /// Goes on without the probes of releasing functions.
    pub fn drop_frees(&mut self) {
        self.is_without_frees = true;
        release(self.links.values_mut().map(Links::take_releases).collect());
    }

    /// The process runs another program, which may have another source.
    pub fn executed(&mut self) {
        if let Source::Sampler(_) = self.source {
            self.source = Source::Allocators;
            self.give_up();
        }
        self.has_executed = true;
    }

    fn give_up(&mut self) {
        release(self.take());
        self.allocators.clear();
        self.notices.clear();
    }

    fn choose_source(&mut self, mapped: &BTreeSet<ModuleId>, is_open: bool, kernel: &Kernel) {
        let (Some(provider), Source::Allocators) = (kernel.best_provider(mapped), self.source)
        else {
            return;
        };
        if !is_open {
            if self.unheard.insert(provider) {
                self.notices.push(format!(
                    "the process has loaded a sampler of its own, {}, after tracing had started: its allocators stay hooked",
                    provider.name()
                ));
            }
            return;
        }
        self.give_up();
        self.source = Source::Sampler(provider);
    }

    fn attach_module(
        &mut self,
        pid: Pid,
        id: ModuleId,
        modules: &ModuleTable,
        kernel: &mut Kernel,
    ) -> Result<bool, Fault> {
        let (Some(module), false) = (modules.get(id), self.links.contains_key(&id)) else {
            return Ok(false);
        };
        let planned = kernel.plan(id, module)?;
        let (name, notices) = match self.source {
            Source::Allocators => {
                let Some(allocator) = &planned.allocator else { return Ok(false) };
                (allocator.name.clone(), allocator.notices.clone())
            }
            Source::Sampler(provider) => {
                let Some(sampler) = planned.sampler(provider) else { return Ok(false) };
                (format!("{} (USDT)", provider.name()), sampler.notices.clone())
            }
        };
        let Some(mut links) = kernel.attach(id, module, self.source, pid)? else {
            return Ok(false);
        };
        if self.is_without_frees {
            release(vec![links.take_releases()]);
        }
        self.links.insert(id, links);
        self.notices.extend(notices);
        self.allocators.insert(name);
        Ok(true)
    }
}
