//! Copies of stacks that go through code userspace has not told of: a library loaded a moment ago.
//!
//! A process may have code that never gets a table (compiled at run time), so only so many are sent until userspace has
//! looked at the mappings.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_RING_SIZE};
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use tracer_common::event::EventKind;
use tracer_common::limits::STACK_COPY_BYTES;
use tracer_common::stack::StackCopyRecord;

use crate::maps::{EVENTS, StackWalk, TARGETS};

/// Readings of a stack, each half as long as the one before.
const STEPS: u32 = 7;

/// Sends the stack's memory from its first frame in unknown code on, if there is one. What does not fit in the ring buffer
/// is not sent: the stack stays as it was published, and says that it is incomplete.
#[inline(always)]
pub fn send(walk: &StackWalk) {
    if walk.unknown_depth == 0 || !has_room() || !may_copy(walk.record.tgid) {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<StackCopyRecord>(0) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved and ours; bytes that are not read stay what they were, and are not counted.
    unsafe {
        (*record).kind = EventKind::StackCopy as u32;
        (*record).tgid = walk.record.tgid;
        (*record).id = walk.record.id;
        (*record).ip = walk.unknown_ip;
        (*record).sp = walk.unknown_sp;
        (*record).fp = walk.unknown_fp;
        (*record).depth = walk.unknown_depth;
        (*record).byte_count = read_stack(&raw mut (*record).bytes, walk.unknown_sp);
    }
    // Every moment until userspace has looked costs more incomplete stacks.
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}

/// Copies are large and must not take the place of events: they get half of the ring buffer.
#[inline(always)]
fn has_room() -> bool {
    EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) * 2 < EVENTS.query(u64::from(BPF_RB_RING_SIZE))
}

/// Takes one of the copies that are left.
#[inline(always)]
fn may_copy(tgid: u32) -> bool {
    let Some(row) = TARGETS.get_ptr_mut(tgid) else { return false };
    // SAFETY: the pointer is to a map element; two tasks that take the same copy send one more than allowed.
    unsafe {
        let left = (*row).stack_copies_left;
        if left == 0 {
            return false;
        }
        (*row).stack_copies_left = left - 1;
    }
    true
}

/// Reads as much as there is, to within the last few hundred bytes before memory that cannot be read; bytes read.
#[inline(always)]
fn read_stack(to: *mut [u8; STACK_COPY_BYTES], from: u64) -> u32 {
    let mut read = 0;
    let mut size = STACK_COPY_BYTES;
    for _ in 0..STEPS {
        if read + size <= STACK_COPY_BYTES {
            // SAFETY: there are `size` bytes left from there on.
            let rest = unsafe { to.cast::<u8>().add(read) };
            let source = (from + read as u64) as *const _;
            // SAFETY: the helper checks the address, and writes at most what is left.
            if unsafe { bpf_probe_read_user(rest.cast(), size as u32, source) } == 0 {
                read += size;
            }
        }
        size /= 2;
    }
    read as u32
}
