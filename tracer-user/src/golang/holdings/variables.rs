//! Names of the variables that hold addresses.
//!
//! In: the symbols of a file, or where its variables begin. Out: a name for each word of a variable: its symbol; that of the variable which leads to
//! it, for what the compiler laid out for a literal; else its place, such as `bss+0x4c0`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;

use crate::golang::moduledata::Variables;
use crate::target::symbols::{Symbol, select_variables};
use crate::target::{ElfAddr, VirtAddr};

/// Longest name that is kept.
const MAX_NAME_BYTES: usize = 512;
/// Most bytes of all names.
const MAX_NAMES_BYTES: usize = 64 << 20;
/// What the stretches of variables are called: those with a value to begin with, and those without.
const STRETCHES: [&str; 2] = ["data", "bss"];

/// Names of variables.
#[derive(Debug)]
pub struct VariableNames {
    /// By address.
    symbols: Vec<Symbol>,
    variables: [Variables; 2],
    bias: u64,
}

/// What the compiler laid out for literals: it has no symbol, but a variable leads to it.
#[derive(Debug, Default)]
pub(super) struct Literals<'n> {
    /// The variable that leads to where a literal begins.
    names: BTreeMap<VirtAddr, &'n str>,
}

impl VariableNames {
    /// Reads those of a file that is loaded `bias` beyond its own addresses.
    pub fn read(file: &File, variables: [Variables; 2], bias: u64) -> Self {
        let mut left = MAX_NAMES_BYTES;
        let found = select_variables(file, &mut |name| {
            let fits = name.len() <= MAX_NAME_BYTES.min(left);
            left -= if fits { name.len() } else { 0 };
            fits
        });
        let symbols = found.unwrap_or_else(|error| {
            tracing::debug!("symbols cannot be read: {error}");
            Vec::new()
        });
        Self::new(symbols, variables, bias)
    }

    fn new(mut symbols: Vec<Symbol>, variables: [Variables; 2], bias: u64) -> Self {
        symbols.retain(|symbol| {
            let at = VirtAddr(symbol.address.0.wrapping_add(bias));
            symbol.size > 0 && variables.iter().any(|all| (all.start..all.end).contains(&at))
        });
        symbols.sort_by_key(|symbol| symbol.address);
        Self { symbols, variables, bias }
    }

    /// Whether the file has symbols.
    pub fn are_known(&self) -> bool {
        !self.symbols.is_empty()
    }

    /// Takes a word of a variable, which may lead to a literal.
    pub(super) fn note_literal<'n>(&'n self, at: VirtAddr, word: u64, literals: &mut Literals<'n>) {
        let word = VirtAddr(word);
        let is_variable = self.variables.iter().any(|all| (all.start..all.end).contains(&word));
        if is_variable && let (Ok(name), Err(_)) = (self.symbol(at), self.symbol(word)) {
            literals.names.entry(word).or_insert(name);
        }
    }

    /// The name of the variable that a word is in, or that leads to the literal that it is in.
    pub(super) fn at<'n>(&'n self, address: VirtAddr, literals: &Literals<'n>) -> Cow<'n, str> {
        let before = match self.symbol(address) {
            Ok(name) => return name.into(),
            Err(before) => before,
        };
        let stretch = self.variables.iter().find(|all| (all.start..all.end).contains(&address));
        let before = stretch.map_or(address, |all| before.max(all.start));
        let nearest = literals.names.range(..=address).next_back();
        match nearest.filter(|(start, _)| **start >= before) {
            Some((_, name)) => (*name).into(),
            None => self.place(address).into(),
        }
    }

    /// The symbol that a word is in, or else the end of the one before.
    fn symbol(&self, address: VirtAddr) -> Result<&str, VirtAddr> {
        let in_file = ElfAddr(address.0.wrapping_sub(self.bias));
        let after = self.symbols.partition_point(|symbol| symbol.address <= in_file);
        let Some(symbol) = after.checked_sub(1).map(|before| &self.symbols[before]) else {
            return Err(VirtAddr(0));
        };
        if in_file.0 - symbol.address.0 < symbol.size {
            return Ok(&symbol.name);
        }
        Err(VirtAddr(symbol.address.0.saturating_add(symbol.size).wrapping_add(self.bias)))
    }

    fn place(&self, address: VirtAddr) -> String {
        let mut stretches = self.variables.iter().zip(STRETCHES);
        match stretches.find(|(all, _)| (all.start..all.end).contains(&address)) {
            Some((all, name)) => format!("{name}+0x{:x}", address.0 - all.start.0),
            None => format!("0x{:x}", address.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_the_name_of_their_variable_or_of_their_place() {
        let symbol = |name: &str, address, size| Symbol {
            name: name.to_owned(),
            address: ElfAddr(address),
            size,
            indirect: false,
        };
        let stretch = |start, end| Variables {
            start: VirtAddr(start),
            end: VirtAddr(end),
            mask_bits: 0,
            mask: VirtAddr(0),
        };
        let symbols = vec![
            symbol("main.sessions", 0x120, 16),
            symbol("main.cache", 0x100, 8),
            symbol("elsewhere", 0x9000, 8),
        ];
        let variables = [stretch(0x1100, 0x1180), stretch(0x1200, 0x1300)];
        let names = VariableNames::new(symbols, variables, 0x1000);
        assert!(names.are_known());
        let mut literals = Literals::default();
        // One that leads to a literal, one to a variable, one from nowhere, one to no variable.
        for (at, word) in [(0x1100, 0x1208), (0x1120, 0x1100), (0x1110, 0x1200), (0x1120, 0xa000)] {
            names.note_literal(VirtAddr(at), word, &mut literals);
        }
        for (at, name) in [
            (0x1100, "main.cache"),
            (0x1108, "data+0x8"),
            (0x1128, "main.sessions"),
            (0x1130, "data+0x30"),
            (0x1200, "bss+0x0"),
            (0x1208, "main.cache"),
            (0x1210, "main.cache"),
            (0xa000, "0xa000"),
        ] {
            assert_eq!(names.at(VirtAddr(at), &literals), name, "{at:x}");
        }
    }
}
