//! From call frame information to sorted rows.

use std::fs::File;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, FrameDescriptionEntry, LittleEndian,
    Register, RegisterRule, UnwindContext, UnwindSection as _, X86_64,
};
use object::{Object as _, ObjectSection as _, ReadRef};
use tracer_common::unwind::{CfaKind, FpPlace, Rule};

use crate::target::ElfAddr;
use crate::target::file_bytes::FileBytes;
use crate::unwind::common_entries::CommonEntries;
use crate::unwind::expression;

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Most rows of one file; more is not believed.
const MAX_ROWS: usize = 4 << 20;

/// From this address on (until the next row) this rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// First address.
    pub address: ElfAddr,
    /// The rule; one of kind [`CfaKind::Unknown`] where no function is described.
    pub rule: Rule,
}

/// The rows of a file, sorted by address, each address once, neighbours with different rules. Empty when the file has no
/// call frame information that can be read.
pub fn compile(file: &File) -> Vec<Row> {
    compile_image(&FileBytes::new(file))
}

/// [`compile`], from the file's contents.
pub fn compile_image<'data>(image: impl ReadRef<'data>) -> Vec<Row> {
    let Ok(elf) = object::File::parse(image) else { return Vec::new() };
    let Some(section) = elf.section_by_name(".eh_frame") else { return Vec::new() };
    let Ok(data) = section.uncompressed_data() else { return Vec::new() };
    rows(&data, section.address())
}

/// The rows of a section's contents.
pub(super) fn rows(data: &[u8], address: u64) -> Vec<Row> {
    let frames = EhFrame::from(EndianSlice::new(data, LittleEndian));
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut context = UnwindContext::new();
    // Ends of functions sort before starts at the same address, and the last row of an address counts.
    let mut found: Vec<(u64, bool, Rule)> = Vec::new();
    let mut entries = frames.entries(&bases);
    let mut common = CommonEntries::new();
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let parsed = partial.parse(|section, bases, offset| common.get(section, bases, offset));
        if let Ok(function) = parsed {
            describe(&function, &frames, &bases, &mut context, &mut found);
        }
        if found.len() > MAX_ROWS {
            return Vec::new();
        }
    }
    sorted(found)
}

/// The rows of one function.
fn describe(
    function: &FrameDescriptionEntry<Slice<'_>>,
    frames: &EhFrame<Slice<'_>>,
    bases: &BaseAddresses,
    context: &mut UnwindContext<usize>,
    found: &mut Vec<(u64, bool, Rule)>,
) {
    let kind = |kind: CfaKind| Rule { cfa_kind: kind as u32, ..Rule::default() };
    found.push((function.end_address(), false, kind(CfaKind::Unknown)));
    if function.is_signal_trampoline() {
        found.push((function.initial_address(), true, kind(CfaKind::Signal)));
        return;
    }
    let Ok(mut table) = function.rows(frames, bases, context) else { return };
    while let Ok(Some(row)) = table.next_row() {
        // Every description starts with the return address at the CFA: without a rule it was undefined on purpose.
        let outermost = matches!(row.register(X86_64::RA), None | Some(RegisterRule::Undefined));
        let rule = if outermost {
            kind(CfaKind::Outermost)
        } else {
            rule(row.cfa(), row.register(X86_64::RBP).as_ref(), frames).unwrap_or_default()
        };
        found.push((row.start_address(), true, rule));
    }
}

/// A rule as kernel programs know it; of kind unknown when they do not.
fn rule(
    cfa: &CfaRule<usize>,
    fp: Option<&RegisterRule<usize>>,
    frames: &EhFrame<Slice<'_>>,
) -> Option<Rule> {
    let rule = match cfa {
        CfaRule::RegisterAndOffset { register, offset } => Rule {
            cfa_kind: kind_of(*register)? as u32,
            cfa_offset: i32::try_from(*offset).ok()?,
            ..Rule::default()
        },
        CfaRule::Expression(expression) => expression::cfa(*expression, frames)?,
    };
    let (fp_place, fp_offset) = match fp {
        Some(RegisterRule::Offset(offset)) => (FpPlace::FromCfa, i32::try_from(*offset).ok()?),
        Some(RegisterRule::Expression(expression)) => expression::fp_offset(*expression, frames)?,
        _ => (FpPlace::Register, rule.fp_offset),
    };
    Some(Rule { fp_place: fp_place as u16, fp_offset, ..rule })
}

fn kind_of(register: Register) -> Option<CfaKind> {
    match register {
        X86_64::RSP => Some(CfaKind::StackPointer),
        X86_64::RBP => Some(CfaKind::FramePointer),
        _ => None,
    }
}

fn sorted(mut found: Vec<(u64, bool, Rule)>) -> Vec<Row> {
    found.sort_by_key(|(address, starts, _)| (*address, *starts));
    let mut rows: Vec<Row> = Vec::with_capacity(found.len());
    for (address, _, rule) in found {
        let row = Row { address: ElfAddr(address), rule };
        match rows.last_mut() {
            Some(last) if last.address == row.address => last.rule = row.rule,
            _ => rows.push(row),
        }
    }
    rows.dedup_by(|later, earlier| later.rule == earlier.rule);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule for an address of this test program.
    fn rule_at(rows: &[Row], address: u64) -> Rule {
        let after = rows.partition_point(|row| row.address.0 <= address);
        rows[after - 1].rule
    }

    #[test]
    fn this_very_program_has_rows_for_its_functions() {
        use crate::target::elf::Elf;
        let file = File::open("/proc/self/exe").expect("itself");
        let rows = compile(&file);
        assert!(rows.len() > 1000, "{}", rows.len());
        assert!(rows.windows(2).all(|pair| pair[0].address < pair[1].address));
        let main = crate::target::symbols::find_functions(&file, &["_start"]).expect("symbols");
        let start = main.first().expect("a program starts somewhere").address.0;
        assert_eq!(rule_at(&rows, start + 4).cfa_kind, CfaKind::Outermost as u32);
        assert!(Elf::read(&file).is_ok());
    }

    #[test]
    fn an_end_gives_way_to_a_start() {
        let known =
            Rule { cfa_kind: CfaKind::StackPointer as u32, cfa_offset: 8, ..Rule::default() };
        let found =
            vec![(20, true, known), (20, false, Rule::default()), (30, false, Rule::default())];
        let rows = sorted(found);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0], Row { address: ElfAddr(20), rule: known });
    }

    #[test]
    fn cut_and_broken_sections_are_survived() {
        let file = File::open("/proc/self/exe").expect("itself");
        let cache = FileBytes::new(&file);
        let elf = object::File::parse(&cache).expect("an ELF file");
        let section = elf.section_by_name(".eh_frame").expect("call frame information");
        let mut data = section.uncompressed_data().expect("its contents").into_owned();
        data.truncate(4000);
        for length in 0..data.len() {
            let _ = rows(&data[..length], section.address());
        }
        for at in 0..data.len() {
            data[at] ^= 0xff;
            let _ = rows(&data, section.address());
            data[at] ^= 0xff;
        }
    }
}
