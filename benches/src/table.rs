//! The results as a table for the terminal, and as a page of the documentation.
//!
//! In: [`Row`]s, the first of which is untraced. Out: text; the page holds ratios only, since times depend on the
//! machine far more than ratios do.

use crate::overhead::{Measured, Row};
use crate::tracer::Tracing;

const NONE: &str = "-";
const INTRODUCTION: &str = "\
# What tracing costs

Written by `cargo xtask bench overhead` (as root); all numbers of a table come from one run of it.

";
const HEAD: &str = "\
| | malloc/free loop: times untraced | added, of memleak's | C++ compiler: times untraced | added, of memleak's \
| events lost |
|---|---|---|---|---|---|
";
const EXPLANATION: &str = "
`malloc/free loop` does nothing but allocate and free: 1024 slots, blocks of 16 to 527 bytes, a call stack 16 deep, one
thread (`benches/workloads/churn.c`). It is the worst case. `C++ compiler` is a real program: `cc1plus -O2` on a file
that includes `<regex>`, `<map>` and `<future>`, traced from its first instruction. Both are measured in processor time
of the traced program, user and kernel; each number is the least of several runs, since whatever else a machine does
only adds to it.

| column | is |
|---|---|
| times untraced | the program's time over its time when nothing traces it |
| added, of memleak's | the time that tracing adds, over the time that memleak adds: 0.5 is half of its cost |
| events lost | what the tracer itself reports as lost in all runs, and so not in its result; `-`: it does not tell |

memleak is the one of Debian's package `libbpf-tools`. It walks frame pointers, records every allocation, and is asked
for one report at the end.
";

/// The numbers of one workload: how they look against untraced and against memleak.
struct Ratios {
    times_untraced: String,
    of_memleaks: String,
}

fn ratios(rows: &[Row], row: &Row, of: fn(&Row) -> Option<Measured>) -> Ratios {
    let cost = |tracing| rows.iter().find(|row| row.tracing == tracing).and_then(of);
    let cost = |tracing| cost(tracing).map(|measured| measured.cost);
    let (untraced, memleak) = (cost(Tracing::Untraced), cost(Tracing::Memleak));
    let this = cost(row.tracing);
    let times = this.zip(untraced).map(|(this, untraced)| this / untraced);
    let added = match (this, untraced, memleak) {
        _ if row.tracing == Tracing::Untraced => None,
        (Some(this), Some(untraced), Some(memleak)) if memleak > untraced => {
            Some((this - untraced) / (memleak - untraced))
        }
        _ => None,
    };
    let shown = |ratio: Option<f64>| ratio.map_or(NONE.to_owned(), |ratio| format!("{ratio:.2}"));
    Ratios { times_untraced: shown(times), of_memleaks: shown(added) }
}

fn lost(row: &Row) -> String {
    let lost = |measured: Option<Measured>| measured.and_then(|known| known.evidence.lost_events);
    match (lost(row.churn), lost(row.compilation)) {
        (None, None) => NONE.to_owned(),
        (churn, compilation) => (churn.unwrap_or(0) + compilation.unwrap_or(0)).to_string(),
    }
}

/// For the terminal, with the times.
pub(crate) fn text(rows: &[Row]) -> String {
    let line = |cells: [String; 8]| {
        let [name, pair, pair_times, pair_added, run, run_times, run_added, lost] = cells;
        format!(
            "{name:<27} {pair:>9} {pair_times:>9} {pair_added:>9}   \
             {run:>10} {run_times:>9} {run_added:>9}   {lost:>6}\n"
        )
    };
    let heads = ["", "ns/pair", "times", "added", "compiler s", "times", "added", "lost"];
    let time = |measured: Option<Measured>, digits: usize| {
        measured.map_or(NONE.to_owned(), |known| format!("{:.digits$}", known.cost))
    };
    let lines = rows.iter().map(|row| {
        let churn = ratios(rows, row, |row| row.churn);
        let compilation = ratios(rows, row, |row| row.compilation);
        line([
            row.tracing.name().to_owned(),
            time(row.churn, 1),
            churn.times_untraced,
            churn.of_memleaks,
            time(row.compilation, 2),
            compilation.times_untraced,
            compilation.of_memleaks,
            lost(row),
        ])
    });
    std::iter::once(line(heads.map(str::to_owned))).chain(lines).collect()
}

/// The page of the documentation.
pub(crate) fn page(rows: &[Row], host: &str) -> String {
    let lines = rows.iter().map(|row| {
        let churn = ratios(rows, row, |row| row.churn);
        let compilation = ratios(rows, row, |row| row.compilation);
        let missing = if row.churn.is_none() { " (could not be had for this run)" } else { "" };
        let cells = [
            format!("{}{missing}", row.tracing.name()),
            churn.times_untraced,
            churn.of_memleaks,
            compilation.times_untraced,
            compilation.of_memleaks,
            lost(row),
        ];
        format!("| {} |\n", cells.join(" | "))
    });
    let lines: String = lines.collect();
    format!("{INTRODUCTION}{host}.\n\n{HEAD}{lines}{EXPLANATION}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracer::Evidence;

    fn row(tracing: Tracing, cost: Option<f64>, lost_events: Option<u64>) -> Row {
        let measured = cost.map(|cost| Measured { cost, evidence: Evidence { lost_events } });
        Row { tracing, churn: measured, compilation: measured }
    }

    #[test]
    fn time_added_is_told_relative_to_memleaks() {
        let rows = [
            row(Tracing::Untraced, Some(2.0), None),
            row(Tracing::Exact, Some(4.0), Some(3)),
            row(Tracing::Memleak, Some(10.0), None),
        ];
        let page = page(&rows, "a machine");
        assert!(page.contains("| untraced | 1.00 | - | 1.00 | - | - |"), "{page}");
        assert!(page.contains("| outlive, exact | 2.00 | 0.25 | 2.00 | 0.25 | 6 |"), "{page}");
        assert!(page.contains("| memleak (libbpf-tools) | 5.00 | 1.00 | 5.00 | 1.00 | - |"));
    }

    #[test]
    fn a_missing_memleak_is_said_and_compared_with_nothing() {
        let rows = [
            row(Tracing::Untraced, Some(2.0), None),
            row(Tracing::Exact, Some(4.0), Some(0)),
            row(Tracing::Memleak, None, None),
        ];
        let page = page(&rows, "a machine");
        assert!(page.contains("| outlive, exact | 2.00 | - | 2.00 | - | 0 |"), "{page}");
        assert!(page.contains("(could not be had for this run) | - | - | - | - | - |"), "{page}");
        assert!(text(&rows).contains("outlive, exact"));
    }
}
