//! What a run tells its caller, and what the caller may say meanwhile.

use std::ops::ControlFlow;

use crate::fault::Fault;
use crate::report::model::Report;
use crate::target::Target;
use crate::trace::hooks::Source;

/// What a run tells its caller while it goes on.
pub enum Progress<'a> {
    /// All probes of a process are attached.
    Tracing {
        /// The process.
        target: &'a Target,
        /// Who tells of its allocations.
        source: Source,
    },
    /// A process loaded an allocator, and it is attached to.
    Loaded {
        /// The process.
        target: &'a Target,
        /// The allocator.
        allocator: &'a str,
    },
    /// Addresses of a report are being named.
    Naming {
        /// Addresses that have a name.
        done: usize,
        /// All of them.
        total: usize,
        /// Debug information is awaited from a server.
        fetching: bool,
    },
    /// Something was done to keep the cost of tracing a process within its limit.
    Governed {
        /// The process.
        target: &'a Target,
        /// What, why, and what to do about it.
        what: &'a str,
    },
    /// A report is due; `last` for the final one of its process.
    Report {
        /// The report.
        report: Box<Report>,
        /// No more will follow for this process.
        last: bool,
    },
}

/// Where progress goes. It ends the run with an error, or by a break when nobody wants to hear more.
pub type Listener<'a> = dyn FnMut(Progress<'_>) -> Result<ControlFlow<()>, Fault> + 'a;

/// Told how many files of how many have their unwind tables.
pub type PreparingListener = Box<dyn FnMut(usize, usize)>;

/// What ends a run from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserSignal {
    /// Ends the run with a last report.
    Finish,
    /// Was meant for the traced program: this signal is handed on to it.
    HandOn(i32),
}
