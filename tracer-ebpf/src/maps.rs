//! All maps: who writes, who reads, and what bounds them.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use tracer_common::counter::COUNTERS;
use tracer_common::exit::ExitInfo;
use tracer_common::function::FunctionInfo;
use tracer_common::golang::{GoAllocated, GoRuntime, GoSweep};
use tracer_common::limits::{
    MAX_EXITS, MAX_FUNCTIONS, MAX_GO_EXITS, MAX_GO_RUNTIMES, MAX_IN_FLIGHT, MAX_PROBE_POINTS,
    MAX_PROCESSES, MAX_TARGETS, MAX_UNWIND_PAGES, MAX_UNWIND_ROWS, MAX_UNWIND_RULES,
    REMEMBERED_RULES, STACK_SLOTS, STACK_WINDOW_WORDS,
};
use tracer_common::live::{LiveBlock, LiveKey};
use tracer_common::process::{Hits, ProcessControl};
use tracer_common::stack::StackRecord;
use tracer_common::target::TargetRow;
use tracer_common::unwind::{CodeMap, CodeRange, Rule};
use tracer_common::usdt::ProbePoint;

/// Mean bytes between samples, before it is doubled for a process; 0 records every allocation. Set by userspace before the programs are loaded.
#[unsafe(no_mangle)]
pub static SAMPLE_MEAN_BYTES: Global<u64> = Global::new(0);

/// Rows by cookie. Userspace writes before it attaches; programs read.
#[map]
pub static FUNCTIONS: Array<FunctionInfo> = Array::with_max_entries(MAX_FUNCTIONS, 0);

/// Go runtimes by cookie. Userspace writes before it attaches; programs read.
#[map]
pub static GO_RUNTIMES: Array<GoRuntime> = Array::with_max_entries(MAX_GO_RUNTIMES, 0);

/// Where allocating functions of Go runtimes return, by cookie. Userspace writes before it attaches; programs read.
#[map]
pub static GO_EXITS: Array<GoAllocated> = Array::with_max_entries(MAX_GO_EXITS, 0);

/// Where Go runtimes sweep, by cookie. Userspace writes before it attaches; programs read.
#[map]
pub static GO_SWEEPS: Array<GoSweep> = Array::with_max_entries(MAX_GO_RUNTIMES, 0);

/// Where functions that may throw leave, by cookie. Userspace writes before it attaches; programs read.
#[map]
pub static EXITS: Array<ExitInfo> = Array::with_max_entries(MAX_EXITS, 0);

/// Static probe points by cookie. Userspace writes before it attaches; programs read.
#[map]
pub static PROBE_POINTS: Array<ProbePoint> = Array::with_max_entries(MAX_PROBE_POINTS, 0);

/// Processes traced, by tgid. Userspace writes; programs read, and count down the copies of stacks.
#[map]
pub static TARGETS: HashMap<u32, TargetRow> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// Calls of hooked functions that have not returned, by thread; suspended ones by thread and [`SUSPENDED`]. Only programs
/// use it.
#[map]
pub static IN_FLIGHT: HashMap<u32, Call> = HashMap::with_max_entries(MAX_IN_FLIGHT, 0);

/// Sampled blocks that are outstanding: decides which frees are told. Written by programs; userspace reads it to
/// resynchronise. Unused when every allocation is recorded. Userspace sets the capacity.
#[map]
pub static LIVE: HashMap<LiveKey, LiveBlock> = HashMap::with_max_entries(262_144, 0);

/// Stacks already published.
#[map]
pub static SEEN_STACKS: HashMap<u64, u32> = HashMap::with_max_entries(131_072, 0);

/// The code of each process, by tgid. Userspace writes; an update puts a new copy in place of the old one.
#[map]
pub static CODE_MAPS: HashMap<u32, CodeMap> =
    HashMap::with_max_entries(MAX_TARGETS, BPF_F_NO_PREALLOC);

/// Unwind tables: the first row of each page, one more than there are pages.
#[map]
pub static UNWIND_PAGES: Array<u64> = Array::with_max_entries(MAX_UNWIND_PAGES, BPF_F_MMAPABLE);

/// Unwind tables: rows, two in an element since elements take eight bytes anyway.
#[map]
pub static UNWIND_ROWS: Array<u64> = Array::with_max_entries(MAX_UNWIND_ROWS / 2, BPF_F_MMAPABLE);

/// Unwind tables: the rules that rows refer to.
#[map]
pub static UNWIND_RULES: Array<Rule> = Array::with_max_entries(MAX_UNWIND_RULES, 0);

/// Rules of addresses looked up lately, by CPU. Only programs use it.
#[map]
pub static RECENT_RULES: PerCpuArray<RecentRule> =
    PerCpuArray::with_max_entries(REMEMBERED_RULES, 0);

/// Slots for stack walks; a task claims one, since another task can preempt it on the same CPU.
#[map]
pub static STACK_WALKS: PerCpuArray<StackWalk> = PerCpuArray::with_max_entries(STACK_SLOTS, 0);

/// Sampling state of each CPU.
#[map]
pub static SAMPLERS: PerCpuArray<Sampler> = PerCpuArray::with_max_entries(1, 0);

/// Everything told to userspace, in one order. Userspace sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// [`tracer_common::counter::Counter`]s.
#[map]
pub static COUNTERS_BY_CPU: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// How the probes of each process shall work, by its place. Userspace writes; programs read.
#[map]
pub static PROCESSES: Array<ProcessControl> = Array::with_max_entries(MAX_PROCESSES, 0);

/// How often the probes of each process ran, by its place.
#[map]
pub static HITS_BY_CPU: PerCpuArray<Hits> = PerCpuArray::with_max_entries(MAX_PROCESSES, 0);

/// Added to a thread's number: its call that waits for another one, not its own, to end.
pub const SUSPENDED: u32 = 1 << 31;

/// A call of a hooked function between its entry and its return.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// Stack pointer at entry, where the return address is.
    pub sp: u64,
    /// The probed instruction.
    pub ip: u64,
    /// Where it returns to, if the return is not trapped; else 0.
    pub return_address: u64,
    /// Index of the function's row.
    pub function: u32,
    /// Place of the process in the tables.
    pub process: u32,
    /// Bytes requested.
    pub size_bytes: u64,
    /// The block handed to realloc; the address of the result for posix_memalign.
    pub old_address: u64,
    /// Stack of the call, or [`tracer_common::stack::NO_STACK`].
    pub stack_id: u64,
    /// [`call_flags`].
    pub flags: u32,
    /// How often the sampling mean had been doubled.
    pub doublings: u32,
    /// The old block as it was in [`LIVE`], to put back if realloc fails.
    pub old_block: LiveBlock,
}

/// Bits of [`Call::flags`].
pub mod call_flags {
    /// The new block is to be recorded.
    pub const RECORDED: u32 = 1;
    /// The old block is followed and was withdrawn.
    pub const WITHDRAWN: u32 = 2;
    /// The function is seen to leave by its exits: its return is not trapped.
    pub const BY_EXITS: u32 = 4;
    /// The new block is not followed: its free will not be told.
    pub const UNTRACKED: u32 = 8;
}

/// Poisson countdown of one CPU, and the last call that was not sampled but may forward to another hooked function.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sampler {
    /// What is left until the next sample, see [`tracer_common::sampling::countdown`].
    pub left: i64,
    /// Thread of the forwarding call, or 0.
    pub outer_tid: u64,
    /// Its stack pointer.
    pub outer_sp: u64,
    /// Its return address.
    pub outer_return: u64,
    /// The code of the forwarding function: start.
    pub outer_start: u64,
    /// The code of the forwarding function: end.
    pub outer_end: u64,
}

/// A rule and the address that it was found for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RecentRule {
    /// The address, mixed with the version of the process's code; 0 while the rule is being written.
    pub key: u64,
    /// The rule.
    pub rule: Rule,
    /// The address as a frame.
    pub frame: u64,
}

/// One stack walk.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackWalk {
    /// 1 while a task uses the slot.
    pub claimed: u64,
    /// Address of the current frame.
    pub ip: u64,
    /// Stack pointer in the current frame.
    pub sp: u64,
    /// Frame pointer in the current frame.
    pub fp: u64,
    /// See [`TargetRow::code_version`].
    pub code_version: u32,
    /// Frames up to and with the first one in unknown code; 0 when there is none.
    pub unknown_depth: u32,
    /// Return address, stack pointer and frame pointer there.
    pub unknown_ip: u64,
    /// See above.
    pub unknown_sp: u64,
    /// See above.
    pub unknown_fp: u64,
    /// Where the thread stands in the current frame, see `stack.rs`.
    pub standing: u32,
    /// The range of code of the last frame: most frames lie in the same one as the frame before.
    pub range: CodeRange,
    /// Address of the first word of `window`.
    pub window_start: u64,
    /// A piece of the stack: reading the target's memory costs more than anything else, so frames share one reading.
    pub window: [u64; STACK_WINDOW_WORDS],
    /// Frames so far, and their hash.
    pub record: StackRecord,
}
