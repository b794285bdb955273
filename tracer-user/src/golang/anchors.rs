//! Where the runtime's variables are, without a symbol table: small functions of the runtime refer to them.
//!
//! In: the code of those functions, found by name in the function table. Out: [`Anchors`]. Go refers to its variables relative to the
//! instruction, so that decoding a function gives their addresses; which one is meant is told by how it is used.

use std::collections::HashMap;
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::code::GoCode;
use super::layout::HeapLayout;
use crate::target::ElfAddr;
use crate::target::symbols::find_variables;

/// Longest function that is decoded.
const MAX_CODE_BYTES: u64 = 64 << 10;

const PROFILE_ALLOC: &str = "runtime.profilealloc";
const MEM_PROFILE_FREE: &str = "runtime.mProf_Free";
const FLUSH_LOCKED: &str = "runtime.mProf_FlushLocked";
const FLUSH: &str = "runtime.mProf_Flush";
const SET_BUCKET: &str = "runtime.setprofilebucket";
const ADD_GOROUTINE: &str = "runtime.allgadd";
const RESIZE_PROCESSORS: &str = "runtime.procresize";
const INITIALISE_THREAD: &str = "runtime.mcommoninit";
const QUEUE_FINALIZER: &str = "runtime.queuefinalizer";
const RUN_CLEANUPS: &str = "runtime.runCleanups";

/// Addresses of variables in the file; `None` for one that could not be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors {
    /// `runtime.MemProfileRate`: mean bytes between samples.
    pub rate: Option<ElfAddr>,
    /// `runtime.mProfCycle`: which part of the profile is being filled.
    pub cycle: Option<ElfAddr>,
    /// `runtime.mbuckets`: head of the list of call sites.
    pub buckets: Option<ElfAddr>,
    /// `runtime.mheap_`: the heap.
    pub heap: Option<ElfAddr>,
    /// What `runtime.allgadd` refers to; one of it is `runtime.allgs`, the list of goroutines.
    pub goroutine_candidates: Vec<ElfAddr>,
    /// What `runtime.procresize` refers to; one of it is `runtime.allp`, the list of processors.
    pub processor_candidates: Vec<ElfAddr>,
    /// What `runtime.mcommoninit` refers to; one of it is `runtime.allm`, the first of all threads.
    pub thread_candidates: Vec<ElfAddr>,
    /// What `runtime.queuefinalizer` refers to, among it the blocks of finalizers to be run.
    pub finalizer_candidates: Vec<ElfAddr>,
    /// What `runtime.runCleanups` refers to, since Go 1.25, among it the queue of cleanups to be run.
    pub cleanup_candidates: Vec<ElfAddr>,
}

impl Anchors {
    /// Finds them in the code, and those that it does not show in the symbol table, if there is one.
    pub fn find(code: &GoCode, layout: &HeapLayout) -> Self {
        let names = [
            PROFILE_ALLOC,
            MEM_PROFILE_FREE,
            FLUSH_LOCKED,
            FLUSH,
            SET_BUCKET,
            ADD_GOROUTINE,
            RESIZE_PROCESSORS,
            INITIALISE_THREAD,
            QUEUE_FINALIZER,
            RUN_CLEANUPS,
        ];
        let functions = code.table().functions_named(&names);
        let references = |name: &str| {
            functions.get(name).map_or_else(Vec::new, |range| references(code, range.clone()))
        };
        let mut found = Self {
            rate: compared_with_one(&references(PROFILE_ALLOC)),
            cycle: first_load(&references(MEM_PROFILE_FREE), 4),
            buckets: first_load(&references(FLUSH_LOCKED), 8)
                .or_else(|| first_load(&references(FLUSH), 8)),
            heap: heap(&references(SET_BUCKET), layout),
            goroutine_candidates: targets(&references(ADD_GOROUTINE)),
            processor_candidates: targets(&references(RESIZE_PROCESSORS)),
            thread_candidates: targets(&references(INITIALISE_THREAD)),
            finalizer_candidates: targets(&references(QUEUE_FINALIZER)),
            cleanup_candidates: targets(&references(RUN_CLEANUPS)),
        };
        if [found.rate, found.cycle, found.buckets, found.heap].contains(&None) {
            found.complete(&symbols(code));
        }
        found
    }

    fn complete(&mut self, symbols: &HashMap<String, ElfAddr>) {
        for (variable, name) in [
            (&mut self.rate, "runtime.MemProfileRate"),
            (&mut self.cycle, "runtime.mProfCycle"),
            (&mut self.buckets, "runtime.mbuckets"),
            (&mut self.heap, "runtime.mheap_"),
        ] {
            *variable = variable.or_else(|| symbols.get(name).copied());
        }
    }
}

fn symbols(code: &GoCode) -> HashMap<String, ElfAddr> {
    let names =
        ["runtime.MemProfileRate", "runtime.mProfCycle", "runtime.mbuckets", "runtime.mheap_"];
    let found = find_variables(code.image().file(), &names).unwrap_or_default();
    found.into_iter().map(|symbol| (symbol.name, symbol.address)).collect()
}

/// How an instruction uses a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Load(Register),
    Address,
    Compare(u64),
    Other,
}

/// An instruction, and the variable that it refers to, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reference {
    what: Use,
    size: usize,
    target: Option<ElfAddr>,
    /// The register and the number that it compares.
    compares: Option<(Register, u64)>,
}

/// The instructions of a function.
fn references(code: &GoCode, function: Range<u64>) -> Vec<Reference> {
    let start = code.text().0.wrapping_add(function.start);
    let size = function.end.saturating_sub(function.start).min(MAX_CODE_BYTES);
    let bytes = code.image().bytes_up_to(ElfAddr(start), size).unwrap_or_default();
    Decoder::with_ip(64, &bytes, start, DecoderOptions::NONE)
        .iter()
        .map(|i| reference(&i))
        .collect()
}

fn reference(instruction: &Instruction) -> Reference {
    let memory = instruction.is_ip_rel_memory_operand();
    let is_comparison = instruction.mnemonic() == Mnemonic::Cmp;
    let number = is_immediate(instruction.op1_kind()).then(|| instruction.immediate(1));
    let what = match instruction.mnemonic() {
        Mnemonic::Lea => Use::Address,
        Mnemonic::Cmp => number.map_or(Use::Other, Use::Compare),
        Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsxd | Mnemonic::Movsx
            if instruction.op0_kind() == OpKind::Register =>
        {
            Use::Load(instruction.op0_register())
        }
        _ => Use::Other,
    };
    let register = instruction.op0_kind() == OpKind::Register;
    Reference {
        what,
        size: instruction.memory_size().size(),
        target: memory.then(|| ElfAddr(instruction.ip_rel_memory_address())),
        compares: number
            .filter(|_| is_comparison && register)
            .map(|n| (instruction.op0_register(), n)),
    }
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8 | OpKind::Immediate8to64 | OpKind::Immediate32 | OpKind::Immediate32to64
    )
}

/// The variable of 8 bytes that is compared with 1, in memory or from a register: a rate of 1 means that everything is recorded.
fn compared_with_one(references: &[Reference]) -> Option<ElfAddr> {
    let mut loaded = HashMap::new();
    for reference in references {
        match (reference.what, reference.target) {
            (Use::Compare(1), Some(target)) if reference.size == 8 => return Some(target),
            (Use::Load(register), Some(target)) if reference.size == 8 => {
                loaded.insert(register, target);
            }
            _ => {}
        }
        if let Some((register, 1)) = reference.compares
            && let Some(target) = loaded.get(&register)
        {
            return Some(*target);
        }
    }
    None
}

fn first_load(references: &[Reference], size: usize) -> Option<ElfAddr> {
    let mut loads = references.iter().filter(|r| matches!(r.what, Use::Load(_)) && r.size == size);
    loads.find_map(|reference| reference.target)
}

/// The heap, of which two fields are taken the address of. That they are as far apart as the layout has them checks the layout.
fn heap(references: &[Reference], layout: &HeapLayout) -> Option<ElfAddr> {
    let addresses: Vec<u64> = references
        .iter()
        .filter(|reference| reference.what == Use::Address)
        .filter_map(|reference| Some(reference.target?.0))
        .collect();
    let heap = |lock: &u64| {
        let heap = lock.checked_sub(layout.speciallock)?;
        addresses.contains(&heap.checked_add(layout.specialprofilealloc)?).then_some(ElfAddr(heap))
    };
    addresses.iter().find_map(heap)
}

fn targets(references: &[Reference]) -> Vec<ElfAddr> {
    let mut targets: Vec<_> = references.iter().filter_map(|reference| reference.target).collect();
    targets.sort();
    targets.dedup();
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Vec<Reference> {
        let decoder = Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE);
        decoder.into_iter().map(|i| reference(&i)).collect()
    }

    #[test]
    fn a_rate_is_what_is_compared_with_one() {
        // mov rax,[rip+0x10]; mov rcx,[rip+0x20]; cmp rcx,1
        let code =
            [0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0x48, 0x8b, 0x0d, 0x20, 0, 0, 0, 0x48, 0x83, 0xf9, 1];
        assert_eq!(compared_with_one(&decode(&code)), Some(ElfAddr(0x1000 + 14 + 0x20)));
        // cmp qword ptr [rip+0x30],1
        let code = [0x48, 0x83, 0x3d, 0x30, 0, 0, 0, 1];
        assert_eq!(compared_with_one(&decode(&code)), Some(ElfAddr(0x1000 + 8 + 0x30)));
        assert_eq!(compared_with_one(&decode(&code[..4])), None);
    }

    #[test]
    fn loads_are_told_apart_by_size() {
        // mov eax,[rip+0x10]; mov rax,[rip+0x20]
        let code = [0x8b, 0x05, 0x10, 0, 0, 0, 0x48, 0x8b, 0x05, 0x20, 0, 0, 0];
        let found = decode(&code);
        assert_eq!(first_load(&found, 4), Some(ElfAddr(0x1016)));
        assert_eq!(first_load(&found, 8), Some(ElfAddr(0x102d)));
        assert_eq!(targets(&found).len(), 2);
    }
}
