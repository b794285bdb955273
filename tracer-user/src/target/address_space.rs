//! Where the code of one process lies: addresses in its memory to addresses in its modules.
//!
//! In: `/proc/PID/maps` and the modules' segments. Out: [`CodeLocation`]s, also after the process has ended or unloaded a library.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::elf::Elf;
use super::maps::{Mapping, parse_executable};
use super::proc_dir::ProcDir;
use super::{CodeLocation, ElfAddr, FileOffset, ModuleId, ModuleTable, VirtAddr};

/// A mapping that shows code of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: VirtAddr,
    /// First address after it.
    pub end: VirtAddr,
    /// The module.
    pub module: ModuleId,
    /// Position in the file that `start` shows.
    pub file_offset: FileOffset,
    /// What to subtract (wrapping) from an address here to get the address in the module.
    pub bias: u64,
}

impl Region {
    fn contains(&self, address: VirtAddr) -> bool {
        (self.start..self.end).contains(&address)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The code of one process.
#[derive(Debug)]
pub struct AddressSpace {
    process: Arc<ProcDir>,
    /// Sorted by address, not overlapping.
    current: Vec<Region>,
    /// Regions that were unmapped and whose addresses no later one took: stacks from before may still need them.
    unmapped: Vec<Region>,
}

impl AddressSpace {
    /// Reads the mappings of a process.
    pub fn open(process: Arc<ProcDir>, modules: &mut ModuleTable) -> io::Result<Self> {
        let mut space = Self { process, current: Vec::new(), unmapped: Vec::new() };
        space.refresh(modules)?;
        Ok(space)
    }

    /// Reads the mappings anew; true when something changed. When the process has ended, the last ones stay.
    ///
    /// A process that runs another program (`exec`) has none of its former mappings: those are forgotten then.
    pub fn refresh(&mut self, modules: &mut ModuleTable) -> io::Result<bool> {
        let text = match self.process.read("maps") {
            Ok(text) => text,
            Err(_) if !self.current.is_empty() => return Ok(false),
            Err(error) => return Err(error),
        };
        let mappings = parse_executable(&text);
        let mut regions: Vec<_> =
            mappings.iter().filter_map(|m| region(&self.process, m, modules)).collect();
        regions.sort_by_key(|region| region.start);
        if regions.is_empty() || regions == self.current {
            return Ok(false);
        }
        self.replace(regions);
        Ok(true)
    }

    fn replace(&mut self, regions: Vec<Region>) {
        let former = std::mem::replace(&mut self.current, regions);
        let kept = former.iter().any(|region| self.current.contains(region));
        if kept {
            self.unmapped.extend(former);
        } else {
            self.unmapped.clear();
        }
        let current = &self.current;
        self.unmapped.retain(|old| !current.iter().any(|new| new.overlaps(old)));
    }

    /// Where an address lies.
    pub fn locate(&self, address: VirtAddr) -> CodeLocation {
        let after = self.current.partition_point(|region| region.start <= address);
        let current = after.checked_sub(1).and_then(|index| self.current.get(index));
        let region = current
            .filter(|region| region.contains(address))
            .or_else(|| self.unmapped.iter().rev().find(|region| region.contains(address)));
        region.map_or(CodeLocation::Unknown(address), |region| {
            CodeLocation::InModule(region.module, ElfAddr(address.0.wrapping_sub(region.bias)))
        })
    }

    /// The mappings there are now, by address.
    pub fn regions(&self) -> &[Region] {
        &self.current
    }

    /// The modules mapped now, each once.
    pub fn modules(&self) -> BTreeSet<ModuleId> {
        self.current.iter().map(|region| region.module).collect()
    }

    /// The process.
    pub fn process(&self) -> &Arc<ProcDir> {
        &self.process
    }
}

/// `None` for anonymous memory, and for the page that the kernel shows every process at the same address of its own half.
fn region(process: &ProcDir, mapping: &Mapping, modules: &mut ModuleTable) -> Option<Region> {
    if mapping.path.as_os_str() == "[vsyscall]" {
        return None;
    }
    let module = modules.add(process, mapping)?;
    Some(Region {
        start: mapping.start,
        end: mapping.end,
        module,
        file_offset: mapping.file_offset,
        bias: bias(mapping, modules.elf(module)),
    })
}

/// What the loader added to the module's own addresses.
///
/// Where the file's segments are not known, addresses in the module are file offsets: still the same in every process.
fn bias(mapping: &Mapping, elf: Option<&Elf>) -> u64 {
    let address_of_file_start = elf
        .and_then(|elf| elf.code_segment(mapping.file_offset, mapping.size()))
        .map_or(0, super::elf::Segment::address_of_file_start);
    mapping.start.0.wrapping_sub(mapping.file_offset.0).wrapping_sub(address_of_file_start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Pid;
    use crate::target::symbols::select_functions;

    fn region(start: u64, end: u64, module: u32) -> Region {
        Region {
            start: VirtAddr(start),
            end: VirtAddr(end),
            module: ModuleId(module),
            file_offset: FileOffset(0),
            bias: start,
        }
    }

    fn space(regions: Vec<Region>) -> AddressSpace {
        let process = Arc::new(ProcDir::open(Pid(std::process::id())).expect("own process"));
        AddressSpace { process, current: regions, unmapped: Vec::new() }
    }

    #[inline(never)]
    fn outlive_test_marker() -> u32 {
        7
    }

    #[test]
    fn an_address_of_this_process_is_the_symbols_in_the_file() {
        let process = Arc::new(ProcDir::open(Pid(std::process::id())).expect("own process"));
        let mut modules = ModuleTable::new();
        let mut space = AddressSpace::open(process, &mut modules).expect("mappings");
        assert!(!space.refresh(&mut modules).expect("again"));
        let address = outlive_test_marker as *const () as u64;
        let CodeLocation::InModule(id, elf_address) = space.locate(VirtAddr(address)) else {
            unreachable!("not in a module")
        };
        let file = modules.get(id).and_then(|m| m.file.clone()).expect("open");
        let found =
            select_functions(&file, &mut |n| n.contains("outlive_test_marker")).expect("ELF");
        assert_eq!(found.first().map(|s| s.address), Some(elf_address));
        assert_eq!(outlive_test_marker(), 7);
        assert_eq!(space.locate(VirtAddr(8)), CodeLocation::Unknown(VirtAddr(8)));
    }

    #[test]
    fn unloaded_code_is_still_found_until_its_addresses_are_used_again() {
        let mut space = space(vec![region(0x1000, 0x2000, 0), region(0x5000, 0x6000, 1)]);
        space.replace(vec![region(0x1000, 0x2000, 0)]);
        assert_eq!(
            space.locate(VirtAddr(0x5010)),
            CodeLocation::InModule(ModuleId(1), ElfAddr(0x10))
        );
        space.replace(vec![region(0x1000, 0x2000, 0), region(0x5800, 0x7000, 2)]);
        assert_eq!(space.locate(VirtAddr(0x5010)), CodeLocation::Unknown(VirtAddr(0x5010)));
        assert_eq!(space.modules().len(), 2);
    }

    #[test]
    fn another_program_takes_nothing_over() {
        let mut space = space(vec![region(0x1000, 0x2000, 0), region(0x5000, 0x6000, 1)]);
        space.replace(vec![region(0x9000, 0xa000, 2)]);
        assert_eq!(space.locate(VirtAddr(0x5010)), CodeLocation::Unknown(VirtAddr(0x5010)));
    }

    #[test]
    fn a_file_without_segments_keeps_its_offsets() {
        let line = b"1000-3000 r-xp 00004000 00:01 5 /x";
        let mapping = &parse_executable(line)[0];
        assert_eq!(0x1800_u64.wrapping_sub(bias(mapping, None)), 0x4800);
    }
}
