//! The report on goroutines as data: `-f json`. Additions are allowed, removals and changes of meaning are not.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::golang::never_wake::Evidence;
use crate::report::model::TargetSection;
use crate::symbolise::Frame;

/// The name and version of the contract.
pub const SCHEMA: &str = "outlive-goroutines/1";

/// The goroutines of a process at an instant.
#[derive(Clone, Debug, Serialize)]
pub struct GoroutineReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The process.
    pub target: TargetSection,
    /// When, RFC 3339.
    pub at: String,
    /// The look before, with which this one is compared; `null` without `--duration`.
    pub since: Option<Since>,
    /// How sure it is which goroutines can never run again; `null` without `--never-wake`.
    pub never_wake: Option<NeverWakeEvidence>,
    /// Sums over all goroutines.
    pub totals: GoroutineTotals,
    /// By creation site, most first.
    pub groups: Vec<GoroutineGroup>,
    /// Creation sites beyond `--top`.
    pub groups_omitted: usize,
    /// Everything a reader must know to trust the numbers, in words.
    pub notices: Vec<String>,
}

/// An earlier look.
#[derive(Clone, Debug, Serialize)]
pub struct Since {
    /// When, RFC 3339.
    pub at: String,
    /// How long before, by the monotonic clock.
    pub seconds: f64,
}

/// How sure it is which goroutines can never run again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NeverWakeEvidence {
    /// `at-rest`, `held`: nothing ran while the process was read, it is proven. `readings`: found so in each of several readings of a
    /// process that ran, it is not proven.
    pub evidence: &'static str,
    /// How many readings.
    pub readings: usize,
    /// For how long the process was held.
    pub held_s: Option<f64>,
}

impl From<Evidence> for NeverWakeEvidence {
    fn from(evidence: Evidence) -> Self {
        let (evidence, readings, held) = match evidence {
            Evidence::AtRest => ("at-rest", 1, None),
            Evidence::Held(lasted) => ("held", 1, Some(lasted)),
            Evidence::Readings(readings) => ("readings", readings, None),
        };
        Self { evidence, readings, held_s: held.map(|lasted| lasted.as_micros() as f64 / 1e6) }
    }
}

/// What has changed since the look before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Goroutines that were not there.
    pub started: u64,
    /// Goroutines that are not there any more. What started and ended in between was not seen.
    pub ended: u64,
}

/// Sums over all goroutines.
#[derive(Clone, Debug, Serialize)]
pub struct GoroutineTotals {
    /// The program's.
    pub count: u64,
    /// The runtime's own, which are in no group without `--raw`.
    pub system_count: u64,
    /// Bytes of the stacks of all.
    pub stack_bytes: u64,
    /// Of the program's, since the look before.
    pub change: Option<Change>,
    /// Of the program's, those that can never run again; `null` without `--never-wake`.
    pub never_wake: Option<u64>,
}

/// A `go` statement.
#[derive(Clone, Debug, Serialize)]
pub struct Creator {
    /// The function that it is in.
    pub function: String,
    /// Its source file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
}

/// Goroutines of one creation site.
#[derive(Clone, Debug, Serialize)]
pub struct GoroutineGroup {
    /// Place in the order, from 1.
    pub rank: usize,
    /// How many.
    pub count: u64,
    /// Since the look before; `null` without one. A site of which none are left is listed too.
    pub change: Option<Change>,
    /// How many can never run again; `null` without `--never-wake`.
    pub never_wake: Option<u64>,
    /// Where they were started; `null` for the first goroutine.
    pub created_by: Option<Creator>,
    /// The function that they start with.
    pub starts: String,
    /// The runtime's own.
    pub system: bool,
    /// How many do or wait for what, in the runtime's words.
    pub states: BTreeMap<String, u64>,
    /// The longest that one has waited, at least: since the first collection after it began. `null` when none has waited that long.
    pub longest_wait_s: Option<f64>,
    /// Of how many that is known.
    pub waits_known: u64,
    /// Bytes of their stacks.
    pub stack_bytes: u64,
    /// How many have the stack in `frames`, which is the most common one.
    pub stack_count: u64,
    /// Leaf first; empty when all of them run.
    pub frames: Vec<Frame>,
}
