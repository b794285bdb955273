//! Code of a traced process that is no longer where userspace saw it: a library was unloaded, and something else is mapped
//! there now. Until userspace has looked again, stacks must not be walked by the old one's tables, nor be named after it.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::target::UNSEEN_CHANGE;
use tracer_common::unwind::{CodeMap, CodeRange};

use crate::call::Thread;
use crate::maps::{CODE_MAPS, TARGETS};
use crate::stack::range_at;

/// Most known ranges that one new mapping can take the place of; a library has one or two.
const MOST_REPLACED: u32 = 8;
/// Offset of `length` in `struct vm_unmapped_area_info` (include/linux/mm.h, 5.10 to 6.18).
const LENGTH: usize = 8;

/// `vm_unmapped_area`: the kernel has chosen the place for a new mapping. It was free until now.
#[raw_tracepoint(tracepoint = "vm_unmapped_area")]
pub fn process_maps(context: RawTracePointContext) -> u32 {
    let tgid = Thread::current().tgid;
    let Some(target) = TARGETS.get_ptr_mut(tgid) else { return 0 };
    let Some(map) = CODE_MAPS.get_ptr_mut(tgid) else { return 0 };
    // SAFETY: the tracepoint has two arguments: the address, and what was asked for.
    let (start, asked) = unsafe {
        let arguments = context.as_ptr().cast::<u64>();
        (*arguments, *arguments.add(1))
    };
    // SAFETY: the helper checks the address and fails on what cannot be read.
    let length = unsafe { bpf_probe_read_kernel((asked as usize + LENGTH) as *const u64) };
    if forget(map, start, start.wrapping_add(length.unwrap_or(1))) {
        // What was remembered of this process's addresses is not looked at any more.
        // SAFETY: the pointer is to a map element; two threads that map at once may count one change, which is enough.
        unsafe { (*target).code_version = (*target).code_version.wrapping_add(UNSEEN_CHANGE) };
    }
    0
}

/// Forgets the ranges that overlap these addresses; true when there was one.
#[inline(always)]
fn forget(map: *mut CodeMap, start: u64, end: u64) -> bool {
    let mut before = end;
    let mut found = false;
    for _ in 0..MOST_REPLACED {
        let range: *mut CodeRange = range_at(map, before.wrapping_sub(1));
        // SAFETY: the pointer is into a map element.
        let (range_start, range_end) = unsafe { ((*range).start, (*range).end) };
        if range_start >= before || range_end <= start {
            break;
        }
        // SAFETY: as above; a range that is empty holds no address.
        unsafe { (*range).end = range_start };
        found = true;
        before = range_start;
    }
    found
}
