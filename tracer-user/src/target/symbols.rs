//! Functions of an ELF file, by name: from its dynamic symbols and from the table that `strip` removes.
//!
//! In: an open file and the names. Out: where they are. Bounded and checked as in [`super::elf`].

use std::fs::File;

use object::elf;
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::read::{FileKind, ReadRef};
use object::{Endianness, SectionIndex};

use super::ElfAddr;
use super::elf::ElfError;
use super::file_bytes::FileBytes;

/// Longest name that is believed; longer ones are not hooked, and not shown.
const MAX_NAME_BYTES: usize = 16 << 10;

/// A function or variable that an ELF file defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol {
    /// Its name, mangled.
    pub name: String,
    /// Its first instruction; of an indirect function, its resolver.
    pub address: ElfAddr,
    /// Bytes of its code; 0 when not known.
    pub size: u64,
    /// Chosen at load time by a resolver (`STT_GNU_IFUNC`): the address is not the function's own.
    pub indirect: bool,
}

/// The functions with these names, sorted; one name can have several addresses (symbol versions, local symbols).
pub fn find_functions(file: &File, names: &[&str]) -> Result<Vec<Symbol>, ElfError> {
    select_functions(file, &mut |name| names.contains(&name))
}

/// The functions whose names `wanted` accepts, sorted, each once.
pub fn select_functions(
    file: &File,
    wanted: &mut dyn FnMut(&str) -> bool,
) -> Result<Vec<Symbol>, ElfError> {
    select_symbols(file, &[elf::STT_FUNC, elf::STT_GNU_IFUNC], wanted)
}

/// The variables with these names, sorted.
pub fn find_variables(file: &File, names: &[&str]) -> Result<Vec<Symbol>, ElfError> {
    select_variables(file, &mut |name| names.contains(&name))
}

/// The variables whose names `wanted` accepts, sorted, each once.
pub fn select_variables(
    file: &File,
    wanted: &mut dyn FnMut(&str) -> bool,
) -> Result<Vec<Symbol>, ElfError> {
    select_symbols(file, &[elf::STT_OBJECT], wanted)
}

fn select_symbols(
    file: &File,
    types: &[elf::SymbolType],
    wanted: &mut dyn FnMut(&str) -> bool,
) -> Result<Vec<Symbol>, ElfError> {
    let bytes = FileBytes::new(file);
    let mut found = match FileKind::parse(&bytes) {
        Ok(FileKind::Elf64) => select::<elf::FileHeader64<Endianness>>(&bytes, types, wanted),
        Ok(FileKind::Elf32) => select::<elf::FileHeader32<Endianness>>(&bytes, types, wanted),
        _ => Err(ElfError::NotElf),
    }?;
    found.sort();
    found.dedup_by(|a, b| a.name == b.name && a.address == b.address);
    Ok(found)
}

fn select<H: FileHeader<Endian = Endianness>>(
    bytes: &FileBytes<'_>,
    types: &[elf::SymbolType],
    wanted: &mut dyn FnMut(&str) -> bool,
) -> Result<Vec<Symbol>, ElfError> {
    let header = H::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.section_headers(endian, bytes)?;
    let mut found = Vec::new();
    for section in sections {
        let kind = section.sh_type(endian);
        if kind != elf::SHT_SYMTAB && kind != elf::SHT_DYNSYM {
            continue;
        }
        let link = SectionIndex(section.sh_link(endian) as usize);
        let Some(strings) = sections.get(link.0) else { continue };
        // Read whole: a look-up of each name in the file would be a system call each.
        let (start, size) = (strings.sh_offset(endian).into(), strings.sh_size(endian).into());
        let names =
            bytes.read_bytes_at(start, size).map_err(|()| ElfError::Broken("symbol names"))?;
        let symbols = section.data_as_array::<H::Sym, _>(endian, bytes)?;
        found.extend(symbols.iter().filter_map(|s| defined::<H>(s, endian, names, types, wanted)));
    }
    Ok(found)
}

/// The symbol when it is a wanted one, of one of the types, that the file defines.
fn defined<H: FileHeader<Endian = Endianness>>(
    symbol: &H::Sym,
    endian: Endianness,
    names: &[u8],
    types: &[elf::SymbolType],
    wanted: &mut dyn FnMut(&str) -> bool,
) -> Option<Symbol> {
    let indirect = symbol.st_type() == elf::STT_GNU_IFUNC;
    if !types.contains(&symbol.st_type()) || symbol.st_shndx(endian) == elf::SHN_UNDEF {
        return None;
    }
    let name = name_at(names, symbol.st_name(endian))?;
    wanted(name).then(|| Symbol {
        name: name.to_owned(),
        address: ElfAddr(symbol.st_value(endian).into()),
        size: symbol.st_size(endian).into(),
        indirect,
    })
}

/// The name at a place in a table of names. Each symbol may have the same one, so that a long one costs as often.
fn name_at(names: &[u8], at: u32) -> Option<&str> {
    let rest = names.get(at as usize..)?;
    let rest = &rest[..rest.len().min(MAX_NAME_BYTES)];
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_and_are_not_endless() {
        let mut names = b"malloc\0free\0".to_vec();
        assert_eq!((name_at(&names, 0), name_at(&names, 7)), (Some("malloc"), Some("free")));
        assert_eq!((name_at(&names, 12), name_at(&names, u32::MAX)), (None, None));
        names.extend(vec![b'a'; MAX_NAME_BYTES]);
        names.push(0);
        assert_eq!(name_at(&names, 12), None);
        assert_eq!(name_at(&names, 13).map(str::len), Some(MAX_NAME_BYTES - 1));
    }

    /// The C library this test runs with.
    fn libc() -> File {
        let maps = std::fs::read("/proc/self/maps").expect("maps");
        let mapping = super::super::maps::parse_executable(&maps)
            .into_iter()
            .find(|m| m.path.to_string_lossy().contains("libc.so"))
            .expect("a C library");
        File::open(mapping.path).expect("readable")
    }

    #[test]
    fn finds_dynamic_symbols_of_a_stripped_library() {
        let found = find_functions(&libc(), &["malloc", "free", "no_such_function"]).expect("ELF");
        let names: Vec<_> = found.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["free", "malloc"]);
        assert!(found.iter().all(|s| s.address.0 > 0 && s.size > 0 && !s.indirect));
    }

    #[test]
    fn indirect_functions_are_marked() {
        let found = find_functions(&libc(), &["strlen"]).expect("ELF");
        assert!(found.iter().any(|s| s.indirect));
    }

    #[test]
    fn finds_local_symbols_of_this_program() {
        let own = File::open("/proc/self/exe").expect("own program");
        let found = select_functions(&own, &mut |name| {
            name.contains("finds_local_symbols_of_this_program")
        });
        assert!(!found.expect("ELF").is_empty());
    }
}
