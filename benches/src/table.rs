//! The results as a page of the documentation.
//!
//! In: [`Row`]s, the first of which is untraced. Out: text.

use crate::overhead::{Row, Workload};
use crate::tracer::Tracing;

const NONE: &str = "-";
const INTRODUCTION: &str = "\
# What tracing costs

Written by `cargo xtask bench overhead` (as root); all numbers come from one run of it";
const COLUMNS: &str = "\
## What the columns mean

Times are processor time of the traced program, user and kernel; each is the least of all rounds, and of five windows in each for
the loops, since whatever else a machine does only adds to it. Times depend on the machine far more than ratios do.

| column | is |
|---|---|
| ns for a pair | nanoseconds for one malloc and one free |
| CPU s | seconds for the whole run |
| times untraced | the program's time over its time when nothing traces it |
| added, of memleak's | the time that tracing adds, over the time that memleak adds: 0.5 is half of its cost |
| events lost | what the tracer itself reports as lost in all runs, and so not in its result; `-`: it does not tell |

No row measures nothing: a run counts only if the tracer reports allocations in a number that the workload alone explains: hits
of probes or traps, outstanding allocations of memleak, allocations that heaptrack wrote, bytes that massif saw.

*bare traps* are what no tracer by probes can be cheaper than: the kernel is trapped where outlive puts its entry probes, counts,
and returns. memleak is the one of Debian's package `libbpf-tools`: it walks frame pointers, records every allocation, and is
asked for one report at the end. heaptrack and massif cannot be used on a process as it is: heaptrack is a library that the
program is started with, and massif runs the program in a virtual processor. heaptrack's time is that of the program with its
library, which writes to a file; the program that reads it comes on top.
";

/// A workload as the page shows it.
struct Section {
    workload: Workload,
    title: &'static str,
    explanation: &'static str,
    /// The column of times, and their digits after the point.
    unit: &'static str,
    digits: usize,
    /// What tracing is expected not to exceed.
    expected: &'static [(Tracing, Bound)],
}

/// A bound of what tracing costs.
#[derive(Clone, Copy)]
enum Bound {
    /// Of the time added, in parts of what memleak adds.
    OfMemleaks(f64),
    /// Of the time, in times untraced.
    TimesUntraced(f64),
}

const SECTIONS: [Section; 4] = [
    Section {
        workload: Workload::Loop,
        title: "malloc/free loop",
        explanation: "\
It does nothing but allocate and free: 1024 slots, blocks of 16 to 527 bytes, a call stack 16 deep, one thread
(`benches/workloads/churn.c`). It is the worst case. Tracers attach to it while it runs.
",
        unit: "ns for a pair",
        digits: 1,
        expected: &[
            (Tracing::Sampled, Bound::OfMemleaks(0.22)),
            (Tracing::Exact, Bound::OfMemleaks(0.35)),
        ],
    },
    Section {
        workload: Workload::TwoLoops,
        title: "malloc/free loop in two threads",
        explanation: "\
The same, in two threads at once; the mean of both.
",
        unit: "ns for a pair",
        digits: 1,
        expected: &[],
    },
    Section {
        workload: Workload::Compiler,
        title: "C++ compiler",
        explanation: "\
A real program: `cc1plus -O2` on a file that includes `<regex>`, `<map>` and `<future>`
(`benches/workloads/compiled.cpp`), traced from its first instruction: tracers attach to a shell that then becomes the
compiler.
",
        unit: "CPU s",
        digits: 2,
        expected: &[(Tracing::Sampled, Bound::TimesUntraced(2.0))],
    },
    Section {
        workload: Workload::Python,
        title: "Python",
        explanation: "\
`python3` with `PYTHONMALLOC=malloc`, which makes every object a block of malloc's: it reads JSON and searches text
(`benches/workloads/parse.py`). Traced from its first instruction.
",
        unit: "CPU s",
        digits: 2,
        expected: &[],
    },
];

/// The numbers of one workload: how they look against untraced and against memleak.
struct Ratios {
    times_untraced: Option<f64>,
    of_memleaks: Option<f64>,
}

fn ratios(rows: &[Row], row: &Row, workload: Workload) -> Ratios {
    let of = |row: &Row| row.of(workload);
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

/// The page of the documentation.
pub(crate) fn page(rows: &[Row], host: &str, versions: &str, rounds: u32) -> String {
    let sections: String = SECTIONS.iter().map(|shown| section(rows, shown)).collect();
    format!("{INTRODUCTION} (rounds: {rounds}).\n\n{host}.\n\n{versions}.\n\n{sections}{COLUMNS}")
}

fn section(rows: &[Row], section: &Section) -> String {
    let Section { workload, title, explanation, unit, digits, .. } = section;
    let lines = rows.iter().map(|row| {
        let measured = row.of(*workload);
        let Ratios { times_untraced, of_memleaks } = ratios(rows, row, *workload);
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
    let verdicts: String = rows.iter().filter_map(|row| verdict(rows, row, section)).collect();
    let end = if verdicts.is_empty() { "" } else { "\n" };
    format!(
        "## {title}\n\n{explanation}\n\
         | | {unit} | times untraced | added, of memleak's | events lost |\n\
         |---|---|---|---|---|\n{lines}\n{verdicts}{end}"
    )
}

/// Whether tracing costs what is expected, if anything is; if more, what part of it no probe can do without.
fn verdict(rows: &[Row], row: &Row, section: &Section) -> Option<String> {
    let (_, bound) = section.expected.iter().find(|(tracing, _)| *tracing == row.tracing)?;
    let of = |row: &Row| {
        let Ratios { times_untraced, of_memleaks } = ratios(rows, row, section.workload);
        match bound {
            Bound::OfMemleaks(_) => of_memleaks,
            Bound::TimesUntraced(_) => times_untraced,
        }
    };
    let (most, expected) = match bound {
        Bound::OfMemleaks(most) => (*most, format!("at most {most} of memleak's is expected")),
        Bound::TimesUntraced(most) => (*most, format!("at most {most} times untraced is expected")),
    };
    let came_out = match of(row) {
        None => "not known in this run".to_owned(),
        Some(ratio) if ratio <= most => format!("{ratio:.3}, as expected"),
        Some(ratio) => {
            let traps = rows.iter().find(|row| row.tracing == Tracing::Traps).and_then(of);
            let traps = traps.map_or(String::new(), |traps| format!("; bare traps: {traps:.3}"));
            format!("{ratio:.3}, **more than expected**{traps}")
        }
    };
    Some(format!("- {}: {expected}; {came_out}.\n", row.tracing.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Evidence;
    use crate::overhead::Measured;

    fn row(tracing: Tracing, cost: Option<f64>, lost_events: Option<u64>) -> Row {
        let measured = cost.map(|cost| Measured {
            cost,
            evidence: Evidence { lost_events, ..Evidence::default() },
        });
        Row { tracing, measured: [measured; 4] }
    }

    #[test]
    fn time_added_is_told_relative_to_memleaks() {
        let rows = [
            row(Tracing::Untraced, Some(2.0), None),
            row(Tracing::Exact, Some(4.0), Some(3)),
            row(Tracing::Memleak, Some(10.0), None),
        ];
        let page = page(&rows, "a machine", "tools", 3);
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
            row(Tracing::Traps, Some(5.0), None),
            row(Tracing::Sampled, Some(5.5), Some(0)),
            row(Tracing::Exact, Some(6.0), Some(0)),
            row(Tracing::Memleak, Some(10.0), None),
        ];
        let page = page(&rows, "a machine", "tools", 3);
        assert!(page.contains("0.500, **more than expected**; bare traps: 0.375"), "{page}");
        assert!(page.contains("2.750, **more than expected**; bare traps: 2.500"), "{page}");
    }

    #[test]
    fn a_missing_memleak_is_said_and_compared_with_nothing() {
        let rows = [
            row(Tracing::Untraced, Some(2.0), None),
            row(Tracing::Exact, Some(4.0), Some(0)),
            row(Tracing::Memleak, None, None),
        ];
        let page = page(&rows, "a machine", "tools", 3);
        assert!(page.contains("| outlive, exact | 4.0 | 2.00 | - | 0 |"), "{page}");
        assert!(page.contains("(could not be had for this run) | - | - | - | - |"), "{page}");
        assert!(page.contains("not known in this run"), "{page}");
    }
}
