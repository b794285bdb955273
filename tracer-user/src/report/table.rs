//! One line a site: how much, how many, how old, growing how fast, whose code and which line.

use super::columns::{aligned, shorten_end, shorten_start, width, widths};
use super::model::{Report, Site};
use super::stacks::{own_frame, place};
use super::text::{Layout, printable};
use crate::symbolise::Frame;
use crate::units::{human_age, human_count, human_size};

/// Where there are fewer columns left for the function and its line, they have a line of their own.
const MIN_PLACE_COLUMNS: usize = 16;
/// What such a line begins with.
const INDENT: &str = "     ";

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
    let sums = format!(
        "mapped {} in {} mappings; beside them {} by the allocator for its blocks, {} of files only read",
        human_size(mappings.live_bytes as f64),
        human_count(mappings.live_count as f64),
        human_size(mappings.by_allocator_bytes as f64),
        human_size(mappings.read_only_file_bytes as f64),
    );
    lines.extend(layout.wrapped(&sums, "  ").iter().map(|line| layout.dim(line)));
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
    let frames: Vec<_> = sites.iter().map(|site| own_frame(&site.frames)).collect();
    let mut lines = with_places(&rows, words.place, &frames, layout);
    if sites.is_empty() {
        lines.push(words.nothing.to_owned());
    }
    if beyond_top + quiet > 0 {
        lines.push(layout.dim(&omitted(words, beyond_top, quiet)));
    }
    lines
}

/// Rows, the first of them the heading, each with the place that it is about.
pub(super) fn with_places(
    rows: &[Vec<String>],
    heading: &str,
    frames: &[Option<&Frame>],
    layout: Layout,
) -> Vec<String> {
    let widths = widths(rows);
    let used: usize = widths.iter().map(|width| width + 2).sum();
    let beside = layout.width.map(|width| width.saturating_sub(used));
    let below = beside.filter(|columns| *columns < MIN_PLACE_COLUMNS).and(layout.width);
    let columns = below.map(|width| width.saturating_sub(INDENT.len())).or(beside);
    let places = frames.iter().map(|frame| {
        frame.map_or_else(|| "(no stack)".to_owned(), |frame| short_place(frame, columns))
    });
    let mut lines = Vec::new();
    for (row, place) in rows.iter().zip(std::iter::once(heading.to_owned()).chain(places)) {
        let cells = aligned(row, &widths);
        if below.is_some() {
            lines.extend([cells.trim_end().to_owned(), format!("{INDENT}{place}")]);
        } else {
            lines.push(cells + &place);
        }
    }
    let headings = if below.is_some() { 2 } else { 1 };
    lines.iter_mut().take(headings).for_each(|line| *line = layout.dim(line));
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

/// Function and line in so many columns. The line is kept whole as long as it leaves room: it says most.
pub(crate) fn short_place(frame: &Frame, columns: Option<usize>) -> String {
    let place = place(frame);
    let function = printable(&frame.function);
    let Some(columns) = columns else { return format!("{function} {place}").trim_end().to_owned() };
    if place.is_empty() {
        return shorten_end(&without_parameters(&function), columns);
    }
    let place = shorten_start(&place, columns);
    let left = columns.saturating_sub(width(&place) + 1);
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
    let mut is_receiver = false;
    for character in function.chars() {
        match character {
            // `main.(*Server).serve`: what a method of Go belongs to.
            '(' if depth == 0 && out.ends_with('.') => {
                is_receiver = true;
                out.push(character);
            }
            ')' if depth == 0 && is_receiver => {
                is_receiver = false;
                out.push(character);
            }
            '<' | '(' | '{' => depth += 1,
            '>' | ')' | '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(character),
            _ => {}
        }
    }
    // `<T as Trait>::method` and `operator()` are nothing without what is in brackets.
    let out = out.trim().trim_matches(':').replace("::::", "::");
    if out.is_empty() || out.ends_with("operator") { function.to_owned() } else { out }
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
            ("main.(*Server).serve", "main.(*Server).serve"),
            ("depot::(anonymous namespace)::fill(int)", "depot::fill"),
        ] {
            assert_eq!(without_parameters(name), short);
        }
    }
}
