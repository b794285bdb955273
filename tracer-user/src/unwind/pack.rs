//! Rows packed into pages for the kernel.

use std::collections::HashMap;

use tracer_common::limits::{MAX_UNWIND_PAGES, MAX_UNWIND_RULES};
use tracer_common::unwind::{PAGE_BITS, Rule, row, row_address, row_rule};

use crate::target::ElfAddr;
use crate::unwind::compile::Row;

/// Rules, each once. The first is the one of which nothing is known.
#[derive(Clone, Debug)]
pub struct Rules {
    numbers: HashMap<Rule, u16>,
    list: Vec<Rule>,
}

impl Default for Rules {
    fn default() -> Self {
        let unknown = Rule::default();
        Self { numbers: HashMap::from([(unknown, 0)]), list: vec![unknown] }
    }
}

impl Rules {
    /// The number of a rule; that of the unknown one when there is no room for more.
    pub fn number(&mut self, rule: Rule) -> u16 {
        if let Some(number) = self.numbers.get(&rule) {
            return *number;
        }
        if self.list.len() >= MAX_UNWIND_RULES as usize {
            return 0;
        }
        let number = self.list.len() as u16;
        self.list.push(rule);
        self.numbers.insert(rule, number);
        number
    }

    /// All rules, by number.
    pub fn list(&self) -> &[Rule] {
        &self.list
    }
}

/// A file's table: pages of rows, and the rules that the rows refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedTable {
    /// ELF address of the first page.
    pub base: u64,
    /// For each page, its first row's position in `rows`.
    pub pages: Vec<u32>,
    /// All rows, see [`row`].
    pub rows: Vec<u32>,
    /// The rules of this file by number.
    pub rules: Vec<Rule>,
}

impl PackedTable {
    /// The rule for an address of the file; `None` outside of the table.
    pub fn rule_at(&self, address: ElfAddr) -> Option<Rule> {
        let page = (address.0.checked_sub(self.base)? >> PAGE_BITS) as usize;
        let first = *self.pages.get(page)? as usize;
        let end = self.pages.get(page + 1).map_or(self.rows.len(), |end| *end as usize);
        let rows = self.rows.get(first..end)?;
        let low = address.0 as u32 & ((1 << PAGE_BITS) - 1);
        let after = rows.partition_point(|row| row_address(*row) <= low);
        let row = rows.get(after.checked_sub(1)?)?;
        self.rules.get(row_rule(*row) as usize).copied()
    }

    /// The rows with the numbers that their rules have among those of all files.
    pub fn renumbered(&self, all: &mut Rules) -> Vec<u32> {
        let numbers: Vec<u16> = self.rules.iter().map(|rule| all.number(*rule)).collect();
        let number = |old: u32| numbers.get(old as usize).copied().unwrap_or(0);
        self.rows.iter().map(|old| row(row_address(*old) as u16, number(row_rule(*old)))).collect()
    }
}

/// Packs the rows of one file. `None` when there are none, or they spread over more pages than can be.
pub fn pack(rows: &[Row]) -> Option<PackedTable> {
    let (first, last) = (rows.first()?.address.0, rows.last()?.address.0);
    let first_page = first >> PAGE_BITS;
    let pages = (last >> PAGE_BITS) - first_page + 1;
    if pages >= u64::from(MAX_UNWIND_PAGES) {
        return None;
    }
    let mut rules = Rules::default();
    let mut table = PackedTable { base: first_page << PAGE_BITS, ..PackedTable::default() };
    let mut rows = rows.iter().peekable();
    let mut in_force = 0;
    for page in first_page..first_page + pages {
        table.pages.push(table.rows.len() as u32);
        table.rows.push(row(0, in_force));
        while let Some(next) = rows.next_if(|next| next.address.0 >> PAGE_BITS == page) {
            in_force = rules.number(next.rule);
            let low = next.address.0 as u16;
            match table.rows.last_mut() {
                Some(first) if low == 0 => *first = row(0, in_force),
                _ => table.rows.push(row(low, in_force)),
            }
        }
    }
    table.rules = rules.list;
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_common::unwind::CfaKind;

    fn rule(offset: i32) -> Rule {
        Rule { cfa_kind: CfaKind::StackPointer as u32, cfa_offset: offset, ..Rule::default() }
    }

    #[test]
    fn every_address_has_the_rule_of_the_last_row_before_it() {
        let rows: Vec<Row> = [(0x1_0010, 8), (0x1_fff0, 16), (0x3_0000, 24), (0x3_8000, 32)]
            .map(|(address, offset)| Row { address: ElfAddr(address), rule: rule(offset) })
            .into();
        let table = pack(&rows).expect("packed");
        assert_eq!((table.base, table.pages.len()), (0x1_0000, 3));
        assert_eq!(table.rule_at(ElfAddr(0x1_0000)), Some(Rule::default()));
        for (address, offset) in [
            (0x1_0010, 8),
            (0x1_ffef, 8),
            (0x1_fff0, 16),
            (0x2_1234, 16),
            (0x2_ffff, 16),
            (0x3_0000, 24),
            (0x3_7fff, 24),
            (0x3_ffff, 32),
        ] {
            assert_eq!(table.rule_at(ElfAddr(address)), Some(rule(offset)), "{address:x}");
        }
    }

    #[test]
    fn a_table_over_the_whole_address_space_is_refused() {
        let rows = [0, u64::MAX].map(|address| Row { address: ElfAddr(address), rule: rule(8) });
        assert_eq!(pack(&rows), None);
        assert_eq!(pack(&[]), None);
    }

    #[test]
    fn a_file_keeps_its_rules_when_it_is_numbered_among_others() {
        let rows = [(0x10, 8), (0x20, 16)]
            .map(|(address, offset)| Row { address: ElfAddr(address), rule: rule(offset) });
        let table = pack(&rows).expect("packed");
        let mut all = Rules::default();
        all.number(rule(99));
        all.number(rule(16));
        let renumbered = table.renumbered(&mut all);
        let rules: Vec<Rule> =
            renumbered.iter().map(|row| all.list()[row_rule(*row) as usize]).collect();
        assert_eq!(rules, [Rule::default(), rule(8), rule(16)]);
    }
}
