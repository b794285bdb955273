//! Rows packed into pages for the kernel.

use std::collections::HashMap;

use tracer_common::limits::{MAX_UNWIND_PAGES, MAX_UNWIND_RULES};
use tracer_common::unwind::{PAGE_BITS, Rule, row};

use crate::unwind::compile::Row;

/// The rules of all files, each once. The first is the one of which nothing is known.
#[derive(Debug)]
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

/// A file's table as the kernel takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedTable {
    /// ELF address of the first page.
    pub base: u64,
    /// For each page, its first row's position in `rows`.
    pub pages: Vec<u32>,
    /// All rows.
    pub rows: Vec<u32>,
}

/// Packs the rows of one file. `None` when there are none, or they spread over more pages than can be.
pub fn pack(rows: &[Row], rules: &mut Rules) -> Option<PackedTable> {
    let (first, last) = (rows.first()?.address.0, rows.last()?.address.0);
    let first_page = first >> PAGE_BITS;
    let pages = (last >> PAGE_BITS) - first_page + 1;
    if pages >= u64::from(MAX_UNWIND_PAGES) {
        return None;
    }
    let mut table =
        PackedTable { base: first_page << PAGE_BITS, pages: Vec::new(), rows: Vec::new() };
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
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::ElfAddr;
    use tracer_common::unwind::{CfaKind, row_address, row_rule};

    fn rule(offset: i32) -> Rule {
        Rule { cfa_kind: CfaKind::StackPointer as u32, cfa_offset: offset, ..Rule::default() }
    }

    /// What the kernel program's search finds.
    fn look_up(table: &PackedTable, rules: &Rules, address: u64) -> Rule {
        let page = ((address - table.base) >> PAGE_BITS) as usize;
        let end = table.pages.get(page + 1).map_or(table.rows.len(), |end| *end as usize);
        let rows = &table.rows[table.pages[page] as usize..end];
        let after = rows.partition_point(|row| row_address(*row) <= (address as u32 & 0xffff));
        rules.list()[row_rule(rows[after - 1]) as usize]
    }

    #[test]
    fn every_address_has_the_rule_of_the_last_row_before_it() {
        let rows: Vec<Row> = [(0x1_0010, 8), (0x1_fff0, 16), (0x3_0000, 24), (0x3_8000, 32)]
            .map(|(address, offset)| Row { address: ElfAddr(address), rule: rule(offset) })
            .into();
        let mut rules = Rules::default();
        let table = pack(&rows, &mut rules).expect("packed");
        assert_eq!((table.base, table.pages.len()), (0x1_0000, 3));
        assert_eq!(look_up(&table, &rules, 0x1_0000), Rule::default());
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
            assert_eq!(look_up(&table, &rules, address), rule(offset), "{address:x}");
        }
    }

    #[test]
    fn a_table_over_the_whole_address_space_is_refused() {
        let rows = [0, u64::MAX].map(|address| Row { address: ElfAddr(address), rule: rule(8) });
        assert_eq!(pack(&rows, &mut Rules::default()), None);
        assert_eq!(pack(&[], &mut Rules::default()), None);
    }
}
