//! Entry of functions that take blocks back.
//!
//! Told at entry, before another thread can be given the same address.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_common::counter::Counter;
use tracer_common::event::EventKind;
use tracer_common::live::LiveKey;

use crate::call::{Registers, Thread, is_traced_call};
use crate::counters::count;
use crate::emit;
use crate::maps::{FUNCTIONS, LIVE, SAMPLE_MEAN_BYTES};
use crate::private_stack;

/// Entry of free and its like.
#[uprobe]
pub fn release_enter(context: ProbeContext) -> u32 {
    private_stack::decline();
    count(Counter::ReleaseHits);
    let registers = Registers::read(&context);
    let [address, ..] = registers.arguments;
    if address == 0 {
        return 0;
    }
    let thread = Thread::current();
    let wanted = if SAMPLE_MEAN_BYTES.load() == 0 {
        is_wanted(&context, thread, &registers)
    } else {
        let key = LiveKey { tgid: thread.tgid, reserved: 0, address };
        LIVE.remove(key).is_ok()
    };
    if wanted && emit::release(EventKind::Freed, thread, address).is_err() {
        count(Counter::LostFrees);
    }
    0
}

/// When every allocation is recorded: whether the process is traced and the call is the program's own.
#[inline(always)]
fn is_wanted(context: &ProbeContext, thread: Thread, registers: &Registers) -> bool {
    // SAFETY: the helper takes the program's own context.
    let function = unsafe { bpf_get_attach_cookie(context.as_ptr()) };
    let Some(info) = FUNCTIONS.get(function as u32) else {
        count(Counter::UnknownFunctions);
        return false;
    };
    is_traced_call(thread, registers, info)
}
