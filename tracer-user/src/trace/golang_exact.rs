//! Every object of a Go heap, for as long as it is asked for: what is allocated, and what collections leave of it.
//!
//! In: a process, and the events of its probes. Out: the end of objects, for the ledger; names for stacks. A sweep tells which slots of a span live on:
//! the objects that were given out there since tracing started, and that do not, have ended.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use tracer_common::golang::{MAX_SLOTS, PAGE_BYTES};

use crate::collector::event::{Event, Happening, SweptSpan};
use crate::golang::GoProcess;
use crate::ledger::Ledger;
use crate::probes::attach::Links;
use crate::report::Stack;
use crate::snapshot::frames;
use crate::target::{CodeLocation, ElfAddr, ModuleTable, Target, VirtAddr};
use crate::trace::golang::NotFollowed;
use crate::trace::kernel::Kernel;
use crate::trace::stacks::KnownStack;

/// Most pages of a span with more than one slot.
const MAX_PAGES: u64 = 16;

/// The Go heap of one process, all of it.
pub struct ExactGoHeap {
    process: GoProcess,
    links: Option<Links>,
    /// Objects that were given out and have not ended, by the page that they begin in.
    pages: HashMap<u64, Vec<VirtAddr>, FixedState>,
}

impl ExactGoHeap {
    /// Attaches to where the runtime allocates and sweeps.
    pub fn follow(target: &Target, kernel: &mut Kernel) -> Result<Self, NotFollowed> {
        let process = GoProcess::open(target)?;
        let hooks = process.allocation_hooks()?;
        let places = process.allocated(&hooks)?;
        let sweep = (hooks.swept.offset, process.sweep(&hooks));
        let links = kernel.attach_go_exact(&process.module, sweep, &places, target.pid);
        let links = Some(links.map_err(NotFollowed::NotAttached)?);
        Ok(Self { process, links, pages: HashMap::default() })
    }

    /// What it is, for people.
    pub fn name(&self) -> String {
        format!("{} runtime", self.process.version)
    }

    /// The version of Go.
    pub fn version(&self) -> &str {
        &self.process.version.text
    }

    /// Applies an event that the ledger has applied already.
    pub fn apply(&mut self, event: &Event, ledger: &mut Ledger) {
        match &event.what {
            Happening::Allocated(allocation) => {
                let page = allocation.address.0 / PAGE_BYTES;
                self.pages.entry(page).or_default().push(allocation.address);
            }
            Happening::GoSwept(span) => {
                for address in self.sweep(span) {
                    ledger.apply(&Event { what: Happening::Freed(address), ..event.clone() });
                }
            }
            Happening::Executed => self.pages.clear(),
            _ => {}
        }
    }

    /// Takes out the objects that end with a sweep.
    fn sweep(&mut self, span: &SweptSpan) -> Vec<VirtAddr> {
        let mut ended = Vec::new();
        let slots = span.slots.min(MAX_SLOTS);
        let bytes = slots.saturating_mul(span.slot_bytes);
        let count = if slots == 1 { 1 } else { bytes.div_ceil(PAGE_BYTES).min(MAX_PAGES) };
        let first = span.start.0 / PAGE_BYTES;
        for page in first..first.saturating_add(count) {
            let Some(objects) = self.pages.get_mut(&page) else { continue };
            objects.retain(|object| {
                let lives_on = is_marked(span, *object);
                if !lives_on {
                    ended.push(*object);
                }
                lives_on
            });
            if objects.is_empty() {
                self.pages.remove(&page);
            }
        }
        ended
    }

    /// Names a stack; what is not in its own code as `others` says.
    pub fn stack(
        &self,
        known: &KnownStack,
        modules: &ModuleTable,
        others: &dyn Fn(&[CodeLocation]) -> Vec<crate::symbolise::Frame>,
    ) -> Stack {
        let mut named = Vec::new();
        let mut own_frames = None;
        let mut type_name = None;
        for location in &known.locations {
            let Some(address) = self.in_own_code(location, modules) else {
                named.extend(others(std::slice::from_ref(location)));
                continue;
            };
            // It is a return address: the call is before.
            let call = ElfAddr(address.0.wrapping_sub(1));
            for frame in self.process.code().frames(call) {
                if frames::is_root(&frame) {
                    continue;
                }
                if own_frames.is_none() && !frames::is_runtimes(&frame) {
                    own_frames = Some(named.len());
                    let back = VirtAddr(address.0.wrapping_add(self.process.bias()));
                    type_name = self.process.type_allocated(back);
                }
                named.push(frames::section_frame(&self.process, frame));
            }
        }
        Stack { frames: named, end: Some(known.end), own_frames: own_frames.or(Some(0)), type_name }
    }

    /// Whether a stack begins in its code: an allocation of its heap.
    pub fn is_go(&self, known: &KnownStack, modules: &ModuleTable) -> bool {
        known.locations.first().is_some_and(|first| self.in_own_code(first, modules).is_some())
    }

    fn in_own_code(&self, location: &CodeLocation, modules: &ModuleTable) -> Option<ElfAddr> {
        let CodeLocation::InModule(id, address) = location else { return None };
        let module = modules.get(*id)?;
        (module.path == self.process.module.path).then_some(*address)
    }

    /// What a reader must know, in words.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = vec![
            "every allocation of its Go heap is recorded, which slows it many times: the kernel single-steps an instruction for each, a few microseconds; bytes are those of slots; an object ends when its memory is swept; what was there before is in no site".to_owned(),
        ];
        notices.extend(self.process.notices());
        notices
    }

    /// Hands out the links, to be released.
    pub fn detach(&mut self) -> Option<Links> {
        self.links.take()
    }
}

fn is_marked(span: &SweptSpan, object: VirtAddr) -> bool {
    let distance = object.0.wrapping_sub(span.start.0);
    let slot = distance.checked_div(span.slot_bytes).filter(|slot| *slot < span.slots);
    slot.is_none_or(|slot| {
        let word = span.marks.get((slot / 64) as usize);
        word.is_none_or(|word| word >> (slot % 64) & 1 == 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_live_on_by_the_mark_of_their_slot() {
        let mut marks = [0; tracer_common::golang::MARK_WORDS];
        marks[1] = 0b10;
        let span = SweptSpan { start: VirtAddr(0x4000), slot_bytes: 48, slots: 170, marks };
        let is_marked =
            |slot: u64, offset: u64| is_marked(&span, VirtAddr(0x4000 + 48 * slot + offset));
        assert!(is_marked(65, 0) && is_marked(65, 47));
        assert!(!is_marked(64, 0) && !is_marked(66, 0) && !is_marked(0, 8));
        assert!(is_marked(170, 0), "no slot of this span");
    }
}
