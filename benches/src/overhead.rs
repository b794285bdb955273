//! What tracing costs the traced program, all in one run on one machine.
//!
//! In: the tracers. Out: a [`Row`] for each.

use anyhow::Result;

use crate::churn;
use crate::compiler::Compilation;
use crate::tracer::{Evidence, Tracers, Tracing};

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Time, in the unit of the workload.
    pub(crate) cost: f64,
    /// What the tracer says.
    pub(crate) evidence: Evidence,
}

/// What one way of tracing costs.
pub(crate) struct Row {
    pub(crate) tracing: Tracing,
    /// Nanoseconds for a pair of malloc and free; none if the tracer is missing.
    pub(crate) churn: Option<Measured>,
    /// Seconds for a compilation.
    pub(crate) compilation: Option<Measured>,
}

/// Measures everything `rounds` times; of each the least time counts, since whatever else runs only adds to it.
pub(crate) fn measure(tracers: &Tracers, rounds: u32) -> Result<Vec<Row>> {
    let program = churn::compile(&tracers.work)?;
    let compilation = Compilation::prepare(&tracers.work)?;
    let row = |tracing| Row { tracing, churn: None, compilation: None };
    let mut rows: Vec<Row> = Tracing::ALL.into_iter().map(row).collect();
    // Rounds, not repetitions: a slow minute of the machine then hits all alike.
    for round in 1..=rounds {
        for row in rows.iter_mut().filter(|row| tracers.have(row.tracing)) {
            eprintln!("round {round} of {rounds}: {}", row.tracing.name());
            keep_least(&mut row.churn, churn::measure(&program, tracers, row.tracing)?);
            keep_least(&mut row.compilation, compilation.measure(tracers, row.tracing)?);
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
        let measured =
            |cost, lost| Measured { cost, evidence: Evidence { lost_events: Some(lost) } };
        let mut kept = None;
        for new in [measured(3.0, 1), measured(2.0, 4), measured(5.0, 0)] {
            keep_least(&mut kept, new);
        }
        let kept = kept.expect("measured");
        assert_eq!((kept.cost, kept.evidence.lost_events), (2.0, Some(5)));
    }
}
