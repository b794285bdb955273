//! The results as a table for the terminal, and as a page of the documentation.
//!
//! In: [`Row`]s, the first of which is untraced. Out: text.

use crate::overhead::{Measured, Row};
use crate::tracer::Tracing;

const NONE: &str = "-";
const INTRODUCTION: &str = "\
# What tracing costs

Written by `cargo xtask bench overhead` (as root); all numbers come from one run of it.

";
const COLUMNS: &str = "\
## What the columns mean

Times are processor time of the traced program, user and kernel; each is the least of several runs, since whatever else
a machine does only adds to it. Times depend on the machine far more than ratios do.

| column | is |
|---|---|
| ns for a pair | nanoseconds for one malloc and one free |
| CPU s | seconds for the whole compilation |
| times untraced | the program's time over its time when nothing traces it |
| added, of memleak's | the time that tracing adds, over the time that memleak adds: 0.5 is half of its cost |
| events lost | what the tracer itself reports as lost in all runs, and so not in its result; `-`: it does not tell |

No row measures nothing: a run counts only if the tracer reports allocations in a number that the workload alone
explains, which are probe hits for outlive and outstanding allocations for memleak.

memleak is the one of Debian's package `libbpf-tools`. It walks frame pointers, records every allocation, and is asked
for one report at the end.
";

/// A workload as the page shows it.
struct Workload {
    title: &'static str,
    explanation: &'static str,
    /// The column of times, and their digits after the point.
    unit: &'static str,
    digits: usize,
    of: fn(&Row) -> Option<Measured>,
    /// What the time added by tracing is expected not to exceed, in parts of what memleak adds.
    expected: &'static [(Tracing, f64)],
}

const WORKLOADS: [Workload; 2] = [
    Workload {
        title: "malloc/free loop",
        explanation: "\
It does nothing but allocate and free: 1024 slots, blocks of 16 to 527 bytes, a call stack 16 deep, one thread
(`benches/workloads/churn.c`). It is the worst case. Tracers attach to it while it runs.
",
        unit: "ns for a pair",
        digits: 1,
        of: |row| row.churn,
        expected: &[(Tracing::Sampled, 0.25), (Tracing::Exact, 0.35)],
    },
    Workload {
        title: "C++ compiler",
        explanation: "\
A real program: `cc1plus -O2` on a file that includes `<regex>`, `<map>` and `<future>`
(`benches/workloads/compiled.cpp`), traced from its first instruction: tracers attach to a shell that then becomes the
compiler.
",
        unit: "CPU s",
        digits: 2,
        of: |row| row.compilation,
        expected: &[],
    },
];

/// The numbers of one workload: how they look against untraced and against memleak.
struct Ratios {
    times_untraced: Option<f64>,
    of_memleaks: Option<f64>,
}

fn ratios(rows: &[Row], row: &Row, of: fn(&Row) -> Option<Measured>) -> Ratios {
    let cost = |tracing| rows.iter().find(|row| row.tracing == tracing).and_then(of);
    let cost = |tracing| cost(tracing).map(|measured| measured.cost);
    let (untraced, memleak) = (cost(Tracing::Untraced), cost(Tracing::Memleak));
    let this = cost(row.tracing);
    let times_untraced = this.zip(untraced).map(|(this, untraced)| this / untraced);
    let of_memleaks = match (this, untraced, memleak) {
        _ if row.tracing == Tracing::Untraced => None,
        (Some(this), Some(untraced), Some(memleak)) if memleak > untraced => {
            Some((this - untraced) / (memleak - untraced))
        }
        _ => None,
    };
    Ratios { times_untraced, of_memleaks }
}

fn shown(number: Option<f64>, digits: usize) -> String {
    number.map_or(NONE.to_owned(), |number| format!("{number:.digits$}"))
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
            shown(churn.times_untraced, 2),
            shown(churn.of_memleaks, 2),
            time(row.compilation, 2),
            shown(compilation.times_untraced, 2),
            shown(compilation.of_memleaks, 2),
            lost(row),
        ])
    });
    std::iter::once(line(heads.map(str::to_owned))).chain(lines).collect()
}

/// The page of the documentation.
pub(crate) fn page(rows: &[Row], host: &str, versions: &str) -> String {
    let workloads: String = WORKLOADS.iter().map(|workload| section(rows, workload)).collect();
    format!("{INTRODUCTION}{host}.\n\n{versions}.\n\n{workloads}{COLUMNS}")
}

fn section(rows: &[Row], workload: &Workload) -> String {
    let Workload { title, explanation, unit, digits, of, .. } = workload;
    let lines = rows.iter().map(|row| {
        let measured = of(row);
        let Ratios { times_untraced, of_memleaks } = ratios(rows, row, *of);
        let missing = if measured.is_none() { " (could not be had for this run)" } else { "" };
        let lost = measured.and_then(|known| known.evidence.lost_events);
        let cells = [
            format!("{}{missing}", row.tracing.name()),
            shown(measured.map(|known| known.cost), *digits),
            shown(times_untraced, 2),
            shown(of_memleaks, 2),
            lost.map_or(NONE.to_owned(), |lost| lost.to_string()),
        ];
        format!("| {} |\n", cells.join(" | "))
    });
    let lines: String = lines.collect();
    let verdicts: String = rows.iter().filter_map(|row| verdict(rows, row, workload)).collect();
    let end = if verdicts.is_empty() { "" } else { "\n" };
    format!(
        "## {title}\n\n{explanation}\n\
         | | {unit} | times untraced | added, of memleak's | events lost |\n\
         |---|---|---|---|---|\n{lines}\n{verdicts}{end}"
    )
}

/// Whether the time added is what is expected, if anything is.
fn verdict(rows: &[Row], row: &Row, workload: &Workload) -> Option<String> {
    let (_, bound) = workload.expected.iter().find(|(tracing, _)| *tracing == row.tracing)?;
    let came_out = match ratios(rows, row, workload.of).of_memleaks {
        None => "not known in this run".to_owned(),
        Some(ratio) if ratio <= *bound => format!("{ratio:.3}, as expected"),
        Some(ratio) => format!("{ratio:.3}, **more than expected**"),
    };
    Some(format!(
        "- {}: at most {bound} of memleak's is expected; {came_out}.\n",
        row.tracing.name()
    ))
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
        let page = page(&rows, "a machine", "tools");
        assert!(page.contains("| untraced | 2.0 | 1.00 | - | - |"), "{page}");
        assert!(page.contains("| outlive, exact | 4.0 | 2.00 | 0.25 | 3 |"), "{page}");
        assert!(page.contains("| outlive, exact | 4.00 | 2.00 | 0.25 | 3 |"), "{page}");
        assert!(page.contains("| memleak (libbpf-tools) | 10.0 | 5.00 | 1.00 | - |"), "{page}");
        assert!(page.contains("at most 0.35 of memleak's is expected; 0.250, as expected"));
    }

    #[test]
    fn what_exceeds_the_expectation_is_said() {
        let rows = [
            row(Tracing::Untraced, Some(2.0), None),
            row(Tracing::Exact, Some(6.0), Some(0)),
            row(Tracing::Memleak, Some(10.0), None),
        ];
        let page = page(&rows, "a machine", "tools");
        assert!(page.contains("0.500, **more than expected**"), "{page}");
    }

    #[test]
    fn a_missing_memleak_is_said_and_compared_with_nothing() {
        let rows = [
            row(Tracing::Untraced, Some(2.0), None),
            row(Tracing::Exact, Some(4.0), Some(0)),
            row(Tracing::Memleak, None, None),
        ];
        let page = page(&rows, "a machine", "tools");
        assert!(page.contains("| outlive, exact | 4.0 | 2.00 | - | 0 |"), "{page}");
        assert!(page.contains("(could not be had for this run) | - | - | - | - |"), "{page}");
        assert!(page.contains("not known in this run"), "{page}");
        assert!(text(&rows).contains("outlive, exact"));
    }
}
