//! Entry of functions that take blocks back.
//!
//! Told at entry, before another thread can be given the same address.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use tracer_common::counter::Counter;
use tracer_common::event::EventKind;
use tracer_common::function::{Shape, traits};
use tracer_common::live::LiveKey;

use crate::call::{Registers, Thread, forget_thrown, is_traced_call};
use crate::counters::count;
use crate::emit;
use crate::maps::{FUNCTIONS, LIVE, SAMPLE_MEAN_BYTES, TARGETS};
use crate::private_stack;
use crate::process_row::{count_release, current_probe};

/// Entry of free and its like.
#[uprobe]
pub fn release_enter(context: ProbeContext) -> u32 {
    private_stack::decline();
    let probe = current_probe(&context);
    let Some(info) = FUNCTIONS.get(probe.row) else {
        count(Counter::UnknownFunctions);
        return 0;
    };
    if count_release(probe.process, info).is_none() {
        count(Counter::UnknownFunctions);
        return 0;
    }
    let registers = Registers::read(&context);
    let [address, ..] = registers.arguments;
    if address == 0 {
        return 0;
    }
    let thread = Thread::current();
    if info.shape == Shape::ReleaseHeap as u32 {
        if TARGETS.get_ptr(thread.tgid).is_some() {
            count(Counter::DestroyedHeaps);
        }
        return 0;
    }
    if info.traits & traits::MEETS_EXITS != 0 {
        forget_thrown(thread, &registers);
    }
    let wanted = if SAMPLE_MEAN_BYTES.load() == 0 {
        is_traced_call(thread, &registers, info)
    } else {
        let key = LiveKey { tgid: thread.tgid, reserved: 0, address };
        LIVE.remove(key).is_ok()
    };
    if wanted && emit::release(EventKind::Freed, thread, address).is_err() {
        count(Counter::LostFrees);
    }
    0
}
