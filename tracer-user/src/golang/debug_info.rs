//! How a program's own debug information (DWARF) describes the structures of its runtime.
//!
//! In: its file. Out: a [`RuntimeDescription`], in the names of the table of layouts. The toolchain puts all types into a unit of package
//! `runtime`, so that only those are read. What is broken is taken for missing: the table is left then.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gimli::{
    Abbreviations, AttributeSpecification, DwarfSections, EndianSlice, EntriesRaw, LittleEndian,
    Section as _, SectionId, UnitHeader,
};

use crate::target::Image;

/// The package with the structures.
const PACKAGE: &str = "runtime";

/// Most bytes of tables of abbreviations: a program of Go alone has one of a few hundred.
const MOST_TABLE_BYTES: usize = 1 << 30;

/// Structures of the table of layouts, and what debug information calls them.
const STRUCTURES: [(&str, &str); 19] = [
    ("bucket", "runtime.bucket"),
    ("memRecordCycle", "runtime.memRecordCycle"),
    ("special", "runtime.special"),
    ("specialprofile", "runtime.specialprofile"),
    ("mspan", "runtime.mspan"),
    ("mheap", "runtime.mheap"),
    ("heapArena", "runtime.heapArena"),
    ("g", "runtime.g"),
    ("gobuf", "runtime.gobuf"),
    ("stack", "runtime.stack"),
    ("m", "runtime.m"),
    ("p", "runtime.p"),
    ("wbBuf", "runtime.wbBuf"),
    ("gcWork", "runtime.gcWork"),
    ("pageCache", "runtime.pageCache"),
    ("moduledata", "runtime.moduledata"),
    ("sudog", "runtime.sudog"),
    ("type", "runtime._type"),
    // Since Go 1.21.
    ("type", "internal/abi.Type"),
];

/// Most bytes of a structure that is read as a whole; the longest one, `p`, has about 20 KiB.
const MOST_BYTES: u64 = 64 << 10;
/// Most bytes of those of which only single fields are read.
const MOST_BYTES_OF_LARGE: u64 = 64 << 20;
const LARGE: [&str; 2] = ["mheap", "heapArena"];

/// The constant that is told, as the runtime has it and as the table has it.
const KIND_PROFILE: (&str, &str) = ("runtime._KindSpecialProfile", "const.kindSpecialProfile");

type Reader<'a> = EndianSlice<'a, LittleEndian>;
type Dwarf<'a> = gimli::Dwarf<Reader<'a>>;

/// Offsets and sizes of the runtime's structures, in bytes, and constants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeDescription {
    /// By structure, as the table calls it: `mspan`.
    structures: BTreeMap<&'static str, Structure>,
    /// The kind of the records of sampled objects.
    kind_profile: Option<u64>,
}

/// A structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Structure {
    size: u64,
    /// Offsets by the table's names: `mspan.startAddr`.
    fields: BTreeMap<String, u64>,
}

impl Structure {
    /// Whether a runtime can have it: memory is set aside by these numbers, and they are added up.
    fn is_possible(&self, name: &str) -> bool {
        let most = if LARGE.contains(&name) { MOST_BYTES_OF_LARGE } else { MOST_BYTES };
        // A field without a size may be the last one.
        (1..=most).contains(&self.size) && self.fields.values().all(|offset| *offset <= self.size)
    }
}

impl RuntimeDescription {
    /// Of the runtime in a file; `None` when it has no debug information of it.
    pub fn read(image: &Image) -> Option<Self> {
        Self::of_sections(&DwarfSections::load(|id| contents(image, id).ok_or(())).ok()?)
    }

    /// The same, of the sections of a file.
    fn of_sections(sections: &DwarfSections<Vec<u8>>) -> Option<Self> {
        let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        let mut description = of_package(&dwarf)?;
        description.structures.retain(|name, structure| structure.is_possible(name));
        (!description.structures.is_empty()).then_some(description)
    }

    /// The same, of nothing but abbreviations and entries.
    pub fn parse(abbreviations: &[u8], entries: &[u8]) -> Option<Self> {
        let section = |id| match id {
            SectionId::DebugAbbrev => Ok(abbreviations.to_vec()),
            SectionId::DebugInfo => Ok(entries.to_vec()),
            _ => Ok::<_, ()>(Vec::new()),
        };
        Self::of_sections(&DwarfSections::load(section).ok()?)
    }

    /// The structures that it describes.
    pub fn structures(&self) -> impl Iterator<Item = &'static str> {
        self.structures.keys().copied()
    }

    /// All that it says.
    pub fn fields(&self) -> impl Iterator<Item = (String, u64)> {
        let sizes = self.structures.iter().map(|(name, one)| (format!("sizeof.{name}"), one.size));
        let fields = self.structures.values().flat_map(|one| &one.fields);
        let fields = fields.map(|(name, offset)| (name.clone(), *offset));
        let (_, name) = KIND_PROFILE;
        let constant = self.kind_profile.map(|value| (name.to_owned(), value));
        sizes.chain(fields).chain(constant)
    }
}

/// The bytes of a section, if entries cannot be read without it; else none.
fn contents(image: &Image, id: SectionId) -> Option<Vec<u8>> {
    let needed = matches!(
        id,
        SectionId::DebugInfo
            | SectionId::DebugAbbrev
            | SectionId::DebugStr
            | SectionId::DebugLineStr
    );
    match image.section(id.name()).filter(|_| needed) {
        Some(section) => image.contents(section),
        None => Some(Vec::new()),
    }
}

/// Reads the units of the package: one with its types, and others for its files of assembly.
fn of_package(dwarf: &Dwarf<'_>) -> Option<RuntimeDescription> {
    let mut found = RuntimeDescription::default();
    let mut tables = Tables { of_offset: HashMap::new(), bytes_left: MOST_TABLE_BYTES };
    let mut units = dwarf.units();
    while let Some(unit) = units.next().ok()? {
        let abbreviations = tables.of(dwarf, &unit)?;
        let mut entries = unit.entries_raw(&abbreviations, None).ok()?;
        let Some(root) = entries.read_abbreviation().ok()? else { continue };
        if About::read(dwarf, &mut entries, root.attributes()).ok()?.name == Some(PACKAGE) {
            found.read_unit(dwarf, &mut entries).ok()?;
        }
    }
    Some(found)
}

/// Tables of abbreviations, by where they are. Units of Go share one; those of C have their own.
struct Tables {
    of_offset: HashMap<usize, Arc<Abbreviations>>,
    /// What may still be read. A hostile file has as many tables as bytes, each as long as the rest of the section.
    bytes_left: usize,
}

impl Tables {
    fn of<'a>(
        &mut self,
        dwarf: &Dwarf<'a>,
        unit: &UnitHeader<Reader<'a>>,
    ) -> Option<Arc<Abbreviations>> {
        let offset = unit.debug_abbrev_offset().0;
        if let Some(table) = self.of_offset.get(&offset) {
            return Some(Arc::clone(table));
        }
        let most = dwarf.debug_abbrev.reader().len().saturating_sub(offset);
        self.bytes_left = self.bytes_left.checked_sub(most)?;
        let table = dwarf.abbreviations(unit).ok()?;
        self.of_offset.insert(offset, Arc::clone(&table));
        Some(table)
    }
}

impl RuntimeDescription {
    /// Reads what stands below the first entry of a unit.
    fn read_unit<'a>(
        &mut self,
        dwarf: &Dwarf<'a>,
        entries: &mut EntriesRaw<'_, Reader<'a>>,
    ) -> gimli::Result<()> {
        // The structure whose fields are being read.
        let mut open: Option<&'static str> = None;
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let Some(entry) = entries.read_abbreviation()? else { continue };
            open = open.filter(|_| depth > 1);
            let is_wanted = match entry.tag() {
                gimli::DW_TAG_structure_type | gimli::DW_TAG_constant => depth == 1,
                gimli::DW_TAG_member => depth == 2 && open.is_some(),
                _ => false,
            };
            if !is_wanted {
                entries.skip_attributes(entry.attributes())?;
                continue;
            }
            let about = About::read(dwarf, entries, entry.attributes())?;
            match (entry.tag(), open) {
                (gimli::DW_TAG_structure_type, _) => open = self.structure(&about),
                (gimli::DW_TAG_member, Some(structure)) => self.field(structure, &about),
                _ => self.constant(&about),
            }
        }
        Ok(())
    }

    /// Begins a structure, if it is one that the table has. Gives what the table calls it.
    fn structure(&mut self, about: &About<'_>) -> Option<&'static str> {
        let name = about.name?;
        let (structure, _) = STRUCTURES.into_iter().find(|(_, source)| *source == name)?;
        let begun = Structure { size: about.size?, fields: BTreeMap::new() };
        self.structures.insert(structure, begun);
        Some(structure)
    }

    fn field(&mut self, structure: &'static str, about: &About<'_>) {
        let (Some(name), Some(offset)) = (about.name, about.offset) else { return };
        // Releases differ in the capitals of these.
        let name = if structure == "type" { name.to_lowercase() } else { name.to_owned() };
        let begun = self.structures.entry(structure).or_default();
        begun.fields.insert(format!("{structure}.{name}"), offset);
    }

    fn constant(&mut self, about: &About<'_>) {
        let (source, _) = KIND_PROFILE;
        if about.name == Some(source) {
            self.kind_profile = about.value.or(self.kind_profile);
        }
    }
}

/// What is wanted of an entry.
#[derive(Debug, Default)]
struct About<'a> {
    name: Option<&'a str>,
    /// Bytes.
    size: Option<u64>,
    /// Bytes from the start of what it is a part of.
    offset: Option<u64>,
    value: Option<u64>,
}

impl<'a> About<'a> {
    fn read(
        dwarf: &Dwarf<'a>,
        entries: &mut EntriesRaw<'_, Reader<'a>>,
        attributes: &[AttributeSpecification],
    ) -> gimli::Result<Self> {
        let mut about = Self::default();
        for attribute in attributes {
            let attribute = entries.read_attribute(*attribute)?;
            match attribute.name() {
                gimli::DW_AT_name => {
                    let text = dwarf.attr_line_string(attribute.value()).ok();
                    about.name = text.and_then(|text| std::str::from_utf8(text.slice()).ok());
                }
                gimli::DW_AT_byte_size => about.size = attribute.udata_value(),
                gimli::DW_AT_data_member_location => about.offset = attribute.udata_value(),
                gimli::DW_AT_const_value => about.value = attribute.udata_value(),
                _ => {}
            }
        }
        Ok(about)
    }
}

/// A unit of package `runtime` with one structure that the table has, one that it has not, and a constant; and one of another package before it.
/// Abbreviations, and entries.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn sample() -> (Vec<u8>, Vec<u8>) {
    const STRING: u8 = 0x08;
    const UDATA: u8 = 0x0f;
    let abbreviation = |number: u8, tag: u8, children: u8, number_at: Option<u8>| {
        let mut bytes = vec![number, tag, children, gimli::DW_AT_name.0 as u8, STRING];
        bytes.extend(number_at.iter().flat_map(|at| [*at, UDATA]));
        [bytes, vec![0, 0]].concat()
    };
    let abbreviations = [
        abbreviation(1, gimli::DW_TAG_compile_unit.0 as u8, 1, None),
        abbreviation(
            2,
            gimli::DW_TAG_structure_type.0 as u8,
            1,
            Some(gimli::DW_AT_byte_size.0 as u8),
        ),
        abbreviation(
            3,
            gimli::DW_TAG_member.0 as u8,
            0,
            Some(gimli::DW_AT_data_member_location.0 as u8),
        ),
        abbreviation(4, gimli::DW_TAG_constant.0 as u8, 0, Some(gimli::DW_AT_const_value.0 as u8)),
        vec![0],
    ];
    let entry =
        |number: u8, name: &str, value: &[u8]| [&[number], name.as_bytes(), &[0], value].concat();
    let entries = [
        entry(2, "runtime.stack", &[16]),
        entry(3, "lo", &[0]),
        entry(3, "hi", &[8]),
        vec![0],
        entry(2, "runtime.other", &[8]),
        entry(3, "lo", &[0]),
        vec![0],
        entry(2, "internal/abi.Type", &[48]),
        entry(3, "TFlag", &[20]),
        entry(3, "Str", &[40]),
        vec![0],
        entry(4, "runtime._KindSpecialProfile", &[3]),
        vec![0],
    ];
    let unit = |package: &str, entries: &[u8]| {
        let body = [&[4, 0, 0, 0, 0, 0, 8], &entry(1, package, &[])[..], entries].concat();
        [&(body.len() as u32).to_le_bytes(), &body[..]].concat()
    };
    let entries = entries.concat();
    (abbreviations.concat(), [unit("main", &entries[..1]), unit(PACKAGE, &entries)].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn structures_of_the_runtime_are_told_in_the_names_of_the_table() {
        let (abbreviations, entries) = sample();
        let description = RuntimeDescription::parse(&abbreviations, &entries).expect("described");
        assert_eq!(description.structures().collect::<Vec<_>>(), ["stack", "type"]);
        let fields: Vec<_> = description.fields().collect();
        let expected = [
            ("sizeof.stack", 16),
            ("sizeof.type", 48),
            ("stack.hi", 8),
            ("stack.lo", 0),
            ("type.str", 40),
            ("type.tflag", 20),
            ("const.kindSpecialProfile", 3),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn structures_that_no_runtime_has_are_left_out() {
        let stack = b"runtime.stack\0";
        for (place, value) in [(0, 0), (5, 17)] {
            let (abbreviations, mut entries) = sample();
            let at = entries.windows(stack.len()).position(|some| some == stack).expect("there");
            entries[at + stack.len() + place] = value;
            let description = RuntimeDescription::parse(&abbreviations, &entries).expect("others");
            assert_eq!(description.structures().collect::<Vec<_>>(), ["type"], "{place}");
        }
        let of = |size| Structure { size, ..Structure::default() };
        assert!(of(MOST_BYTES).is_possible("g") && !of(MOST_BYTES + 1).is_possible("g"));
        assert!(of(MOST_BYTES + 1).is_possible("mheap") && !of(u64::MAX).is_possible("mheap"));
    }

    #[test]
    fn what_is_cut_short_is_missing() {
        let (abbreviations, entries) = sample();
        for length in 0..entries.len() {
            assert_eq!(RuntimeDescription::parse(&abbreviations, &entries[..length]), None);
        }
        for length in 0..abbreviations.len() - 1 {
            assert_eq!(RuntimeDescription::parse(&abbreviations[..length], &entries), None);
        }
    }

    #[test]
    fn work_on_tables_is_bounded() {
        let (abbreviations, entries) = sample();
        let sections = DwarfSections::load(|id| match id {
            SectionId::DebugAbbrev => Ok::<_, ()>(abbreviations.clone()),
            SectionId::DebugInfo => Ok(entries.clone()),
            _ => Ok(Vec::new()),
        });
        let sections = sections.expect("loaded");
        let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        for (bytes_left, is_read) in [(abbreviations.len() - 1, false), (abbreviations.len(), true)]
        {
            let mut tables = Tables { of_offset: HashMap::new(), bytes_left };
            let mut units = dwarf.units();
            while let Some(unit) = units.next().expect("a unit") {
                assert_eq!(tables.of(&dwarf, &unit).is_some(), is_read, "they share one");
            }
        }
    }

    #[test]
    fn a_file_without_it_has_none() {
        let image = crate::target::vdso::image().expect("every process has one");
        let mut file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut file, &image).expect("written");
        let image = Image::read(Arc::new(file)).expect("an ELF file");
        assert_eq!(RuntimeDescription::read(&image), None);
    }

    proptest! {
        #[test]
        fn never_panics(at in 0_usize..200, byte: u8, swap: bool) {
            let (mut abbreviations, mut entries) = sample();
            let changed = if swap { &mut abbreviations } else { &mut entries };
            let length = changed.len();
            changed[at % length] = byte;
            RuntimeDescription::parse(&abbreviations, &entries);
        }
    }
}
