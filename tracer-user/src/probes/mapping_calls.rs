//! The programs that watch mmap, munmap, mremap and brk.
//!
//! They hang on the raw tracepoints of all system calls, which need no tracefs, and whose first argument is the registers
//! that a stack walk starts from.

use aya::programs::RawTracePoint;

use crate::fault::{Fault, Status};
use crate::probes::features::has_loop;
use crate::probes::object::KernelObject;

/// Programs and where they hang.
const PROGRAMS: [(&str, &str); 2] =
    [("mapping_call_enters", "sys_enter"), ("mapping_call_leaves", "sys_exit")];

/// Loads the programs; the instructions that the verifier walked through, where the kernel tells. They need `bpf_loop`.
pub fn load(object: &mut KernelObject) -> Result<Vec<(&'static str, u32)>, Fault> {
    if !has_loop() {
        return Err(Fault::new(
            Status::NotAllowed,
            "cannot follow mappings",
            "this kernel is older than 5.17: its programs cannot walk stacks of system calls",
            "leave out --mappings, or use Linux 5.17 or newer",
        ));
    }
    let mut verified = Vec::new();
    for (name, _) in PROGRAMS {
        let program = program(object, name)?;
        program.load().map_err(unusable)?;
        let info = program.info().map_err(unusable)?;
        verified.extend(info.verified_instruction_count().map(|count| (name, count)));
    }
    Ok(verified)
}

/// Attaches the loaded programs: they hang there until the object is gone.
pub fn attach(object: &mut KernelObject) -> Result<(), Fault> {
    for (name, tracepoint) in PROGRAMS {
        program(object, name)?.attach(tracepoint).map_err(unusable)?;
    }
    Ok(())
}

fn program<'a>(object: &'a mut KernelObject, name: &str) -> Result<&'a mut RawTracePoint, Fault> {
    let program = object.ebpf.program_mut(name).ok_or_else(|| unusable(name))?;
    program.try_into().map_err(unusable)
}

fn unusable(why: impl std::fmt::Display) -> Fault {
    Fault::new(
        Status::NotAllowed,
        "cannot follow mappings",
        format!("the tracepoints sys_enter and sys_exit cannot be used: {why}"),
        "leave out --mappings, or use a kernel built with CONFIG_FTRACE_SYSCALLS",
    )
}
