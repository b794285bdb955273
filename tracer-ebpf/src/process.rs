//! What processes do that matters to the ledger: exec, the end of a thread, fork.

use aya_ebpf::macros::{raw_tracepoint, tracepoint};
use aya_ebpf::programs::{RawTracePointContext, TracePointContext};
use aya_log_ebpf::info;
use tracer_common::counter::Counter;
use tracer_common::event::EventKind;
use tracer_common::target::TargetRow;

use crate::call::{Thread, abandon};
use crate::counters::count;
use crate::emit;
use crate::maps::{CODE_MAPS, IN_FLIGHT, SUSPENDED, TARGETS};

/// Bit of `clone_flags` that makes a thread and not a process (include/uapi/linux/sched.h).
const CLONE_THREAD: u64 = 0x0001_0000;

/// `sched_process_exec`: the process's memory, and every block in it, is gone.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_executes(context: RawTracePointContext) -> u32 {
    let thread = Thread::current();
    // SAFETY: the value is plain numbers.
    let Some(row) = (unsafe { TARGETS.get(thread.tgid) }).copied() else { return 0 };
    info!(&context, "process {} runs another program", thread.tgid);
    let _ = IN_FLIGHT.remove(thread.tid);
    let _ = IN_FLIGHT.remove(thread.tid | SUSPENDED);
    // Its code is another now: frame pointers have to do until userspace has read the new mappings.
    let _ = CODE_MAPS.remove(thread.tgid);
    let _ =
        TARGETS.insert(thread.tgid, TargetRow { code_version: 0, stack_copies_left: 0, ..row }, 0);
    if emit::process(EventKind::Executed, thread).is_err() {
        count(Counter::LostProcessEvents);
    }
    0
}

/// `sched_process_exit`, for each thread: a call it was in will not return.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn thread_exits(_context: RawTracePointContext) -> u32 {
    let thread = Thread::current();
    // SAFETY: the element belongs to this thread.
    if let Some(call) = (unsafe { IN_FLIGHT.get(thread.tid) }).copied() {
        abandon(thread, &call);
    }
    let _ = IN_FLIGHT.remove(thread.tid | SUSPENDED);
    0
}

/// `task:task_newtask`: a traced process forks. Attached only when forks are followed.
#[tracepoint]
pub fn process_forks(context: TracePointContext) -> u32 {
    /// Offsets in the event's record (`events/task/task_newtask/format`).
    const CHILD: usize = 8;
    const CLONE_FLAGS: usize = 32;
    let thread = Thread::current();
    if TARGETS.get_ptr(thread.tgid).is_none() {
        return 0;
    }
    // SAFETY: both fields lie in the event's record.
    let child = unsafe { context.read_at::<u32>(CHILD) };
    // SAFETY: as above.
    let clone_flags = unsafe { context.read_at::<u64>(CLONE_FLAGS) };
    let (Ok(child), Ok(clone_flags)) = (child, clone_flags) else { return 0 };
    if clone_flags & CLONE_THREAD == 0
        && emit::process(EventKind::Forked, Thread { tgid: thread.tgid, tid: child }).is_err()
    {
        count(Counter::LostProcessEvents);
    }
    0
}
