//! What to attach where: pure, so that it is tested without a kernel.
//!
//! In: a module's segments, code and hooks. Out: one [`Site`] for each function that does its own work, with the row of the
//! kernel's function table that explains its arguments, and the exits of those that may throw.

use std::collections::HashSet;

use tracer_common::exit::ExitInfo;
use tracer_common::function::{FunctionInfo, Shape, traits};

use crate::allocators::cxx::readable;
use crate::allocators::{Hook, Manner, is_known};
use crate::probes::exits::exits;
use crate::probes::flow::{Callee, Code, End, Flow};
use crate::probes::placement::place;
use crate::target::{ElfAddr, FileOffset};

/// A place to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Name of the function.
    pub name: String,
    /// What it does.
    pub shape: Shape,
    /// Position of the probed instruction in the file.
    pub offset: FileOffset,
    /// The kernel must single-step the instruction.
    pub single_stepped: bool,
    /// Explains the arguments to the kernel program.
    pub info: FunctionInfo,
}

impl Site {
    /// Whether its return is not trapped.
    pub fn leaves_by_exits(&self) -> bool {
        self.info.traits & traits::LEAVES_BY_EXITS != 0
    }
}

/// A place where functions that may throw are seen to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitSite {
    /// Position of the probed instruction in the file.
    pub offset: FileOffset,
    /// Explains it to the kernel program.
    pub info: ExitInfo,
}

/// What to attach in a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Functions.
    pub sites: Vec<Site>,
    /// Exits of functions that may throw; they may share some.
    pub exits: Vec<ExitSite>,
    /// Functions that may throw, and return by an instruction that the kernel must single-step.
    pub stepped_returns: Vec<String>,
    /// Functions that may throw, and that cannot be followed to where they return: they are left alone.
    pub unseen: Vec<String>,
}

/// The executable segment of a file that holds a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSegment {
    /// ELF address of its start.
    pub address: u64,
    /// Position of its start in the file.
    pub offset: u64,
    /// Length in the file, bytes.
    pub size_bytes: u64,
}

impl TextSegment {
    /// Position in the file of an address, if it holds it.
    pub fn file_offset(&self, address: ElfAddr) -> Option<FileOffset> {
        let before = address.0.checked_sub(self.address).filter(|b| *b < self.size_bytes)?;
        Some(FileOffset(self.offset.checked_add(before)?))
    }
}

/// Longest stretch of code looked at for a place.
const CODE_BYTES: u64 = 256;

/// Most exits of one function.
const MAX_EXITS_OF_FUNCTION: usize = 64;

/// Plans the functions of a module.
pub fn plan(hooks: &[Hook], segments: &[TextSegment], code: &dyn Code) -> Plan {
    let mut plan = Plan::default();
    let hooked: HashSet<ElfAddr> = hooks.iter().map(|hook| hook.address).collect();
    for hook in hooks {
        let flow = (hook.manner != Manner::Returns).then(|| explore(hook, &hooked, code));
        if flow.as_ref().is_some_and(only_forwards) {
            continue;
        }
        let read = |count: u64| code.bytes(hook.address, count as usize);
        let Some(mut site) = site(hook, segments, read) else { continue };
        if hook.manner == Manner::Throws {
            if !plan.add_exits(hook, &site, segments, code) {
                plan.unseen.push(readable(&hook.name).to_owned());
                continue;
            }
            site.info.traits |= traits::LEAVES_BY_EXITS;
        }
        plan.sites.push(site);
    }
    if !plan.exits.is_empty() {
        plan.sites.iter_mut().for_each(|site| site.info.traits |= traits::MEETS_EXITS);
    }
    plan
}

/// The ways through a function, up to other hooked ones.
fn explore(hook: &Hook, hooked: &HashSet<ElfAddr>, code: &dyn Code) -> Flow {
    let passes_on = |callee: Callee<'_>| match callee {
        Callee::At(address) => address != hook.address && hooked.contains(&address),
        Callee::Named(name) => is_known(name),
    };
    // What happens to a null pointer does not matter: nothing.
    let is_release = hook.shape == Shape::Release;
    Flow::explore(code, hook.address, &passes_on, is_release)
}

/// Whether a function does no more than call, or jump to, another one that is hooked.
fn only_forwards(flow: &Flow) -> bool {
    flow.is_complete && flow.can(End::PassedOn) && !flow.can(End::Return)
}

impl Plan {
    /// Adds the exits of a function that may throw; false when they are not all known.
    fn add_exits(
        &mut self,
        hook: &Hook,
        entry: &Site,
        segments: &[TextSegment],
        code: &dyn Code,
    ) -> bool {
        let flow = Flow::explore(code, hook.address, &|_| false, false);
        if !flow.is_complete {
            return false;
        }
        let offset_of = |address| segments.iter().find_map(|text| text.file_offset(address));
        let mut sites = Vec::new();
        let mut is_stepped = false;
        let is_free = |address| offset_of(address) != Some(entry.offset);
        let exits = exits(&flow, hook.address, &is_free);
        if exits.len() > MAX_EXITS_OF_FUNCTION {
            return false;
        }
        for exit in exits {
            let Some(offset) = offset_of(exit.address) else { return false };
            is_stepped |= exit.info.single_stepped != 0;
            sites.push(ExitSite { offset, info: exit.info });
        }
        sites.retain(|site| !self.exits.contains(site));
        self.exits.extend(sites);
        if is_stepped {
            self.stepped_returns.push(readable(&hook.name).to_owned());
        }
        true
    }
}

/// Plans one function. `read` gives up to so many bytes of its code. `None` when the function does not lie in any executable
/// segment.
fn site(hook: &Hook, segments: &[TextSegment], read: impl FnOnce(u64) -> Vec<u8>) -> Option<Site> {
    let address = hook.address.0;
    let segment = segments
        .iter()
        .find(|text| address >= text.address && address - text.address < text.size_bytes)?;
    let before = address - segment.address;
    let start = FileOffset(segment.offset.checked_add(before)?);
    let left = segment.size_bytes - before;
    let wanted = if hook.size_bytes == 0 { CODE_BYTES } else { hook.size_bytes.min(CODE_BYTES) };
    let placement = place(&read(wanted.min(left)), address);
    let body_bytes = hook.size_bytes.max(placement.offset);
    Some(Site {
        name: hook.name.clone(),
        shape: hook.shape,
        offset: FileOffset(start.0 + placement.offset),
        single_stepped: placement.single_stepped,
        info: FunctionInfo {
            shape: hook.shape as u32,
            traits: (u32::from(placement.single_stepped) * traits::SINGLE_STEPPED)
                | (u32::from(hook.in_heap) * traits::IN_HEAP),
            text_before: before + placement.offset,
            text_after: left.saturating_sub(placement.offset),
            body_before: placement.offset,
            body_after: body_bytes - placement.offset,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: TextSegment = TextSegment { address: 0x2000, offset: 0x1000, size_bytes: 0x500 };

    fn hook(address: u64) -> Hook {
        Hook {
            name: "free".into(),
            shape: Shape::Release,
            manner: Manner::Returns,
            in_heap: false,
            address: ElfAddr(address),
            size_bytes: 64,
        }
    }

    #[test]
    fn a_function_is_found_in_its_segment() {
        let free = [0x48, 0x85, 0xff, 0x74, 0x20];
        let site = site(&hook(0x2100), &[TEXT], |bytes| {
            assert_eq!(bytes, 64);
            free.to_vec()
        })
        .expect("planned");
        assert_eq!(site.offset, FileOffset(0x1103));
        assert_eq!(site.info.text_before, 0x103);
        assert_eq!(site.info.text_after, 0x400 - 3);
        assert_eq!((site.info.body_before, site.info.body_after), (3, 61));
    }

    #[test]
    fn a_function_outside_every_segment_is_left_out() {
        assert_eq!(site(&hook(0x2500), &[TEXT], |_| Vec::new()), None);
        assert_eq!(site(&hook(0x1fff), &[TEXT], |_| Vec::new()), None);
    }
}
