//! The report on goroutines as text for people.

use std::cmp::Ordering;

use super::model::{Change, Creator, GoroutineGroup, GoroutineReport};
use crate::report::columns::{shorten_start, width};
use crate::report::stacks::frame_lines;
use crate::report::text::{Layout, printable};
use crate::units::{human_age, human_count, human_size};

/// Where there are fewer columns left for what a row is about, it goes on in the next line.
const MIN_PLACE_COLUMNS: usize = 16;
/// What the rest of a line begins with that is too long.
const INDENT: &str = "      ";

/// The whole report.
pub fn render(report: &GoroutineReport, layout: Layout) -> String {
    let target = &report.target;
    let totals = &report.totals;
    let mut lines = vec![
        format!(
            "{}  {}  {}",
            layout.bold(&format!("{} (PID {})", printable(&target.comm), target.pid)),
            printable(&target.exe),
            printable(&target.allocators.join(", ")),
        ),
        format!(
            "{} goroutines, and {} of the runtime's own; stacks {}",
            layout.bold(&human_count(totals.count as f64)),
            human_count(totals.system_count as f64),
            human_size(totals.stack_bytes as f64),
        ),
    ];
    if let (Some(since), Some(change)) = (&report.since, &totals.change) {
        lines.push(format!(
            "{} more and {} fewer than {} before",
            human_count(change.started as f64),
            human_count(change.ended as f64),
            human_age(since.seconds),
        ));
    }
    if let Some(never) = totals.never_wake {
        lines.push(format!(
            "{} {} again: they wait for channels that nothing which can still run leads to",
            layout.bold(&human_count(never as f64)),
            if is_proven(report) { "can never run" } else { "seem never to run" },
        ));
    }
    let never = if report.never_wake.is_some() { "  NEVER WAKE" } else { "" };
    let change = if report.since.is_some() { "  CHANGE" } else { "" };
    lines.push(String::new());
    lines.push(
        layout.dim(&format!("#    COUNT{change}{never}  LONGEST WAIT      STACKS  CREATED BY")),
    );
    lines.extend(report.groups.iter().map(|group| row(group, layout)));
    if report.groups_omitted > 0 {
        lines.push(layout.dim(&format!("and {} more sites (--top)", report.groups_omitted)));
    }
    lines.push(String::new());
    for group in report.groups.iter().filter(|group| group.count > 0) {
        lines.extend(details(group, layout));
    }
    lines.push(String::new());
    lines.extend(report.notices.iter().map(|notice| format!("note  {}", printable(notice))));
    let mut lines: Vec<_> = lines.iter().flat_map(|line| layout.wrapped(line, INDENT)).collect();
    lines.push(String::new());
    lines.join("\n")
}

fn row(group: &GoroutineGroup, layout: Layout) -> String {
    let cells = format!(
        "{:<3}{:>7}{}{}  {:>12}  {:>10}  ",
        group.rank,
        human_count(group.count as f64),
        group.change.as_ref().map_or_else(String::new, |change| format!("  {:>6}", net(change))),
        group.never_wake.map_or_else(String::new, |n| format!("  {:>10}", human_count(n as f64))),
        group.longest_wait_s.map_or_else(|| "-".to_owned(), |s| format!("> {}", human_age(s))),
        human_size(group.stack_bytes as f64),
    );
    let place =
        group.created_by.as_ref().map_or_else(|| "(start of the program)".to_owned(), created_by);
    match layout.width.map(|columns| columns.saturating_sub(width(&cells))) {
        Some(left) if left >= MIN_PLACE_COLUMNS => cells + &shorten_start(&place, left),
        Some(_) | None => cells + &place,
    }
}

/// Whether it is proven who can never run again.
fn is_proven(report: &GoroutineReport) -> bool {
    report.never_wake.as_ref().is_some_and(|found| found.evidence != "readings")
}

/// How many more there are, with its sign.
fn net(change: &Change) -> String {
    let count = |more: u64| human_count(more as f64);
    match change.started.cmp(&change.ended) {
        Ordering::Greater => format!("+{}", count(change.started - change.ended)),
        Ordering::Equal => "0".to_owned(),
        Ordering::Less => format!("-{}", count(change.ended - change.started)),
    }
}

fn created_by(creator: &Creator) -> String {
    let function = printable(&creator.function);
    let Some(file) = &creator.file else { return function };
    let name = printable(file.rsplit('/').next().unwrap_or(file));
    creator
        .line
        .map_or_else(|| format!("{function} {name}"), |line| format!("{function} {name}:{line}"))
}

fn details(group: &GoroutineGroup, layout: Layout) -> Vec<String> {
    let states = group.states.iter();
    let states: Vec<_> =
        states.map(|(state, count)| format!("{} {state}", human_count(*count as f64))).collect();
    let starts = printable(&group.starts);
    let mut lines = vec![format!(
        "  {}  {starts}: {}; the stack of {}:",
        layout.bold(&format!("#{}", group.rank)),
        printable(&states.join(", ")),
        human_count(group.stack_count as f64),
    )];
    if group.frames.is_empty() {
        lines.pop();
        let head = layout.bold(&format!("#{}", group.rank));
        lines.push(format!("  {head}  {starts}: {}; no stack while it runs", states.join(", ")));
    }
    lines.extend(frame_lines(&group.frames, layout));
    lines
}
