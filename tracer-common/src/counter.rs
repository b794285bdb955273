//! Counters of the kernel programs: every early return that loses something.

/// One counter; the number is its index in the per-CPU array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Counter {
    /// Allocation events that did not fit in the ring buffer.
    LostAllocations = 0,
    /// Bytes of [`Counter::LostAllocations`], as requested by the program.
    LostAllocatedBytes = 1,
    /// Free events that did not fit in the ring buffer.
    LostFrees = 2,
    /// Stacks that did not fit in the ring buffer; published again at the next use.
    LostStacks = 3,
    /// Allocations recorded without a stack: all scratch slots of the CPU were in use.
    StackSlotsBusy = 4,
    /// Calls not recorded because too many threads were inside hooked functions.
    InFlightFull = 5,
    /// Bytes of [`Counter::InFlightFull`].
    InFlightFullBytes = 6,
    /// Sampled blocks not followed: the table of sampled blocks was full.
    LiveFull = 7,
    /// Calls whose return was never seen (longjmp, an exception, a thread that ended inside).
    MissedReturns = 8,
    /// Bytes requested by [`Counter::MissedReturns`].
    MissedReturnBytes = 9,
    /// Calls made by another hooked function, counted with that one.
    NestedCalls = 10,
    /// Calls that returned no block.
    FailedCalls = 11,
    /// Hits with a cookie that has no row in the function table.
    UnknownFunctions = 12,
    /// Process events (exec, fork) that did not fit in the ring buffer.
    LostProcessEvents = 13,
    /// Frees of withdrawn blocks whose events did not fit in the ring buffer.
    LostResizes = 14,
    /// `posix_memalign` results whose out pointer could not be read.
    UnreadableResults = 15,
    /// Calls of mmap, munmap, mremap and brk seen in traced processes.
    MappingHits = 16,
    /// Events of mmap, growing mremap and brk that did not fit in the ring buffer.
    LostMappings = 17,
    /// Bytes of [`Counter::LostMappings`].
    LostMappedBytes = 18,
    /// Events of munmap, and of mremap's entry, that did not fit in the ring buffer.
    LostUnmappings = 19,
    /// Hits of static probe points whose arguments could not be read.
    UnreadableArguments = 20,
    /// Heaps that were destroyed with all their blocks.
    DestroyedHeaps = 21,
}

/// Number of counters.
pub const COUNTERS: u32 = 22;
