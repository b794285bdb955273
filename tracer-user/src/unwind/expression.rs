//! The DWARF expressions that compilers and linkers write into call frame information, as rules.
//!
//! Three forms occur in x86-64 programs: entries of the procedure linkage table (written by ld and lld), functions that
//! align their stack (gcc), and assembly that keeps its caller's stack pointer in memory (OpenSSL). Others are unknown.

use gimli::{
    EhFrame, Encoding, EndianSlice, Format, LittleEndian, Operation, UnwindExpression, X86_64,
};
use tracer_common::unwind::{CfaKind, FpPlace, Rule};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Longer ones are of no known form.
const MAX_OPERATIONS: usize = 10;
const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 4 };

/// The rule for a canonical frame address given by an expression; nothing is said of the frame pointer.
pub(super) fn cfa(
    expression: UnwindExpression<usize>,
    frames: &EhFrame<Slice<'_>>,
) -> Option<Rule> {
    let operations = operations(expression, frames)?;
    match operations.as_slice() {
        [
            Operation::RegisterOffset { register, offset, .. },
            Operation::Deref { space: false, .. },
            rest @ ..,
        ] => {
            let cfa_kind = match *register {
                X86_64::RSP => CfaKind::AtStackPointer,
                X86_64::RBP => CfaKind::AtFramePointer,
                _ => return None,
            };
            let added = match rest {
                [] => 0,
                [Operation::PlusConstant { value }] => i16::try_from(*value).ok()?,
                _ => return None,
            };
            Some(Rule {
                cfa_kind: cfa_kind as u32,
                cfa_offset: i32::try_from(*offset).ok()?,
                cfa_added: added,
                ..Rule::default()
            })
        }
        operations => linkage_table(operations),
    }
}

/// `rsp + 8 + ((rip & 15) >= position) * 8`.
fn linkage_table(operations: &[Operation<Slice<'_>>]) -> Option<Rule> {
    use Operation::{And, Ge, Plus, RegisterOffset, Shl, UnsignedConstant};
    let [
        RegisterOffset { register: X86_64::RSP, offset, .. },
        RegisterOffset { register: X86_64::RA, offset: 0, .. },
        UnsignedConstant { value: 15 },
        And,
        UnsignedConstant { value: position },
        Ge,
        UnsignedConstant { value: 3 },
        Shl,
        Plus,
    ] = operations
    else {
        return None;
    };
    Some(Rule {
        cfa_kind: CfaKind::LinkageTable as u32,
        cfa_offset: i32::try_from(*offset).ok()?,
        fp_offset: i32::try_from(*position).ok()?,
        ..Rule::default()
    })
}

/// Where an expression says that the caller's frame pointer is saved, relative to this frame's.
pub(super) fn fp_offset(
    expression: UnwindExpression<usize>,
    frames: &EhFrame<Slice<'_>>,
) -> Option<(FpPlace, i32)> {
    match operations(expression, frames)?.as_slice() {
        [Operation::RegisterOffset { register: X86_64::RBP, offset, .. }] => {
            Some((FpPlace::FromFramePointer, i32::try_from(*offset).ok()?))
        }
        _ => None,
    }
}

fn operations<'a>(
    expression: UnwindExpression<usize>,
    frames: &EhFrame<Slice<'a>>,
) -> Option<Vec<Operation<Slice<'a>>>> {
    let expression = expression.get(frames).ok()?;
    let mut found = Vec::new();
    let mut operations = expression.operations(ENCODING);
    while let Some(operation) = operations.next().ok()? {
        if found.len() >= MAX_OPERATIONS {
            return None;
        }
        found.push(operation);
    }
    Some(found)
}
