//! Parsers of programs and libraries, and of what is made of their unwind tables.

use tracer_common::unwind::Rule;
use zerocopy::FromBytes as _;

use super::{file, word};
use crate::allocators::usdt;
use crate::probes::exits::exits;
use crate::probes::flow::{Callee, Flow};
use crate::probes::module_code::ModuleCode;
use crate::probes::placement::place;
use crate::target::elf::Elf;
use crate::target::imports::imports;
use crate::target::symbols::{find_functions, find_variables};
use crate::target::{ElfAddr, FileOffset, Image, VirtAddr, notes as stapsdt};
use crate::unwind::cache;
use crate::unwind::compile::{compile, compile_image};
use crate::unwind::functions::FunctionRanges;
use crate::unwind::pack::{PackedTable, Rules, pack};
use crate::unwind::walk::{StackCopy, walk};

/// Addresses that tables are asked for: of each page among the first ones, and at the ends.
const ASKED: [u64; 8] = [0, 1, 0xfff, 0x1000, 0x1_0000, 0x40_1000, u64::MAX - 1, u64::MAX];

/// An ELF file: what is known of a module, its symbols, imports, notes.
pub fn elf(bytes: &[u8]) {
    let Some(file) = file(bytes) else { return };
    if let Ok(elf) = Elf::read(&file) {
        for at in ASKED {
            let _: Option<FileOffset> = elf.file_offset(ElfAddr(at));
            let _: Option<ElfAddr> = elf.address(FileOffset(at));
            elf.code_segment(FileOffset(at), at);
        }
    }
    let names = ["malloc", "free", "runtime.mheap_"];
    find_functions(&file, &names).ok();
    find_variables(&file, &names).ok();
    imports(&file);
    stapsdt::notes(&file);
    if let Ok(image) = Image::read(file) {
        for at in ASKED {
            image.is_code(ElfAddr(at));
            image.bytes(ElfAddr(at), 64);
            image.bytes_up_to(ElfAddr(at), 1 << 20);
        }
    }
}

/// The contents of `.note.stapsdt`, and the arguments of the points in it.
pub fn notes(bytes: &[u8]) {
    for note in stapsdt::parse(bytes, Some(word(bytes, 0))) {
        for argument in note.arguments.split_ascii_whitespace() {
            usdt::argument(argument);
        }
    }
}

/// The call frame information of an ELF file.
///
/// # Panics
/// When the file and its contents give different tables.
pub fn unwind(bytes: &[u8]) {
    let rows = compile_image(bytes);
    if let Some(table) = pack(&rows) {
        ask(&table);
    }
    let Some(file) = file(bytes) else { return };
    assert_eq!(compile(&file), rows, "a file and its contents are compiled to the same rows");
    let functions = FunctionRanges::read(&file);
    for at in ASKED {
        functions.around(ElfAddr(at));
    }
}

/// A table of the cache on disk.
pub fn unwind_table(bytes: &[u8]) {
    if let Some(table) = cache::decode(bytes) {
        ask(&table);
    }
}

fn ask(table: &PackedTable) {
    for at in ASKED {
        table.rule_at(ElfAddr(at));
        table.rule_at(ElfAddr(table.base.wrapping_add(at)));
    }
    table.renumbered(&mut Rules::default());
}

/// Registers, rules, and a copy of a stack.
pub fn stack_walk(bytes: &[u8]) {
    const RULES: usize = 4;
    let registers = [0, 1, 2, 3].map(|number| word(bytes, number));
    let [ip, sp, fp, start] = registers;
    let mut rest = bytes.get(size_of_val(&registers)..).unwrap_or_default();
    let mut rules = [Rule::default(); RULES];
    for rule in &mut rules {
        let Ok((read, others)) = Rule::read_from_prefix(rest) else { break };
        (*rule, rest) = (read, others);
    }
    let copy = StackCopy { ip, sp, fp, bytes: rest.to_vec(), start };
    walk(copy, usize::MAX, |at: VirtAddr| rules.get(at.0 as usize % (RULES + 1)).copied());
}

/// The file of a program whose first code is a function that is to be probed.
pub fn code(bytes: &[u8]) {
    place(bytes, word(bytes, 0));
    let Some(file) = file(bytes) else { return };
    let Ok(elf) = Elf::read(&file) else { return };
    let code = ModuleCode::new(&file, &elf);
    for segment in elf.segments.iter().filter(|segment| segment.executable).take(4) {
        let start = segment.address;
        for is_argument_set in [false, true] {
            let is_free = |callee: Callee<'_>| matches!(callee, Callee::Named(_));
            let flow = Flow::explore(&code, start, &is_free, is_argument_set);
            exits(&flow, start, &|_| true);
        }
    }
}
