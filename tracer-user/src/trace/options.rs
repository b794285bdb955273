//! What a person asked for, checked: the command line and nothing of clap beyond it.

use std::time::Duration;

use crate::allocators::named::NamedFunction;
use crate::ledger::snapshot::Filter;
use crate::probes::features::LinkKind;
use crate::report;

/// Which allocations are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every one.
    Exact,
    /// Sampled by bytes, with this mean distance.
    Poisson {
        /// Mean bytes between two samples.
        mean_bytes: u64,
    },
}

impl Selection {
    /// The mean as kernel programs take it: 0 records everything.
    pub const fn mean_bytes(self) -> u64 {
        match self {
            Self::Exact => 0,
            Self::Poisson { mean_bytes } => mean_bytes,
        }
    }
}

/// How Go heaps are traced.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GoOptions {
    /// Turn on the profiler of a runtime that has none, with this mean of bytes between samples.
    pub profiling: Option<u64>,
    /// Record every allocation, and not only what the runtime samples.
    pub exact: Option<ExactGo>,
    /// Walk the heap of a process that nothing else tells of.
    pub walks: bool,
}

/// How every allocation of a Go heap is recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExactGo {
    /// Slowdown that is allowed, as in [`TraceOptions::max_overhead`].
    pub max_overhead: Option<f64>,
}

/// How to trace.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceOptions {
    /// Which allocations are recorded.
    pub selection: Selection,
    /// Slowdown of a traced process that is allowed: 0.05 for 5 %. Without it nothing is done about it.
    pub max_overhead: Option<f64>,
    /// Ends tracing; without it, Ctrl-C or the target's end does.
    pub duration: Option<Duration>,
    /// Time between two reports.
    pub interval: Option<Duration>,
    /// Trace children as targets of their own.
    pub follow_fork: bool,
    /// Follow what is mapped and unmapped, too.
    pub mappings: bool,
    /// Functions that the user named, to be hooked beside those that are known.
    pub named_functions: Vec<NamedFunction>,
    /// Hear what a process's own sampler tells, and hook no allocator then.
    pub hears_samplers: bool,
    /// How Go heaps are traced.
    pub go: GoOptions,
    /// Use this kind of link and no better one.
    pub force_link: Option<LinkKind>,
    /// Size of the ring buffer, bytes.
    pub ring_bytes: u32,
    /// Sampled blocks that can be followed at a time.
    pub live_capacity: u32,
    /// Which blocks count as live.
    pub filter: Filter,
    /// How reports are made.
    pub report: report::Options,
}
