//! Unwind tables in the kernel: each file's once, and for each process which of its code belongs to which.

use std::collections::HashMap as Table;
use std::os::fd::AsFd as _;

use aya::maps::{Array, HashMap, Map, MapData};
use tracer_common::limits::{MAX_CODE_RANGES, MAX_UNWIND_PAGES, MAX_UNWIND_ROWS};
use tracer_common::unwind::{CodeMap, CodeRange};

use crate::fault::Fault;
use crate::probes::object::KernelObject;
use crate::sys::bpf::write_array;
use crate::sys::pod::{CodeMapEntry, RuleEntry};
use crate::target::{AddressSpace, Module, ModuleId, ModuleTable, Pid};
use crate::trace::kernel::unusable;
use crate::unwind::compile::compile;
use crate::unwind::pack::{PackedTable, Rules, pack};

/// Where a file's table is.
#[derive(Clone, Copy, Debug)]
struct Place {
    base: u64,
    first_page: u32,
    pages: u32,
}

/// The tables, and the maps that hold them.
pub struct UnwindTables {
    pages: MapData,
    rows: MapData,
    rules_map: Array<MapData, RuleEntry>,
    code_maps: HashMap<MapData, u32, CodeMapEntry>,
    rules: Rules,
    rules_written: usize,
    next_page: u32,
    next_row: u32,
    places: Table<ModuleId, Option<Place>>,
    /// Files whose tables did not fit.
    pub left_out: u32,
}

impl UnwindTables {
    /// Takes the maps.
    pub fn open(object: &mut KernelObject) -> Result<Self, Fault> {
        let (Map::Array(pages), Map::Array(rows)) =
            (object.take_map("UNWIND_PAGES")?, object.take_map("UNWIND_ROWS")?)
        else {
            return Err(unusable("the unwind tables are no arrays"));
        };
        Ok(Self {
            pages,
            rows,
            rules_map: Array::try_from(object.take_map("UNWIND_RULES")?).map_err(unusable)?,
            code_maps: HashMap::try_from(object.take_map("CODE_MAPS")?).map_err(unusable)?,
            rules: Rules::default(),
            rules_written: 0,
            next_page: 0,
            next_row: 0,
            places: Table::new(),
            left_out: 0,
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
        for region in space.regions() {
            let place = match modules.get(region.module) {
                Some(module) => self.place(region.module, module)?,
                None => None,
            };
            let Some(place) = place else { continue };
            ranges.push(CodeRange {
                start: region.start.0,
                end: region.end.0,
                bias: region.bias.wrapping_add(place.base),
                first_page: place.first_page,
                pages: place.pages,
            });
        }
        ranges.sort_by_key(|range| range.start);
        for (to, from) in code.ranges.iter_mut().zip(&ranges) {
            *to = *from;
        }
        self.code_maps.insert(pid.0, CodeMapEntry(code), 0).map_err(unusable)?;
        Ok(ranges.len() <= MAX_CODE_RANGES && self.left_out == 0)
    }

    /// Forgets the code of a process.
    pub fn forget(&mut self, pid: Pid) {
        if let Err(error) = self.code_maps.remove(&pid.0) {
            tracing::debug!("the code of {pid} was not known: {error}");
        }
    }

    fn place(&mut self, id: ModuleId, module: &Module) -> Result<Option<Place>, Fault> {
        if let Some(known) = self.places.get(&id) {
            return Ok(*known);
        }
        let rows = module.file.as_ref().map(|file| compile(file)).unwrap_or_default();
        let place = match pack(&rows, &mut self.rules) {
            Some(table) => self.write(&table)?,
            None => None,
        };
        self.places.insert(id, place);
        Ok(place)
    }

    /// Puts a table into the kernel's maps; `None` when there is no room.
    fn write(&mut self, table: &PackedTable) -> Result<Option<Place>, Fault> {
        let (pages, rows) = (table.pages.len() as u32, table.rows.len() as u32);
        let fits =
            self.next_page + pages < MAX_UNWIND_PAGES && self.next_row + rows < MAX_UNWIND_ROWS;
        if !fits {
            self.left_out += 1;
            return Ok(None);
        }
        let pairs: Vec<u64> = table
            .rows
            .chunks(2)
            .map(|pair| {
                let high = pair.get(1).copied().unwrap_or(0);
                u64::from(pair.first().copied().unwrap_or(0)) | u64::from(high) << 32
            })
            .collect();
        let ends = table.pages.iter().copied().chain([rows]);
        let first_rows: Vec<u64> = ends.map(|first| u64::from(self.next_row + first)).collect();
        let write = |map: &MapData, first, values: &[u64]| {
            write_array(map.fd().as_fd(), first, values).map_err(unusable)
        };
        write(&self.rows, self.next_row / 2, &pairs)?;
        write(&self.pages, self.next_page, &first_rows)?;
        for (number, rule) in (0..).zip(self.rules.list()).skip(self.rules_written) {
            self.rules_map.set(number, RuleEntry(*rule), 0).map_err(unusable)?;
        }
        self.rules_written = self.rules.list().len();
        let place = Place { base: table.base, first_page: self.next_page, pages };
        // One more page entry tells where the last page ends; rows start at even positions.
        self.next_page += pages + 1;
        self.next_row += rows.next_multiple_of(2);
        Ok(Some(place))
    }
}
