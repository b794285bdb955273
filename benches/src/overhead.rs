//! What tracing costs the traced program, all in one run on one machine.
//!
//! In: the tracers. Out: a [`Row`] for each.

use std::path::PathBuf;

use anyhow::Result;

use crate::churn;
use crate::evidence::Evidence;
use crate::program::Program;
use crate::tracer::{Tracers, Tracing};

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Time, in the unit of the workload.
    pub(crate) cost: f64,
    /// What the tracer says.
    pub(crate) evidence: Evidence,
}

/// What is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// The malloc/free loop in one thread; nanoseconds for a pair.
    Loop,
    /// The same in two threads.
    TwoLoops,
    /// The C++ compiler; seconds.
    Compiler,
    /// Python; seconds.
    Python,
}

impl Workload {
    /// All, in the order of the page.
    pub(crate) const ALL: [Self; 4] = [Self::Loop, Self::TwoLoops, Self::Compiler, Self::Python];
}

/// What one way of tracing costs.
pub(crate) struct Row {
    pub(crate) tracing: Tracing,
    /// By [`Workload`]; none if the tracer is missing.
    pub(crate) measured: [Option<Measured>; Workload::ALL.len()],
}

impl Row {
    /// What was measured with a workload.
    pub(crate) fn of(&self, workload: Workload) -> Option<Measured> {
        self.measured.get(workload as usize).copied().flatten()
    }
}

/// The programs, ready to run.
struct Programs {
    churn: PathBuf,
    compiler: Program,
    python: Program,
}

impl Programs {
    fn measure(&self, workload: Workload, tracers: &Tracers, tracing: Tracing) -> Result<Measured> {
        match workload {
            Workload::Loop => churn::measure(&self.churn, 1, tracers, tracing),
            Workload::TwoLoops => churn::measure(&self.churn, 2, tracers, tracing),
            Workload::Compiler => self.compiler.measure(tracers, tracing),
            Workload::Python => self.python.measure(tracers, tracing),
        }
    }
}

/// Measures everything `rounds` times; of each the least time counts, since whatever else runs only adds to it.
pub(crate) fn measure(tracers: &Tracers, rounds: u32) -> Result<Vec<Row>> {
    let programs = Programs {
        churn: churn::compile(&tracers.work)?,
        compiler: Program::compiler(&tracers.work)?,
        python: Program::python()?,
    };
    let row = |tracing| Row { tracing, measured: [None; Workload::ALL.len()] };
    let mut rows: Vec<Row> = Tracing::ALL.into_iter().map(row).collect();
    // Rounds, not repetitions: a slow minute of the machine then hits all alike.
    for round in 1..=rounds {
        for row in rows.iter_mut().filter(|row| tracers.have(row.tracing)) {
            eprintln!("round {round} of {rounds}: {}", row.tracing.name());
            for (workload, kept) in Workload::ALL.into_iter().zip(&mut row.measured) {
                keep_least(kept, programs.measure(workload, tracers, row.tracing)?);
            }
        }
    }
    Ok(rows)
}

/// Keeps the lesser time, and all losses.
fn keep_least(kept: &mut Option<Measured>, new: Measured) {
    let Some(kept) = kept else {
        *kept = Some(new);
        return;
    };
    kept.cost = kept.cost.min(new.cost);
    if let (Some(sum), Some(more)) = (&mut kept.evidence.lost_events, new.evidence.lost_events) {
        *sum += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_and_every_loss_are_kept() {
        let measured = |cost, lost| Measured {
            cost,
            evidence: Evidence { lost_events: Some(lost), ..Evidence::default() },
        };
        let mut kept = None;
        for new in [measured(3.0, 1), measured(2.0, 4), measured(5.0, 0)] {
            keep_least(&mut kept, new);
        }
        let kept = kept.expect("measured");
        assert_eq!((kept.cost, kept.evidence.lost_events), (2.0, Some(5)));
    }
}
