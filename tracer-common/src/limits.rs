//! Every bound of the kernel side in one place.

/// Frames kept of one stack; deeper stacks are cut there and marked [`crate::stack::StackEnd::TooDeep`].
pub const MAX_FRAMES: usize = 255;

/// Hooked functions that one tracer can tell apart (the cookie of a probe is an index below this).
pub const MAX_FUNCTIONS: u32 = 1024;

/// Files with a Go runtime that one tracer can tell apart (the cookie of a probe is an index below this).
pub const MAX_GO_RUNTIMES: u32 = 1024;

/// Places where allocating functions of Go runtimes return, of all processes together.
pub const MAX_GO_EXITS: u32 = 8192;

/// Processes that one tracer can follow at a time.
pub const MAX_TARGETS: u32 = 1024;

/// Rows of the tables by process: each target has one, and row 0 is nobody's.
pub const MAX_PROCESSES: u32 = MAX_TARGETS + 1;

/// Most nanoseconds that one timed piece of work counts for. The deepest walk takes less; what takes longer was interrupted.
pub const MAX_WORK_NS: u64 = 50_000;

/// Threads that can be inside a hooked function at the same moment.
pub const MAX_IN_FLIGHT: u32 = 65_536;

/// Stack scratch slots of one CPU: how many tasks can be preempted in the middle of a stack walk on it.
pub const STACK_SLOTS: u32 = 16;

/// Farthest that one frame-pointer step may move up the stack, in bytes. A larger step is a corrupt frame pointer.
pub const MAX_FRAME_BYTES: u64 = 1 << 20;

/// Deepest that a hooked function calls another one it forwards to, in bytes of stack.
pub const MAX_FORWARD_BYTES: u64 = 4096;

/// Ranges of code in one process that are known; what is beyond is followed by frame pointers.
pub const MAX_CODE_RANGES: usize = 512;

/// Exits of functions that may throw, of all files together.
pub const MAX_EXITS: u32 = 4096;

/// Static probe points (USDT) of all files together.
pub const MAX_PROBE_POINTS: u32 = 4096;

/// Words of the stack that a walk reads at once.
pub const STACK_WINDOW_WORDS: usize = 64;

/// Most bytes of a stack that are copied out when it goes through unknown code.
pub const STACK_COPY_BYTES: usize = 16_384;

/// Stacks that are copied out before the mappings of the process have been read anew.
pub const STACK_COPIES: u32 = 1024;

/// Pages of 64 KiB of code with unwind tables, of all files together.
pub const MAX_UNWIND_PAGES: u32 = 65_535;

/// Rows of unwind tables, of all files together; two share an element of the kernel's array.
pub const MAX_UNWIND_ROWS: u32 = 4 << 20;

/// Distinct unwind rules, of all files together. Two thousand serve the largest programs.
pub const MAX_UNWIND_RULES: u32 = 16_384;

/// Unwind rules that each CPU remembers by address; a power of two.
pub const REMEMBERED_RULES: u32 = 4096;
