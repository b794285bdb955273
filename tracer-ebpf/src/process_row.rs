//! The traced process's rows: how often its probes ran, and how they shall work.
//!
//! A probe's cookie says which process it belongs to, so that a call that is not recorded looks nothing up by process.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::programs::ProbeContext;
use tracer_common::exit::ExitInfo;
use tracer_common::function::FunctionInfo;
use tracer_common::limits::MAX_WORK_NS;
use tracer_common::process::{ProbeId, ProcessControl};

use crate::call::Thread;
use crate::counters::add_to;
use crate::maps::{HITS_BY_CPU, PROCESSES, TARGETS};

/// The probe that runs.
#[inline(always)]
pub fn current_probe(context: &ProbeContext) -> ProbeId {
    // SAFETY: the helper takes the program's own context.
    let probe = ProbeId::from_cookie(unsafe { bpf_get_attach_cookie(context.as_ptr()) });
    if probe.process != 0 {
        return probe;
    }
    ProbeId { process: process_of(Thread::current()), ..probe }
}

/// The place of a process in the tables; 0 for one that is not traced.
#[inline(always)]
pub fn process_of(thread: Thread) -> u32 {
    // SAFETY: the value is a plain number.
    unsafe { TARGETS.get(thread.tgid) }.map_or(0, |row| row.process)
}

/// How the process's probes shall work.
#[inline(always)]
pub fn control(process: u32) -> Option<ProcessControl> {
    PROCESSES.get(process).copied()
}

/// Counts an entry of an allocating function. `None` when the process has no row, so that no path through the program goes on
/// without one.
#[inline(always)]
pub fn count_allocation(process: u32, info: &FunctionInfo) -> Option<()> {
    let hits = HITS_BY_CPU.get_ptr_mut(process)?;
    // SAFETY: both are fields of this CPU's element.
    let (all, stepped) =
        unsafe { (&raw mut (*hits).allocations, &raw mut (*hits).stepped_allocations) };
    add_to(all, 1);
    add_to(stepped, info.stepped());
    Some(())
}

/// Counts an entry of a releasing function, likewise.
#[inline(always)]
pub fn count_release(process: u32, info: &FunctionInfo) -> Option<()> {
    let hits = HITS_BY_CPU.get_ptr_mut(process)?;
    // SAFETY: both are fields of this CPU's element.
    let (all, stepped) = unsafe { (&raw mut (*hits).releases, &raw mut (*hits).stepped_releases) };
    add_to(all, 1);
    add_to(stepped, info.stepped());
    Some(())
}

/// Counts an exit of a function that may throw, likewise.
#[inline(always)]
pub fn count_exit(process: u32, exit: &ExitInfo) -> Option<()> {
    let hits = HITS_BY_CPU.get_ptr_mut(process)?;
    // SAFETY: both are fields of this CPU's element.
    let (all, stepped) = unsafe { (&raw mut (*hits).exits, &raw mut (*hits).stepped_exits) };
    add_to(all, 1);
    add_to(stepped, u64::from(exit.single_stepped));
    Some(())
}

/// Counts the return of a recorded call.
#[inline(always)]
pub fn count_return(process: u32) {
    if let Some(hits) = HITS_BY_CPU.get_ptr_mut(process) {
        // SAFETY: a field of this CPU's element.
        add_to(unsafe { &raw mut (*hits).returns }, 1);
    }
}

/// Now, for [`count_work_since`].
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// Counts that the process's own sampler told of an allocation, and the time since `start_ns` that it took. `stepped` is 1 when
/// the instruction was single-stepped.
#[inline(always)]
pub fn count_told_allocation(process: u32, start_ns: u64, stepped: u64) {
    if let Some(hits) = HITS_BY_CPU.get_ptr_mut(process) {
        // SAFETY: fields of this CPU's element.
        unsafe {
            add_to(&raw mut (*hits).allocations, 1);
            add_to(&raw mut (*hits).stepped_allocations, stepped);
            add_to(&raw mut (*hits).constant_work_ns, elapsed_ns(start_ns));
        }
    }
}

/// Counts that it told of a free, likewise.
#[inline(always)]
pub fn count_told_release(process: u32, start_ns: u64, stepped: u64) {
    if let Some(hits) = HITS_BY_CPU.get_ptr_mut(process) {
        // SAFETY: fields of this CPU's element.
        unsafe {
            add_to(&raw mut (*hits).releases, 1);
            add_to(&raw mut (*hits).stepped_releases, stepped);
            add_to(&raw mut (*hits).constant_work_ns, elapsed_ns(start_ns));
        }
    }
}

/// Counts the time since `start_ns` as spent on mappings.
#[inline(always)]
pub fn count_mapping_work_since(process: u32, start_ns: u64) {
    if let Some(hits) = HITS_BY_CPU.get_ptr_mut(process) {
        // SAFETY: a field of this CPU's element.
        add_to(unsafe { &raw mut (*hits).constant_work_ns }, elapsed_ns(start_ns));
    }
}

/// Counts the time since `start_ns` as spent on recorded calls.
#[inline(always)]
pub fn count_work_since(process: u32, start_ns: u64) {
    if let Some(hits) = HITS_BY_CPU.get_ptr_mut(process) {
        // SAFETY: a field of this CPU's element.
        add_to(unsafe { &raw mut (*hits).work_ns }, elapsed_ns(start_ns));
    }
}

#[inline(always)]
fn elapsed_ns(start_ns: u64) -> u64 {
    now_ns().wrapping_sub(start_ns).min(MAX_WORK_NS)
}
