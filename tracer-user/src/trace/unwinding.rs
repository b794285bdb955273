//! Unwind tables in the kernel: each file's once, and for each process which of its code belongs to which.
//!
//! In: mappings and modules. Out: stacks that the kernel programs can walk, and the meaning of the frames they send.

use std::collections::HashMap as Table;

use aya::maps::{Array, HashMap, Map, MapData};
use tracer_common::limits::{MAX_CODE_RANGES, MAX_UNWIND_PAGES, MAX_UNWIND_ROWS};
use tracer_common::stack::{
    HASH_SEED, MemoryId, frame_distance, frame_file, frame_in_file, hash_frame,
};
use tracer_common::unwind::{CodeMap, CodeRange, Rule};

use crate::fault::Fault;
use crate::probes::object::KernelObject;
use crate::sys::array_memory::ArrayMemory;
use crate::sys::pod::{CodeMapEntry, RuleEntry};
use crate::target::{AddressSpace, CodeLocation, ElfAddr, Module, ModuleId, ModuleTable, Pid};
use crate::target::{VirtAddr, vdso};
use crate::trace::kernel::unusable;
use crate::trace::progress::PreparingListener;
use crate::unwind::cache::TableCache;
use crate::unwind::compile::{compile, compile_image};
use crate::unwind::pack::{PackedTable, Rules, pack};

/// A file as the kernel side knows it.
struct KnownFile {
    module: ModuleId,
    table: PackedTable,
    /// Number of its first page in the kernel's map, and how many there are; no pages when there is no table, or no room.
    first_page: u32,
    pages: u16,
}

/// The tables, and the maps that hold them.
pub struct UnwindTables {
    pages: ArrayMemory,
    rows: ArrayMemory,
    rules_map: Array<MapData, RuleEntry>,
    code_maps: HashMap<MapData, u32, CodeMapEntry>,
    rules: Rules,
    rules_written: usize,
    next_page: u32,
    next_row: u32,
    /// By number, from 1.
    files: Vec<KnownFile>,
    numbers: Table<ModuleId, Option<u16>>,
    cache: TableCache,
    /// Files whose tables did not fit.
    left_out: u32,
    /// Told how far the tables of a process are.
    pub listener: Option<PreparingListener>,
}

impl UnwindTables {
    /// Takes the maps.
    pub fn open(object: &mut KernelObject) -> Result<Self, Fault> {
        Ok(Self {
            pages: memory(object, "UNWIND_PAGES", MAX_UNWIND_PAGES)?,
            rows: memory(object, "UNWIND_ROWS", MAX_UNWIND_ROWS / 2)?,
            rules_map: Array::try_from(object.take_map("UNWIND_RULES")?).map_err(unusable)?,
            code_maps: HashMap::try_from(object.take_map("CODE_MAPS")?).map_err(unusable)?,
            rules: Rules::default(),
            rules_written: 0,
            next_page: 0,
            next_row: 0,
            files: Vec::new(),
            numbers: Table::new(),
            cache: TableCache::of_user(),
            left_out: 0,
            listener: None,
        })
    }

    /// Makes the stacks of a process walkable as it is mapped now; false when some of its code did not find room.
    pub fn map_process(
        &mut self,
        pid: Pid,
        space: &AddressSpace,
        modules: &ModuleTable,
    ) -> Result<bool, Fault> {
        let mut code = CodeMap::EMPTY;
        let mut ranges = Vec::new();
        let files = space.modules();
        let total = files.iter().filter(|id| !self.numbers.contains_key(id)).count();
        let first = self.files.len();
        for region in space.regions() {
            self.tell(self.files.len() - first, total);
            let Some(module) = modules.get(region.module) else { continue };
            let Some(number) = self.number(region.module, module)? else { continue };
            let Some(file) = self.file(number) else { continue };
            ranges.push(CodeRange {
                start: region.start.0,
                end: region.end.0,
                bias: region.bias.wrapping_add(file.table.base),
                first_page: file.first_page,
                pages: file.pages,
                file: number,
            });
        }
        self.tell(total, total);
        ranges.sort_by_key(|range| range.start);
        for (to, from) in code.ranges.iter_mut().zip(&ranges) {
            *to = *from;
        }
        self.code_maps.insert(pid.0, CodeMapEntry(code), 0).map_err(unusable)?;
        Ok(ranges.len() <= MAX_CODE_RANGES && self.left_out == 0)
    }

    fn tell(&mut self, done: usize, total: usize) {
        if let Some(listener) = &mut self.listener {
            listener(done, total);
        }
    }

    /// Forgets the code of a process.
    pub fn forget(&mut self, pid: Pid) {
        if let Err(error) = self.code_maps.remove(&pid.0) {
            tracing::debug!("the code of {pid} was not known: {error}");
        }
    }

    /// Where a frame lies; an address of the process when it is in no file.
    pub fn locate(&self, frame: u64) -> CodeLocation {
        match self.file(frame_file(frame)) {
            Some(file) => CodeLocation::InModule(
                file.module,
                ElfAddr(file.table.base.wrapping_add_signed(frame_distance(frame))),
            ),
            None => CodeLocation::Unknown(VirtAddr(frame)),
        }
    }

    /// The identifier of a stack through these places; the kernel side's, when all lie in files.
    pub fn identify(&self, locations: &[CodeLocation], pid: Pid) -> u64 {
        let memory = MemoryId::new(pid.0, 0);
        let frames = locations.iter().map(|location| self.frame(*location));
        frames.fold(HASH_SEED, |hash, frame| hash_frame(hash, frame, memory)).max(1)
    }

    /// How to find the caller from an address in a module.
    pub fn rule_at(&self, module: ModuleId, address: ElfAddr) -> Option<Rule> {
        let number = (*self.numbers.get(&module)?)?;
        self.file(number)?.table.rule_at(address)
    }

    fn frame(&self, location: CodeLocation) -> u64 {
        match location {
            CodeLocation::InModule(module, address) => {
                let number = self.numbers.get(&module).copied().flatten();
                let file = number.and_then(|number| Some((number, self.file(number)?)));
                file.map_or(address.0, |(number, file)| {
                    frame_in_file(number, address.0.wrapping_sub(file.table.base))
                })
            }
            CodeLocation::Unknown(address) => address.0,
        }
    }

    fn file(&self, number: u16) -> Option<&KnownFile> {
        self.files.get(usize::from(number).checked_sub(1)?)
    }

    /// The number of a module; its table is written when it is new. `None` when there are too many files.
    fn number(&mut self, id: ModuleId, module: &Module) -> Result<Option<u16>, Fault> {
        if let Some(known) = self.numbers.get(&id) {
            return Ok(*known);
        }
        let number = u16::try_from(self.files.len() + 1).ok();
        if number.is_some() {
            let table = self.table(module).unwrap_or_default();
            let (first_page, pages) = self.write(&table)?;
            self.files.push(KnownFile { module: id, table, first_page, pages });
        }
        self.numbers.insert(id, number);
        Ok(number)
    }

    /// The table of a module: from disk, or compiled.
    fn table(&self, module: &Module) -> Option<PackedTable> {
        let Some(file) = &module.file else {
            let is_vdso = module.path.as_os_str() == vdso::NAME;
            return if is_vdso { pack(&compile_image(vdso::image()?.as_slice())) } else { None };
        };
        let build_id = module.build_id.as_deref().unwrap_or_default();
        if let Some(table) = self.cache.load(build_id) {
            return Some(table);
        }
        tracing::debug!("reads the unwind information of {}", module.path.display());
        let table = pack(&compile(file))?;
        self.cache.store(build_id, &table);
        Some(table)
    }

    /// Puts a table into the kernel's maps: its first page there, and its pages; none when there is no room.
    fn write(&mut self, table: &PackedTable) -> Result<(u32, u16), Fault> {
        let (pages, rows) = (table.pages.len() as u32, table.rows.len() as u32);
        let fits =
            self.next_page + pages < MAX_UNWIND_PAGES && self.next_row + rows < MAX_UNWIND_ROWS;
        if !fits || pages == 0 {
            self.left_out += u32::from(!fits);
            return Ok((0, 0));
        }
        let pairs: Vec<u64> = table
            .renumbered(&mut self.rules)
            .chunks(2)
            .map(|pair| {
                let high = pair.get(1).copied().unwrap_or(0);
                u64::from(pair.first().copied().unwrap_or(0)) | u64::from(high) << 32
            })
            .collect();
        let ends = table.pages.iter().copied().chain([rows]);
        let first_rows: Vec<u64> = ends.map(|first| u64::from(self.next_row + first)).collect();
        self.rows.write(self.next_row as usize / 2, &pairs).map_err(unusable)?;
        self.pages.write(self.next_page as usize, &first_rows).map_err(unusable)?;
        for (number, rule) in (0..).zip(self.rules.list()).skip(self.rules_written) {
            self.rules_map.set(number, RuleEntry(*rule), 0).map_err(unusable)?;
        }
        self.rules_written = self.rules.list().len();
        let first_page = self.next_page;
        // One more page entry tells where the last page ends; rows start at even positions.
        self.next_page += pages + 1;
        self.next_row += rows.next_multiple_of(2);
        Ok((first_page, u16::try_from(pages).unwrap_or(0)))
    }
}

/// The memory of a map that userspace writes.
fn memory(object: &mut KernelObject, name: &str, words: u32) -> Result<ArrayMemory, Fault> {
    let Map::Array(map) = object.take_map(name)? else {
        return Err(unusable(format!("{name} is no array")));
    };
    ArrayMemory::map(map, words as usize).map_err(unusable)
}
