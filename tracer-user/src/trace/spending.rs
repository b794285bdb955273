//! What tracing has cost one process: its CPU time and the hits of its probes, since the window's start.

use tracer_common::process::{Hits, ProcessControl};

use crate::governor::{Costs, Governor, Spent, slowdown};
use crate::sys::own_calls::process_cpu_time;
use crate::sys::usage::monotonic_ns;
use crate::target::Pid;

/// The account of one process.
#[derive(Clone, Debug)]
pub struct Spending {
    pid: Pid,
    /// Clocks and counters at the window's start, `CLOCK_MONOTONIC` as elapsed time.
    start: Spent,
    /// Since then, when its CPU clock could last be read: it is gone with the process.
    last: Spent,
    /// As much of that was judged by.
    judged: Spent,
    /// Hits since the start, to the end.
    hits: Hits,
    /// Keeps it within the limit, if there is one.
    pub governor: Option<Governor>,
    /// How its probes work now.
    pub control: ProcessControl,
}

impl Spending {
    /// Starts now.
    pub fn start(pid: Pid, hits: Hits, governor: Option<Governor>) -> Self {
        let cpu_ns = cpu_ns(pid).unwrap_or(0);
        Self {
            pid,
            start: Spent { elapsed_ns: monotonic_ns(), cpu_ns, hits },
            last: Spent::default(),
            judged: Spent::default(),
            hits: Hits::default(),
            governor,
            control: ProcessControl::default(),
        }
    }

    /// Reads the clocks.
    pub fn look(&mut self, hits: Hits) {
        let cpu_ns = cpu_ns(self.pid);
        let now = Spent { elapsed_ns: monotonic_ns(), cpu_ns: cpu_ns.unwrap_or(0), hits };
        let since = now.since(&self.start);
        self.hits = since.hits;
        if cpu_ns.is_some() {
            self.last = since;
        }
    }

    /// What happened since this was last answered, once it is enough to judge by.
    pub fn to_judge(&mut self, hits: Hits) -> Option<Spent> {
        self.look(hits);
        let interval = self.last.since(&self.judged);
        Governor::is_enough(&interval).then(|| {
            self.judged = self.last;
            interval
        })
    }

    /// Judges anew from now on: what was before is not what will be.
    pub fn restart_judging(&mut self, hits: Hits) {
        self.look(hits);
        self.judged = self.last;
    }

    /// Probe hits, and the slowdown they are estimated to have caused.
    pub fn summary(&self, costs: &Costs) -> (Hits, Option<f64>) {
        (self.hits, slowdown(&self.last, costs))
    }
}

fn cpu_ns(pid: Pid) -> Option<u64> {
    process_cpu_time(pid.0).map(|time| time.as_nanos() as u64)
}
