//! One line a site: how much, how many, how old, growing how fast, whose code and which line.

use super::model::{Report, Site};
use super::stacks::{own_frame, place};
use super::text::{Layout, printable};
use crate::symbolise::Frame;
use crate::units::{human_age, human_count, human_size};

/// Fewest columns that the function and its line are cut to, even when the terminal has less.
const MIN_PLACE_COLUMNS: usize = 16;

/// Words for one kind of site.
struct Words {
    kind: &'static str,
    live: &'static str,
    count: &'static str,
    place: &'static str,
    nothing: &'static str,
    quiet: &'static str,
}

const ALLOCATIONS: Words = Words {
    kind: "allocation",
    live: "LIVE",
    count: "BLOCKS",
    place: "ALLOCATED IN",
    nothing: "nothing that was allocated since the start is live",
    quiet: "all blocks freed",
};

const OBJECTS: Words = Words {
    kind: "allocation",
    live: "IN USE",
    count: "OBJECTS",
    place: "ALLOCATED IN",
    nothing: "none of the objects that the runtime sampled is in use",
    quiet: "all objects freed",
};

/// Of a profile that was read from a file.
const READ: Words = Words {
    kind: "allocation",
    live: "LIVE",
    count: "BLOCKS",
    place: "ALLOCATED IN",
    nothing: "nothing in it is live",
    quiet: "nothing live",
};

const MAPPINGS: Words = Words {
    kind: "mapping",
    live: "MAPPED",
    count: "MAPPINGS",
    place: "MAPPED IN",
    nothing: "nothing that the program mapped since the start is mapped",
    quiet: "everything unmapped",
};

/// The table of allocations.
pub(super) fn lines(report: &Report, layout: Layout) -> Vec<String> {
    let sampled = report.sampling.is_estimate();
    let words = match (&report.file, report.is_instant()) {
        (Some(_), _) => &READ,
        (None, true) => &OBJECTS,
        (None, false) => &ALLOCATIONS,
    };
    table(report, words, sampled, report.sites_omitted, layout)
}

/// The table of mappings, and what is in no site; nothing when they were not followed.
pub(super) fn mapping_lines(report: &Report, layout: Layout) -> Vec<String> {
    let Some(mappings) = &report.mappings else { return Vec::new() };
    let mut lines = vec![String::new()];
    lines.extend(table(report, &MAPPINGS, false, mappings.sites_omitted, layout));
    if report.file.is_some() {
        return lines;
    }
    lines.push(layout.dim(&format!(
        "mapped {} in {} mappings; beside them {} by the allocator for its blocks, {} of files only read",
        human_size(mappings.live_bytes as f64),
        human_count(mappings.live_count as f64),
        human_size(mappings.by_allocator_bytes as f64),
        human_size(mappings.read_only_file_bytes as f64),
    )));
    lines
}

fn table(
    report: &Report,
    words: &Words,
    sampled: bool,
    beyond_top: usize,
    layout: Layout,
) -> Vec<String> {
    let all = || report.sites.iter().filter(|site| site.kind == words.kind);
    let sites: Vec<_> = all().filter(|site| is_shown(site)).collect();
    let quiet = all().count() - sites.len();
    let columns = Columns { sampled, timed: !report.is_instant() };
    let mut rows = vec![heading(words, columns)];
    rows.extend(sites.iter().map(|site| cells(site, columns)));
    let widths = widths(&rows);
    let used: usize = widths.iter().map(|width| width + 2).sum();
    let left = layout.width.map(|width| width.saturating_sub(used).max(MIN_PLACE_COLUMNS));

    let places = sites.iter().map(|site| own_frame(&site.frames));
    let places = places.map(|frame| frame.map_or("(no stack)".into(), |f| short_place(f, left)));
    let places = std::iter::once(words.place.to_owned()).chain(places);
    let mut lines: Vec<_> =
        rows.iter().zip(places).map(|(row, place)| aligned(row, &widths) + &place).collect();
    if let Some(first) = lines.first_mut() {
        *first = layout.dim(first);
    }
    if sites.is_empty() {
        lines.push(words.nothing.to_owned());
    }
    if beyond_top + quiet > 0 {
        lines.push(layout.dim(&omitted(words, beyond_top, quiet)));
    }
    lines
}

/// A site of which nothing is live and nothing changes tells nothing.
pub(crate) fn is_shown(site: &Site) -> bool {
    site.live_bytes > 0
        || site.live_count > 0
        || site.growth_bytes_per_s.is_some_and(|growth| growth != 0.0)
}

fn omitted(words: &Words, beyond_top: usize, quiet: usize) -> String {
    let mut parts = Vec::new();
    if beyond_top > 0 {
        parts.push(format!("{beyond_top} more sites (--top)"));
    }
    if quiet > 0 {
        parts.push(format!("{quiet} sites with {}", words.quiet));
    }
    format!("and {}", parts.join(", "))
}

/// Columns that not every table has.
#[derive(Clone, Copy)]
struct Columns {
    /// How far off an estimate may be.
    sampled: bool,
    /// Ages and growth.
    timed: bool,
}

fn heading(words: &Words, columns: Columns) -> Vec<String> {
    let mut cells = vec!["#", words.live];
    if columns.sampled {
        cells.push("±");
    }
    cells.push(words.count);
    if columns.timed {
        cells.extend(["OLDEST", "MEDIAN", "GROWTH"]);
    }
    cells.into_iter().map(str::to_owned).collect()
}

fn cells(site: &Site, columns: Columns) -> Vec<String> {
    let mut cells = vec![site.rank.to_string(), human_size(site.live_bytes as f64)];
    if columns.sampled {
        cells.push(relative_error(site));
    }
    // A file may not tell how many there are.
    let is_counted = site.live_count > 0 || site.live_bytes == 0;
    cells.push(if is_counted { human_count(site.live_count as f64) } else { "-".to_owned() });
    if columns.timed {
        cells.extend([age(site.oldest_age_s), age(site.median_age_s), growth(site)]);
    }
    cells
}

/// An age, or that it is not known.
pub(crate) fn age(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), human_age)
}

/// Half of the interval, in percent of the value.
pub(crate) fn relative_error(site: &Site) -> String {
    if site.live_bytes == 0 {
        return "-".to_owned();
    }
    share_of_value(site.live_bytes, site.live_bytes_ci95)
}

/// The same of any value above zero.
pub(super) fn share_of_value(value: u64, [low, high]: [u64; 2]) -> String {
    let percent = high.saturating_sub(low) as f64 / 2.0 / value as f64 * 100.0;
    format!("{percent:.0}%")
}

/// `unclear` when the interval holds both growing and shrinking.
pub(crate) fn growth(site: &Site) -> String {
    match (site.growth_bytes_per_s, site.growth_ci95) {
        (_, Some([low, high])) if low < 0.0 && high > 0.0 => "unclear".to_owned(),
        (Some(growth), _) => rate(growth),
        (None, _) => "-".to_owned(),
    }
}

/// Bytes per second with a sign.
pub(super) fn rate(bytes_per_s: f64) -> String {
    let sign = if bytes_per_s >= 0.5 { "+" } else { "" };
    format!("{sign}{}/s", human_size(bytes_per_s))
}

pub(super) fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

/// Cells to the right of their columns, two blanks after each.
pub(super) fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths);
    cells.fold(String::new(), |line, (cell, width)| line + &format!("{cell:>width$}  "))
}

/// Function and line in so many columns. The line is kept whole as long as it leaves room: it says most.
pub(crate) fn short_place(frame: &Frame, columns: Option<usize>) -> String {
    let place = place(frame);
    let function = printable(&frame.function);
    let Some(columns) = columns else { return format!("{function} {place}").trim_end().to_owned() };
    if place.is_empty() {
        return shorten_end(&without_parameters(&function), columns);
    }
    let place = shorten_start(&place, columns);
    let left = columns.saturating_sub(place.chars().count() + 1);
    // A name cut to less than this says nothing.
    if left < 6 {
        return place;
    }
    format!("{} {place}", shorten_start(&without_parameters(&function), left))
}

/// A C++ name without parameters and template arguments, a Rust one without generics: what tells functions apart most.
pub(crate) fn without_parameters(function: &str) -> String {
    let mut depth = 0_usize;
    let mut out = String::new();
    for character in function.chars() {
        match character {
            '<' | '(' | '{' => depth += 1,
            '>' | ')' | '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(character),
            _ => {}
        }
    }
    // `<T as Trait>::method` and `operator()` are nothing without what is in brackets.
    let out = out.trim().trim_matches(':').to_owned();
    if out.is_empty() || out.ends_with("operator") { function.to_owned() } else { out }
}

fn shorten_start(text: &str, columns: usize) -> String {
    let length = text.chars().count();
    if length <= columns {
        return text.to_owned();
    }
    "…".chars().chain(text.chars().skip(length + 1 - columns)).collect()
}

/// The first so many columns.
pub(crate) fn shorten_end(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_tells_them_apart() {
        for (name, short) in [
            ("lookup", "lookup"),
            ("shop::Registry<shop::Order>::remember(shop::Key const&)", "shop::Registry::remember"),
            ("<app::Cache as app::Store>::put", "put"),
            ("app::Less::operator()(int) const", "app::Less::operator const"),
            ("app::main::{{closure}}", "app::main"),
            ("(((", "((("),
        ] {
            assert_eq!(without_parameters(name), short);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_where_it_says_least() {
        assert_eq!(shorten_start("abcdef", 4), "…def");
        assert_eq!(shorten_end("abcdef", 4), "abc…");
        assert_eq!(shorten_start("äöü", 3), "äöü");
        assert_eq!(shorten_start("abc", 0), "…");
    }
}
