//! A listing as text for people: the lines of each function that have numbers, with a few around them.

use super::{Function, Line, Listing, Sum};
use crate::report::columns::{aligned, shorten_end, widths};
use crate::report::source::Excerpt;
use crate::report::stacks::fitting_name;
use crate::report::table::share_of_value;
use crate::report::text::{Layout, printable, wrapped_header};
use crate::units::{human_count, human_size, short_size};

/// Fewest columns that source is cut to, even when the terminal has less.
const MIN_SOURCE_COLUMNS: usize = 16;
/// Where there is nothing to count.
const NOTHING: &str = ".";

/// The whole listing.
pub fn render(listing: &Listing, layout: Layout) -> String {
    let mut lines = wrapped_header(&listing.report, layout);
    for function in &listing.functions {
        lines.push(String::new());
        lines.extend(head(function, listing.live_bytes, layout));
        lines.extend(table(function, listing.sampling.is_estimate(), layout));
    }
    lines.push(String::new());
    if listing.functions_omitted > 0 {
        let omitted = human_count(listing.functions_omitted as f64);
        lines.push(layout.dim(&format!("and {omitted} more functions (--top)")));
    }
    lines.extend(layout.notes(&listing.notices));
    lines.push(String::new());
    lines.join("\n")
}

/// The function, where its source is, and what it holds of everything.
fn head(function: &Function, live_bytes: u64, layout: Layout) -> Vec<String> {
    let name = layout.width.map_or_else(
        || printable(&function.function),
        |columns| fitting_name(&function.function, columns),
    );
    let mut lines = vec![layout.bold(&name)];
    let named = function.file.clone().unwrap_or_default();
    let found = function.source.as_ref().map(|path| path.display().to_string());
    let place = match found {
        Some(found) if found == named => named,
        Some(found) => format!("{named}, here {found}"),
        None => format!("{named}, not found"),
    };
    lines.extend(layout.wrapped(&printable(&place), "  "));
    let (own, all) = (function.own.amounts.live_bytes, function.cumulative.amounts.live_bytes);
    let share = if live_bytes == 0 { 0.0 } else { all as f64 / live_bytes as f64 * 100.0 };
    let holds = format!(
        "live {} of {}, {share:.0} %; {} allocated by its own lines",
        layout.bold(&human_size(all as f64)),
        human_size(live_bytes as f64),
        human_size(own as f64),
    );
    lines.extend(layout.wrapped(&holds, "  "));
    lines
}

/// A row of the table: of a line, or of lines that are left out.
struct Row {
    cells: Vec<String>,
    text: String,
    has_numbers: bool,
}

fn table(function: &Function, sampled: bool, layout: Layout) -> Vec<String> {
    let rows = rows(function, sampled);
    let mut heading = vec!["OWN", "LIVE"];
    heading.extend(sampled.then_some("±"));
    heading.extend(["ALLOCATED", "FREED", "LINE"]);
    let mut cells: Vec<Vec<String>> = vec![heading.into_iter().map(str::to_owned).collect()];
    cells.extend(rows.iter().map(|row| row.cells.clone()));
    let widths = widths(&cells);
    let used: usize = widths.iter().map(|width| width + 2).sum();
    let left = layout.width.map(|width| width.saturating_sub(used).max(MIN_SOURCE_COLUMNS));
    let indentation = left.map_or(0, |_| indentation(&function.excerpt));
    let mut lines = vec![layout.dim(aligned(&cells[0], &widths).trim_end())];
    for row in &rows {
        let text = row.text.get(indentation..).unwrap_or_else(|| row.text.trim_start());
        let text = left.map_or_else(|| text.to_owned(), |left| shorten_end(text, left));
        let line = aligned(&row.cells, &widths) + &text;
        let line = line.trim_end();
        lines.push(if row.has_numbers { line.to_owned() } else { layout.dim(line) });
    }
    lines
}

/// Blanks that all lines begin with: they take room, and say nothing.
fn indentation(excerpt: &Excerpt) -> usize {
    let lines = excerpt.iter().filter(|(_, text)| !text.is_empty());
    lines.map(|(_, text)| text.len() - text.trim_start_matches(' ').len()).min().unwrap_or(0)
}

fn rows(function: &Function, sampled: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut before = None;
    let mut numbered = function.lines.iter().peekable();
    while let Some(line) = numbered.next_if(|line| line.line.is_none()) {
        rows.push(row(Some(line), None, "(at no known line)", sampled));
    }
    let mut shown: Vec<(u32, &str)> =
        function.excerpt.iter().map(|(number, text)| (*number, text.as_str())).collect();
    let missing = function.lines.iter().filter(|line| line.text.is_none());
    shown.extend(missing.filter_map(|line| Some((line.line?, ""))));
    shown.sort_by_key(|(number, _)| *number);
    for (number, text) in shown {
        if before.is_some_and(|before: u32| before.saturating_add(1) < number) {
            rows.push(gap(sampled));
        }
        before = Some(number);
        let line = numbered.next_if(|line| line.line == Some(number));
        rows.push(row(line, Some(number), text, sampled));
    }
    rows
}

fn row(line: Option<&Line>, number: Option<u32>, text: &str, sampled: bool) -> Row {
    let nothing = Sum::default();
    let (own, all) = line.map_or((&nothing, &nothing), |line| (&line.own, &line.cumulative));
    let mut cells = vec![size(own.amounts.live_bytes), size(all.amounts.live_bytes)];
    if sampled {
        let bytes = all.amounts.live_bytes;
        let error = (bytes > 0).then(|| share_of_value(bytes, all.live_bytes_ci95));
        cells.push(error.unwrap_or_else(|| NOTHING.to_owned()));
    }
    cells.extend([size(all.amounts.allocated_bytes), size(all.freed_bytes)]);
    cells.push(number.map_or_else(|| "-".to_owned(), |number| number.to_string()));
    Row { cells, text: text.to_owned(), has_numbers: line.is_some() }
}

fn gap(sampled: bool) -> Row {
    let mut cells = vec![String::new(); if sampled { 5 } else { 4 }];
    cells.push("...".to_owned());
    Row { cells, text: String::new(), has_numbers: false }
}

fn size(bytes: u64) -> String {
    if bytes == 0 { NOTHING.to_owned() } else { short_size(bytes as f64) }
}
