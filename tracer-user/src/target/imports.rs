//! Functions that a file takes by way of the dynamic linker: which slot of its memory leads to which.
//!
//! In: an open file. Out: slots, by address. Bounded and checked as in [`super::elf`].

use std::collections::HashMap;
use std::fs::File;

use object::{Object as _, ObjectSymbol as _, ObjectSymbolTable as _, RelocationTarget};

use super::ElfAddr;
use super::file_bytes::FileBytes;

/// Most relocations of a file that are looked at.
const MAX_RELOCATIONS: usize = 1 << 20;

/// What the dynamic linker puts into a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The function's name.
    pub name: String,
    /// Where the file itself defines it, if it does.
    pub address: Option<ElfAddr>,
}

/// Imports by the address of their slot. Empty when there are none, or they cannot be read.
pub fn imports(file: &File) -> HashMap<ElfAddr, Import> {
    let bytes = FileBytes::new(file);
    let Ok(elf) = object::File::parse(&bytes) else { return HashMap::new() };
    let (Some(symbols), Some(relocations)) =
        (elf.dynamic_symbol_table(), elf.dynamic_relocations())
    else {
        return HashMap::new();
    };
    relocations
        .take(MAX_RELOCATIONS)
        .filter_map(|(slot, relocation)| {
            let RelocationTarget::Symbol(index) = relocation.target() else { return None };
            let symbol = symbols.symbol_by_index(index).ok()?;
            let address = symbol.is_definition().then(|| ElfAddr(symbol.address()));
            Some((ElfAddr(slot), Import { name: symbol.name().ok()?.to_owned(), address }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_imports_free() {
        let own = File::open("/proc/self/exe").expect("own program");
        let imports = imports(&own);
        let free: Vec<_> = imports.values().filter(|import| import.name == "free").collect();
        assert!(!free.is_empty());
        assert!(free.iter().all(|import| import.address.is_none()));
    }
}
