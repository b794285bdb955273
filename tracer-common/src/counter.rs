//! Counters of the kernel programs: every early return that loses something, and how often the probes ran.

/// One counter; the number is its index in the per-CPU array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Counter {
    /// Calls of a hooked allocating function.
    AllocateHits = 0,
    /// Calls of a hooked releasing function.
    ReleaseHits = 1,
    /// Allocation events that did not fit in the ring buffer.
    LostAllocations = 2,
    /// Bytes of [`Counter::LostAllocations`], as requested by the program.
    LostAllocatedBytes = 3,
    /// Free events that did not fit in the ring buffer.
    LostFrees = 4,
    /// Stacks that did not fit in the ring buffer; published again at the next use.
    LostStacks = 5,
    /// Allocations recorded without a stack: all scratch slots of the CPU were in use.
    StackSlotsBusy = 6,
    /// Calls not recorded because too many threads were inside hooked functions.
    InFlightFull = 7,
    /// Bytes of [`Counter::InFlightFull`].
    InFlightFullBytes = 8,
    /// Sampled blocks not followed: the table of sampled blocks was full.
    LiveFull = 9,
    /// Calls whose return was never seen (longjmp, an exception, a thread that ended inside).
    MissedReturns = 10,
    /// Bytes requested by [`Counter::MissedReturns`].
    MissedReturnBytes = 11,
    /// Calls made by another hooked function, counted with that one.
    NestedCalls = 12,
    /// Calls that returned no block.
    FailedCalls = 13,
    /// Hits with a cookie that has no row in the function table.
    UnknownFunctions = 14,
    /// Process events (exec, fork) that did not fit in the ring buffer.
    LostProcessEvents = 15,
    /// Frees of withdrawn blocks whose events did not fit in the ring buffer.
    LostResizes = 16,
    /// `posix_memalign` results whose out pointer could not be read.
    UnreadableResults = 17,
    /// Calls of mmap, munmap, mremap and brk seen in traced processes.
    MappingHits = 18,
    /// Events of mmap, growing mremap and brk that did not fit in the ring buffer.
    LostMappings = 19,
    /// Bytes of [`Counter::LostMappings`].
    LostMappedBytes = 20,
    /// Events of munmap, and of mremap's entry, that did not fit in the ring buffer.
    LostUnmappings = 21,
    /// Hits of static probe points whose arguments could not be read.
    UnreadableArguments = 22,
}

/// Number of counters.
pub const COUNTERS: u32 = 23;
