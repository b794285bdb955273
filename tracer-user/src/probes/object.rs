//! The kernel programs: the embedded object, its maps, and loading a program for any kind of link.
//!
//! aya creates the maps and loads the tracepoint programs; programs of uprobes are relocated with aya-obj against aya's
//! maps and loaded by [`crate::sys::bpf`], since aya 0.14 knows neither multi nor session links, and loads a program only
//! once.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use aya::maps::{Map, MapType};
use aya::sys::is_map_supported;
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::bpf_insn;

use crate::fault::{Fault, Status};
use crate::sys::bpf::{self, AttachType, FunctionRecords, LoadError};

/// The object, built by this crate's build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("OUTLIVE_EBPF_OBJECT"));

/// Sizes of the maps, and the sampling constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelOptions {
    /// Mean bytes between samples; 0 records every allocation.
    pub sample_mean_bytes: u64,
    /// Size of the ring buffer, bytes: a power of two of at least a page.
    pub ring_bytes: u32,
    /// Sampled blocks that can be followed at a time.
    pub live_capacity: u32,
}

/// The loaded object: maps, and programs ready to be loaded.
pub struct KernelObject {
    /// Maps and tracepoint programs.
    pub ebpf: Ebpf,
    parsed: aya_obj::Object,
    btf: Option<OwnedFd>,
}

/// A program in the kernel.
pub struct LoadedProgram {
    /// The program; closing it unloads it once its links are gone.
    pub fd: OwnedFd,
    /// Instructions the verifier walked through, where the kernel tells.
    pub verified_instructions: Option<u32>,
}

fn cannot_load(why: impl std::fmt::Display) -> Fault {
    Fault::new(
        Status::NotAllowed,
        "cannot load the kernel programs",
        why.to_string(),
        "run as root (or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE); `outlive doctor` tells what this host allows",
    )
}

impl KernelObject {
    /// Creates the maps and prepares the programs.
    pub fn open(options: &KernelOptions) -> Result<Self, Fault> {
        if matches!(is_map_supported(MapType::RingBuf), Ok(false)) {
            return Err(Fault::new(
                Status::NotAllowed,
                "cannot trace on this kernel",
                "it has no ring buffers for kernel programs, or these rights do not allow them",
                "run as root, on Linux 5.8 or newer",
            ));
        }
        let ebpf = EbpfLoader::new()
            .override_global("SAMPLE_MEAN_BYTES", &options.sample_mean_bytes, true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("LIVE", options.live_capacity)
            .load(OBJECT)
            .map_err(|error| cannot_load(chain(&error)))?;
        let mut parsed = aya_obj::Object::parse(OBJECT).map_err(cannot_load)?;
        let btf = match aya::features().btf() {
            Some(features) => parsed.fixup_and_sanitize_btf(features).map_err(cannot_load)?,
            None => None,
        };
        let btf = match btf.map(aya_obj::btf::Btf::to_bytes) {
            Some(bytes) => Some(bpf::load_btf(&bytes).map_err(cannot_load)?),
            None => None,
        };
        let text: HashSet<usize> = parsed.functions.keys().map(|(section, _)| *section).collect();
        let maps = std::mem::take(&mut parsed.maps);
        let fds: HashMap<&str, RawFd> =
            ebpf.maps().filter_map(|(name, map)| Some((name, map_fd(map)?))).collect();
        let mut bound = Vec::new();
        for (name, map) in &maps {
            let Some(fd) = fds.get(name.as_str()) else {
                return Err(cannot_load(format!("the map {name} is of an unexpected type")));
            };
            bound.push((name.as_str(), *fd, map));
        }
        parsed.relocate_maps(bound.into_iter(), &text).map_err(cannot_load)?;
        parsed.relocate_calls(&text).map_err(cannot_load)?;
        Ok(Self { ebpf, parsed, btf })
    }

    /// Loads a uprobe program for this kind of link.
    pub fn load(&self, name: &str, attach_type: AttachType) -> Result<LoadedProgram, Fault> {
        self.load_changed(name, attach_type, <[bpf_insn]>::to_vec)
    }

    /// Loads a uprobe program for a single probe: its cookie is written into the program, since kernels before 5.15 have
    /// none.
    pub fn load_for(&self, name: &str, cookie: u32) -> Result<LoadedProgram, Fault> {
        self.load_changed(name, AttachType::PerfEvent, |instructions| {
            with_cookie(instructions, cookie)
        })
    }

    fn load_changed(
        &self,
        name: &str,
        attach_type: AttachType,
        change: impl FnOnce(&[bpf_insn]) -> Vec<bpf_insn>,
    ) -> Result<LoadedProgram, Fault> {
        let program = self.parsed.programs.get(name);
        let function =
            program.and_then(|program| self.parsed.functions.get(&program.function_key()));
        let Some(function) = function else {
            return Err(cannot_load(format!("the object has no program {name}")));
        };
        let records = function.func_info.func_info_bytes();
        let btf = self.btf.as_ref().map(|btf| {
            let records = FunctionRecords {
                bytes: &records,
                record_bytes: function.func_info_rec_size,
                count: function.func_info.len(),
            };
            (btf.as_fd(), records)
        });
        let instructions = change(&function.instructions);
        let program = bpf::Program { name, instructions: &instructions, attach_type, btf };
        let fd = bpf::load_program(&program).map_err(|error| refused(name, &error))?;
        let verified_instructions = bpf::verified_instructions(fd.as_fd());
        Ok(LoadedProgram { fd, verified_instructions })
    }

    /// What takes the kernel programs' own words to the log; they speak of rare events only.
    pub fn take_log(&mut self) -> Result<Box<dyn FnMut()>, Fault> {
        let mut logger = aya_log::EbpfLogger::init(&mut self.ebpf).map_err(cannot_load)?;
        Ok(Box::new(move || logger.flush()))
    }

    /// A map of the object, by its name in `tracer-ebpf/src/maps.rs`.
    pub fn take_map(&mut self, name: &str) -> Result<Map, Fault> {
        self.ebpf.take_map(name).ok_or_else(|| cannot_load(format!("the object has no map {name}")))
    }
}

/// The helper `bpf_get_attach_cookie`.
const GET_ATTACH_COOKIE: i32 = 174;

/// Puts a number in the place of each call that asks for the cookie.
fn with_cookie(instructions: &[bpf_insn], cookie: u32) -> Vec<bpf_insn> {
    const MOVE_NUMBER: u8 = 0xb7;
    let mut changed = instructions.to_vec();
    for instruction in changed.iter_mut().filter(|one| is_call(**one, GET_ATTACH_COOKIE)) {
        instruction.code = MOVE_NUMBER;
        instruction.imm = cookie as i32;
    }
    changed
}

/// Whether an instruction calls this helper, and not another function of the program.
fn is_call(instruction: bpf_insn, helper: i32) -> bool {
    const CALL: u8 = 0x85;
    instruction.code == CALL && instruction.src_reg() == 0 && instruction.imm == helper
}

/// Why the verifier refused, with the end of its log; the whole log goes to the debug log.
fn refused(name: &str, LoadError { error, log }: &LoadError) -> Fault {
    tracing::debug!("verifier log of {name}:\n{log}");
    let last = log.lines().rev().find(|line| !line.starts_with("processed")).unwrap_or_default();
    let separator = if last.is_empty() { "" } else { ": " };
    cannot_load(format!("the kernel refused the program {name}: {error}{separator}{last}"))
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn map_fd(map: &Map) -> Option<RawFd> {
    let (Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data)) = map
    else {
        return None;
    };
    let fd: BorrowedFd<'_> = data.fd().as_fd();
    Some(fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use aya_obj::ProgramSection;

    use super::*;

    fn calls(instructions: &[bpf_insn], helper: i32) -> bool {
        instructions.iter().any(|instruction| is_call(*instruction, helper))
    }

    /// See `tracer-ebpf/src/private_stack.rs`; programs of kernels before 6.13 have nothing to decline.
    #[test]
    fn every_program_of_a_uprobe_declines_a_private_stack() {
        const TAIL_CALL: i32 = 12;
        let object = aya_obj::Object::parse(OBJECT).expect("the object is whole");
        let mut seen = 0;
        for (name, program) in &object.programs {
            let is_of_uprobe = matches!(
                program.section,
                ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. }
            );
            if is_of_uprobe && !name.ends_with("_early") {
                let function = &object.functions[&program.function_key()];
                assert!(calls(&function.instructions, TAIL_CALL), "{name}");
                seen += 1;
            }
        }
        assert!(seen > 0, "the object has programs of uprobes");
    }

    #[test]
    fn a_cookie_takes_the_place_of_the_call_that_asks_for_it() {
        let object = aya_obj::Object::parse(OBJECT).expect("the object is whole");
        let program = &object.programs["allocate_enter"];
        let instructions = &object.functions[&program.function_key()].instructions;
        assert!(calls(instructions, GET_ATTACH_COOKIE));
        let changed = with_cookie(instructions, 77);
        assert!(!calls(&changed, GET_ATTACH_COOKIE));
        let numbers = changed.iter().zip(instructions).filter(|(new, old)| new.imm != old.imm);
        assert!(numbers.into_iter().all(|(new, _)| new.imm == 77 && new.dst_reg() == 0));
    }
}
