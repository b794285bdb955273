//! Call stacks by identifier, in terms of files, so that they outlive processes and mappings.
//!
//! In: stacks as kernel programs send them. Out: [`KnownStack`]s. A stack that went through code the kernel side had not been
//! told of has another identifier than the same stack later: once its places are known it gets that one, and what was
//! allocated under the first counts there.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::limits::MAX_FRAMES;
use tracer_common::stack::StackEnd;

use crate::collector::event::{CopiedStack, Stack};
use crate::target::{CodeLocation, ModuleTable};
use crate::trace::kernel::Kernel;
use crate::trace::process::TracedProcess;
use crate::unwind::walk::walk;

/// A stack in terms of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownStack {
    /// Leaf first: the probed instruction, then return addresses.
    pub locations: Vec<CodeLocation>,
    /// Why it has no further frame.
    pub end: StackEnd,
}

/// All stacks of a run.
#[derive(Debug, Default)]
pub struct Stacks {
    known: HashMap<u64, KnownStack, FixedState>,
    /// Identifiers that stand for another one.
    same_as: HashMap<u64, u64, FixedState>,
}

impl Stacks {
    /// The stack with this identifier.
    pub fn get(&self, id: u64) -> Option<&KnownStack> {
        self.known.get(&id)
    }

    /// The identifier that a stack is known by.
    pub fn canonical(&self, id: u64) -> u64 {
        if self.same_as.is_empty() { id } else { self.same_as.get(&id).copied().unwrap_or(id) }
    }

    /// Takes in a stack. Addresses in no known file make the mappings of the process be read anew.
    pub fn keep(
        &mut self,
        stack: &Stack,
        process: &mut TracedProcess,
        kernel: &mut Kernel,
        modules: &mut ModuleTable,
    ) {
        let mut locations = locate(stack, process, kernel);
        let is_unknown = |location: &CodeLocation| matches!(location, CodeLocation::Unknown(_));
        if locations.iter().any(is_unknown) && process.follow_mappings(modules, kernel) {
            locations = locate(stack, process, kernel);
        }
        self.publish(&[stack.id], KnownStack { locations, end: stack.end }, process, kernel);
    }

    /// Walks on from where a stack entered code that was unknown then, if it is known by now.
    pub fn complete(&mut self, copied: &CopiedStack, process: &TracedProcess, kernel: &Kernel) {
        let id = self.canonical(copied.id);
        let Some(stack) = self.known.get(&id) else { return };
        let mut locations = stack.locations.clone();
        locations.truncate(copied.depth);
        if matches!(locations.last(), None | Some(CodeLocation::Unknown(_))) {
            return;
        }
        let (callers, end) = walk(copied.copy.clone(), MAX_FRAMES - locations.len(), |address| {
            match process.locate(address) {
                CodeLocation::InModule(module, address) => kernel.rule_at(module, address),
                CodeLocation::Unknown(_) => None,
            }
        });
        locations.extend(callers.into_iter().map(|address| process.locate(address)));
        self.publish(&[copied.id, id], KnownStack { locations, end }, process, kernel);
    }

    /// Why stacks ended, of those with the given identifiers.
    pub fn ends(&self, ids: impl Iterator<Item = u64>) -> impl Iterator<Item = StackEnd> {
        ids.filter_map(|id| self.get(id)).map(|stack| stack.end)
    }

    fn publish(
        &mut self,
        former: &[u64],
        stack: KnownStack,
        process: &TracedProcess,
        kernel: &Kernel,
    ) {
        let id = kernel.identify(&stack.locations, process.pid());
        for former in former.iter().filter(|former| **former != id) {
            self.same_as.insert(*former, id);
        }
        self.known.insert(id, stack);
    }
}

/// Frames in files mean the same for ever; the others are looked for among the mappings.
fn locate(stack: &Stack, process: &TracedProcess, kernel: &Kernel) -> Vec<CodeLocation> {
    let place = |frame: &u64| match kernel.locate(*frame) {
        CodeLocation::Unknown(address) => process.locate(address),
        known @ CodeLocation::InModule(..) => known,
    };
    stack.frames.iter().map(place).collect()
}
