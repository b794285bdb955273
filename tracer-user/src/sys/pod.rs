//! Plain data of the contract, allowed into aya's maps.

use aya::Pod;
use tracer_common::exit::ExitInfo;
use tracer_common::function::FunctionInfo;
use tracer_common::golang::{GoAllocated, GoRuntime, GoSweep};
use tracer_common::live::{LiveBlock, LiveKey};
use tracer_common::process::{Hits, ProcessControl};
use tracer_common::target::TargetRow;
use tracer_common::unwind::{CodeMap, Rule};
use tracer_common::usdt::ProbePoint;

macro_rules! plain_data {
    ($(#[$doc:meta] $name:ident($inner:ty);)*) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub struct $name(pub $inner);
        // SAFETY: a `repr(C)` structure of integers without padding: every bit pattern is a value.
        unsafe impl Pod for $name {}
    )*};
}

plain_data! {
    /// A row of the function table.
    FunctionRow(FunctionInfo);
    /// A row of the table of exits.
    ExitRow(ExitInfo);
    /// A row of the table of static probe points.
    PointRow(ProbePoint);
    /// A row of the table of Go runtimes.
    RuntimeRow(GoRuntime);
    /// A row of the table of places where Go runtimes have allocated.
    AllocatedRow(GoAllocated);
    /// A row of the table of places where Go runtimes sweep.
    SweepRow(GoSweep);
    /// A key of the table of sampled blocks.
    LiveEntryKey(LiveKey);
    /// A value of the table of sampled blocks.
    LiveEntry(LiveBlock);
    /// The code of a process.
    CodeMapEntry(CodeMap);
    /// What kernel programs know of a traced process.
    TargetEntry(TargetRow);
    /// How often the probes of a process ran.
    HitsRow(Hits);
    /// How the probes of a process shall work.
    ControlRow(ProcessControl);
    /// An unwind rule.
    RuleEntry(Rule);
}
