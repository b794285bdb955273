//! The table that every Go program carries of its functions (`.gopclntab`): names, and by program counter values such as lines.
//!
//! In: the bytes of the table. Out: [`Function`]s. The forms of Go 1.18/1.19 and of 1.20 and later are read; stripping does not remove it.

use std::collections::HashMap;
use std::ops::Range;

use super::bytes::{i32_at, u8_at, u32_at, u64_at, varint};
use crate::target::{ElfAddr, Image};

/// Sections that hold the table. Where there is none (externally linked position-independent programs), it is searched for.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// First bytes: the form's number, two zeros, the instruction quantum of x86-64 and the size of a pointer.
const MAGIC_20: [u8; 8] = [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
const MAGIC_18: [u8; 8] = [0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8];

/// Bytes of the header.
const HEADER_BYTES: u64 = 72;
/// Largest table that is believed: Kubernetes has 30 MB.
const MAX_TABLE_BYTES: u64 = 512 << 20;
/// Most functions that are believed.
const MAX_FUNCTIONS: u64 = 10_000_000;
/// Most bytes of a name.
const MAX_NAME_BYTES: usize = 16 << 10;
/// Most steps in a table of values.
const MAX_STEPS: usize = 1 << 20;
/// Most tables of one function.
const MAX_FUNCTION_TABLES: u32 = 64;
/// Pieces in which segments are searched.
const SEARCH_BYTES: u64 = 4 << 20;
/// Most places that look like a table and are tried.
const MAX_CANDIDATES: usize = 8;

/// How a table writes inlined calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Go 1.18 and 1.19.
    Go118,
    /// Go 1.20 and later.
    Go120,
}

/// The table.
#[derive(Debug)]
pub struct Pclntab {
    bytes: Vec<u8>,
    /// Where it is.
    pub address: ElfAddr,
    /// Its form.
    pub form: Form,
    /// How many functions it lists.
    pub functions: u64,
    quantum: u64,
    names: u64,
    units: u64,
    files: u64,
    values: u64,
    index: u64,
}

/// What the table says of a function. Addresses count from the start of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its first instruction.
    pub entry: u64,
    name: i32,
    file_values: u32,
    line_values: u32,
    unit: u32,
    tables: Vec<u32>,
    data: Vec<u32>,
}

/// `PCDATA_InlTreeIndex`: by program counter, which inlined call.
const INLINE_INDEX: usize = 2;
/// `FUNCDATA_InlTree`: the inlined calls, counted from `gofunc`.
const INLINE_TREE: usize = 3;

impl Function {
    /// The table of inlined calls, counted from the module's `gofunc`; `None` when nothing is inlined.
    pub fn inline_tree(&self) -> Option<u32> {
        let tree = *self.data.get(INLINE_TREE)?;
        (tree != u32::MAX && self.tables.get(INLINE_INDEX).is_some_and(|t| *t != 0)).then_some(tree)
    }
}

impl Pclntab {
    /// The tables that a file may hold, the likely one first.
    pub fn candidates(image: &Image) -> Vec<Self> {
        let sections = SECTIONS.iter().filter_map(|name| image.section(name));
        let mut places: Vec<_> = sections.map(|s| (s.address, s.size)).collect();
        if places.is_empty() {
            places = search(image);
        }
        let tables = places.into_iter().filter_map(|(address, size)| {
            Self::parse(image.bytes_up_to(address, size.min(MAX_TABLE_BYTES))?, address)
        });
        tables.collect()
    }

    /// Reads the header; `None` when it contradicts itself.
    fn parse(bytes: Vec<u8>, address: ElfAddr) -> Option<Self> {
        let form = match *bytes.first_chunk::<8>()? {
            MAGIC_20 => Form::Go120,
            MAGIC_18 => Form::Go118,
            _ => return None,
        };
        let word = |number: u64| u64_at(&bytes, 8 + 8 * number);
        let functions = word(0)?;
        // Words 1 and 2 are the number of files, and the start of the text before relocation.
        let (names, units, files) = (word(3)?, word(4)?, word(5)?);
        let (values, index) = (word(6)?, word(7)?);
        let offsets = [HEADER_BYTES, names, units, files, values, index];
        let in_order = offsets.is_sorted();
        let index_end = index.checked_add(functions.checked_mul(8)?)?.checked_add(4)?;
        if !in_order || !(1..=MAX_FUNCTIONS).contains(&functions) || index_end > bytes.len() as u64
        {
            return None;
        }
        let quantum = u64::from(bytes[6]);
        Some(Self { bytes, address, form, functions, quantum, names, units, files, values, index })
    }

    /// The code of the functions with these names, counted from the start of the text.
    pub fn functions_named<'n>(&self, names: &[&'n str]) -> HashMap<&'n str, Range<u64>> {
        let mut found = HashMap::new();
        for number in 0..self.functions {
            let Some(name) = self.record(number).and_then(|record| self.name_offset(record)) else {
                continue;
            };
            let Some(rest) = self.names.checked_add(name).and_then(|at| self.rest(at)) else {
                continue;
            };
            let is_it = |name: &&&str| {
                rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&0)
            };
            if let Some(name) = names.iter().find(is_it)
                && let Some(code) = self.code(number)
            {
                found.entry(*name).or_insert(code);
            }
        }
        found
    }

    /// The function that holds an address.
    pub fn function_at(&self, address: u64) -> Option<Function> {
        let number = self.number_at(address)?;
        let record = self.record(number)?;
        let at = |field: u64| u32_at(&self.bytes, record + 4 * field);
        // entry, name, args, deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset, since 1.20 startLine; then four bytes.
        let bytes_at = record + if self.form == Form::Go120 { 40 } else { 36 };
        let table_count = at(7)?;
        let data_count = u32::from(u8_at(&self.bytes, bytes_at + 3)?);
        if table_count > MAX_FUNCTION_TABLES {
            return None;
        }
        let tables_at = bytes_at + 4;
        let data_at = tables_at + 4 * u64::from(table_count);
        let words = |from: u64, count: u32| -> Option<Vec<u32>> {
            (0..count).map(|n| u32_at(&self.bytes, from + 4 * u64::from(n))).collect()
        };
        Some(Function {
            entry: u64::from(at(0)?),
            name: i32_at(&self.bytes, record + 4)?,
            file_values: at(5)?,
            line_values: at(6)?,
            unit: at(8)?,
            tables: words(tables_at, table_count)?,
            data: words(data_at, data_count)?,
        })
    }

    /// The code of the function that holds an address.
    pub fn code_at(&self, address: u64) -> Option<Range<u64>> {
        self.code(self.number_at(address)?)
    }

    /// The function's name.
    pub fn name_of(&self, function: &Function) -> Option<String> {
        self.name(function.name)
    }

    /// The name at a position in the table of names.
    pub fn name(&self, offset: i32) -> Option<String> {
        self.text(self.names.checked_add(u64::try_from(offset).ok()?)?)
    }

    /// File and line of an address in the function.
    pub fn place(&self, function: &Function, address: u64) -> (Option<String>, Option<u32>) {
        let line = self.value(function.line_values, function.entry, address);
        let file = self.value(function.file_values, function.entry, address).and_then(|number| {
            let number = u64::from(function.unit) + u64::try_from(number).ok()?;
            let name = u32_at(&self.bytes, self.units.checked_add(4 * number)?)?;
            (name != u32::MAX).then(|| self.text(self.files.checked_add(u64::from(name))?))?
        });
        (file, line.and_then(|line| u32::try_from(line).ok()).filter(|line| *line > 0))
    }

    /// Which inlined call an address is in.
    pub fn inline_index(&self, function: &Function, address: u64) -> Option<u32> {
        let table = *function.tables.get(INLINE_INDEX)?;
        u32::try_from(self.value(table, function.entry, address)?).ok()
    }

    /// The value at an address: a table of steps, each a change of the value and how many bytes of code it holds for.
    fn value(&self, table: u32, entry: u64, address: u64) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut at = usize::try_from(self.values.checked_add(u64::from(table))?).ok()?;
        let (mut value, mut end) = (-1_i32, entry);
        for step in 0..MAX_STEPS {
            let change = varint(&self.bytes, &mut at)? as u32;
            if change == 0 && step > 0 {
                return None;
            }
            let sign = if change & 1 == 1 { -1 } else { 0 };
            value = value.wrapping_add((change >> 1).cast_signed() ^ sign);
            let length = varint(&self.bytes, &mut at)?.saturating_mul(self.quantum);
            end = end.saturating_add(length);
            if address < end {
                return Some(value);
            }
        }
        None
    }

    /// The number of the function that holds an address.
    fn number_at(&self, address: u64) -> Option<u64> {
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)? <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let number = low.checked_sub(1)?;
        (address < self.entry(number + 1)?).then_some(number)
    }

    /// Where a function starts; one beyond the last gives the end.
    fn entry(&self, number: u64) -> Option<u64> {
        u32_at(&self.bytes, self.index + 8 * number).map(u64::from)
    }

    fn code(&self, number: u64) -> Option<Range<u64>> {
        Some(self.entry(number)?..self.entry(number + 1)?)
    }

    fn record(&self, number: u64) -> Option<u64> {
        Some(self.index + u64::from(u32_at(&self.bytes, self.index + 8 * number + 4)?))
    }

    fn name_offset(&self, record: u64) -> Option<u64> {
        u64::try_from(i32_at(&self.bytes, record + 4)?).ok()
    }

    fn rest(&self, at: u64) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(at).ok()?..)
    }

    fn text(&self, at: u64) -> Option<String> {
        let rest = self.rest(at)?;
        let rest = &rest[..rest.len().min(MAX_NAME_BYTES)];
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }
}

/// Places that look like a table, each with what is left of its segment.
fn search(image: &Image) -> Vec<(ElfAddr, u64)> {
    let mut found = Vec::new();
    for segment in image.segments() {
        let mut from = 0;
        while from < segment.file_size && found.len() < MAX_CANDIDATES {
            let start = segment.address.0.wrapping_add(from);
            // Pieces overlap by a header, so that none is cut.
            let Some(piece) = image.bytes_up_to(ElfAddr(start), SEARCH_BYTES + HEADER_BYTES) else {
                break;
            };
            let skew = (start.wrapping_neg() & 7) as usize;
            let starts =
                (skew..piece.len()).step_by(8).take_while(|at| (*at as u64) < SEARCH_BYTES);
            let tables = starts.filter(|at| looks_like_a_table(&piece[*at..]));
            found.extend(tables.map(|at| {
                let left = segment.file_size - from - at as u64;
                (ElfAddr(start.wrapping_add(at as u64)), left)
            }));
            from += SEARCH_BYTES;
        }
    }
    found.truncate(MAX_CANDIDATES);
    found
}

fn looks_like_a_table(bytes: &[u8]) -> bool {
    if !bytes.starts_with(&MAGIC_20) && !bytes.starts_with(&MAGIC_18) {
        return false;
    }
    let word = |number: u64| u64_at(bytes, 8 + 8 * number);
    word(0).is_some_and(|functions| (1..=MAX_FUNCTIONS).contains(&functions))
        && word(3).is_some_and(|names| (64..=4096).contains(&names))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two functions, the first with a line table; written by hand after the runtime's `symtab.go`.
    fn table() -> Vec<u8> {
        let mut bytes = MAGIC_20.to_vec();
        let (names, units, files, values, index) = (72_u64, 96, 104, 112, 128);
        for word in [2, 1, 0, names, units, files, values, index] {
            bytes.extend(u64::to_le_bytes(word));
        }
        bytes.extend(b"\0main.a\0main.b[int]\0....");
        bytes.truncate(96);
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(b"\0a.go\0..");
        // At 1: +10 (zigzag of 11 from -1) for 4 bytes, +2 for 12 more, end. At 8: value 0 for 64 bytes, end.
        bytes.extend([0, 22, 4, 4, 12, 0, 0, 0, 2, 64, 0, 0, 0, 0, 0, 0]);
        for entry in [0_u32, 20, 16, 64, 32] {
            bytes.extend(entry.to_le_bytes());
        }
        for (entry, name) in [(0_u32, 1_u32), (16, 8)] {
            for word in [entry, name, 0, 0, 0, 8, 1, 0, 0, 0, 0] {
                bytes.extend(u32::to_le_bytes(word));
            }
        }
        bytes
    }

    fn parsed() -> Pclntab {
        Pclntab::parse(table(), ElfAddr(0x1000)).expect("a table")
    }

    #[test]
    fn functions_files_and_lines() {
        let table = parsed();
        let function = table.function_at(5).expect("main.a");
        assert_eq!(table.name_of(&function).as_deref(), Some("main.a"));
        assert_eq!(table.place(&function, 3), (Some("a.go".into()), Some(10)));
        assert_eq!(table.place(&function, 4), (Some("a.go".into()), Some(12)));
        let second = table.function_at(31).expect("main.b");
        assert_eq!(table.name_of(&second).as_deref(), Some("main.b[int]"));
        assert_eq!((table.function_at(32), second.inline_tree()), (None, None));
        let named = table.functions_named(&["main.a", "main", "main.b[int]"]);
        assert_eq!((named.len(), named["main.b[int]"].clone()), (2, 16..32));
    }

    #[test]
    fn every_way_of_being_cut_short_or_changed_ends() {
        let whole = table();
        let use_it = |bytes: Vec<u8>| {
            if let Some(table) = Pclntab::parse(bytes, ElfAddr(0)) {
                table.functions_named(&["main.a"]);
                for address in [0, 5, 16, 31, 32, u64::MAX] {
                    if let Some(function) = table.function_at(address) {
                        table.place(&function, address);
                        table.inline_index(&function, address);
                        table.name_of(&function);
                    }
                }
            }
        };
        for length in 0..whole.len() {
            use_it(whole[..length].to_vec());
        }
        for position in 8..whole.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[position] = value;
                use_it(bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn never_panics(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = [&MAGIC_18[..], &tail[..]].concat();
            looks_like_a_table(&bytes);
            if let Some(table) = Pclntab::parse(bytes, ElfAddr(0)) {
                table.function_at(1);
            }
        }
    }
}
