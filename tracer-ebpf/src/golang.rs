//! The sampler of a Go runtime: objects that it chose, and their end.
//!
//! Nothing is chosen here, and no stack is walked: the runtime's call site has it, and userspace reads it there. A goroutine has
//! no return that could be trapped: both are seen where they are entered, behind the stack check, so that each call is seen once.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_common::counter::Counter;
use tracer_common::event::{EventKind, GoSampledEvent};
use tracer_common::golang::GoRuntime;
use tracer_common::process::ProbeId;

use crate::call::{Thread, read_user};
use crate::counters::{add, count};
use crate::maps::{GO_RUNTIMES, TARGETS};
use crate::process_row::{count_told_allocation, count_told_release, current_probe, now_ns};
use crate::{emit, private_stack};

/// The first two arguments, the goroutine and the place, as Go passes them (ABIInternal of amd64).
struct GoCall {
    first: u64,
    second: u64,
    goroutine: u64,
    ip: u64,
}

impl GoCall {
    #[inline(always)]
    fn read(context: &ProbeContext) -> Self {
        // SAFETY: the context of a uprobe program is the probed thread's registers.
        let regs = unsafe { &*context.as_ptr().cast::<pt_regs>() };
        Self { first: regs.rax, second: regs.rbx, goroutine: regs.r14, ip: regs.rip }
    }
}

/// `setprofilebucket(p, b)`.
#[uprobe]
pub fn go_sampled(context: ProbeContext) -> u32 {
    private_stack::decline();
    let (probe, start_ns) = (current_probe(&context), now_ns());
    let Some(runtime) = runtime(probe) else { return 0 };
    record_sample(&context, runtime);
    count_told_allocation(probe.process, start_ns, u64::from(runtime.sampled_stepped));
    0
}

#[inline(always)]
fn record_sample(context: &ProbeContext, runtime: &GoRuntime) {
    let thread = Thread::current();
    if TARGETS.get_ptr(thread.tgid).is_none() {
        return;
    }
    let GoCall { first: address, second: bucket, goroutine, ip } = GoCall::read(context);
    let size_bytes = read_user(bucket.wrapping_add(u64::from(runtime.object_size_offset)));
    let Some(size_bytes) = size_bytes else {
        count(Counter::UnreadableArguments);
        return;
    };
    let sweepgen = read_user(ip.wrapping_add(runtime.sweepgen_distance)).unwrap_or(0);
    let event = GoSampledEvent {
        header: emit::header(EventKind::GoSampled, thread, 0),
        address,
        bucket,
        size_bytes,
        cycle: u64::from(GoRuntime::cycle(sweepgen)),
        processor: processor(goroutine, runtime).unwrap_or(0),
    };
    if emit::go_sampled(event).is_err() {
        count(Counter::LostAllocations);
        add(Counter::LostAllocatedBytes, size_bytes);
    }
}

/// `freeSpecial(s, p, size)`, of which the profiler's records are a part.
#[uprobe]
pub fn go_freed(context: ProbeContext) -> u32 {
    private_stack::decline();
    let (probe, start_ns) = (current_probe(&context), now_ns());
    let Some(runtime) = runtime(probe) else { return 0 };
    record_end(&context, runtime);
    count_told_release(probe.process, start_ns, u64::from(runtime.freed_stepped));
    0
}

#[inline(always)]
fn record_end(context: &ProbeContext, runtime: &GoRuntime) {
    let thread = Thread::current();
    if TARGETS.get_ptr(thread.tgid).is_none() {
        return;
    }
    let GoCall { first: special, second: address, .. } = GoCall::read(context);
    let Some(word) = read_user(special.wrapping_add(u64::from(runtime.kind_offset))) else {
        count(Counter::UnreadableArguments);
        return;
    };
    let is_profilers = word & 0xff == u64::from(runtime.kind_profile);
    if is_profilers && emit::release(EventKind::GoFreed, thread, address).is_err() {
        count(Counter::LostFrees);
    }
}

/// The processor on which a goroutine runs.
#[inline(always)]
fn processor(goroutine: u64, runtime: &GoRuntime) -> Option<u64> {
    let thread = read_user(goroutine.wrapping_add(u64::from(runtime.thread_offset)))?;
    read_user(thread.wrapping_add(u64::from(runtime.processor_offset)))
}

/// The runtime that was hit.
#[inline(always)]
fn runtime(probe: ProbeId) -> Option<&'static GoRuntime> {
    let runtime = GO_RUNTIMES.get(probe.row);
    if runtime.is_none() {
        count(Counter::UnknownFunctions);
    }
    runtime
}
