//! A report as text for people.
//!
//! The first screen has the header and one line a site; the stacks follow, and last what was lost, inherited and spent.

use std::borrow::Cow;

use textwrap::WordSplitter;

use super::columns::{shorten_start, width};
use super::model::{HEAP_WALK, Report, Totals};
use super::{footer, holdings, stacks, table};
use crate::units::{human_age, human_count, human_size};

/// A path in the header is not cut to less.
const MIN_PATH_COLUMNS: usize = 24;
/// What a line below a report begins with that tells what its reader must know.
const NOTE: &str = "note       ";
/// What the rest of a line below a report begins with.
const INDENT: &str = "           ";

/// How text is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Escape sequences for colours.
    pub colour: bool,
    /// Columns of the terminal; longer lines of the table are shortened. `None` shortens nothing.
    pub width: Option<usize>,
}

impl Layout {
    pub(crate) fn bold(self, text: &str) -> String {
        self.escape("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.escape("2", text)
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.escape("33", text)
    }

    /// A text in lines that fit, those after the first with this before them.
    pub(crate) fn wrapped(self, text: &str, indent: &str) -> Vec<String> {
        let Some(width) = self.width else { return vec![text.to_owned()] };
        let options = textwrap::Options::new(width)
            .subsequent_indent(indent)
            .word_splitter(WordSplitter::NoHyphenation);
        textwrap::wrap(text, options).into_iter().map(Cow::into_owned).collect()
    }

    /// A path in the columns that others leave of a line, its end at least.
    fn rest(self, path: &str, others: &[&str]) -> String {
        let path = printable(path);
        let used: usize = others.iter().map(|other| width(other) + 2).sum();
        match self.width.map(|columns| columns.saturating_sub(used).max(MIN_PATH_COLUMNS)) {
            Some(left) => shorten_start(&path, left),
            None => path,
        }
    }

    /// A line below a report, which begins with a word for what it tells.
    pub(super) fn below(self, text: &str) -> Vec<String> {
        self.wrapped(text, INDENT)
    }

    /// What a reader must know, below a report.
    pub(super) fn notes(self, notices: &[String]) -> Vec<String> {
        let note = |notice: &String| self.below(&format!("{NOTE}{}", printable(notice)));
        notices.iter().flat_map(note).collect()
    }

    fn escape(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The whole report.
pub fn render(report: &Report, layout: Layout) -> String {
    let mut lines = wrapped_header(report, layout);
    lines.push(String::new());
    if report.is_walk() {
        lines.extend(holdings::lines(report, layout));
    } else {
        lines.extend(table::lines(report, layout));
        lines.extend(table::mapping_lines(report, layout));
    }
    lines.push(String::new());
    lines.extend(stacks::lines(report, layout));
    lines.extend(footer::lines(report, layout));
    lines.push(String::new());
    lines.join("\n")
}

/// The header in the columns that there are.
pub(super) fn wrapped_header(report: &Report, layout: Layout) -> Vec<String> {
    let lines = header(report, layout);
    lines.iter().flat_map(|line| layout.wrapped(line, "  ")).collect()
}

/// Who is reported on, how, and how much is live: three lines.
pub(crate) fn header(report: &Report, layout: Layout) -> Vec<String> {
    let target = &report.target;
    if let Some(file) = &report.file {
        return header_of_file(file, report, layout);
    }
    let sampling = sampling(report);
    let window = if report.is_instant() {
        "a snapshot, no probes".to_owned()
    } else if report.is_walk() {
        format!("two looks {} apart, no probes", human_age(report.window.seconds))
    } else {
        format!("traced for {}", human_age(report.window.seconds))
    };
    let limit = match report.memory.limit_bytes {
        Some(limit) => format!(" of at most {}", human_size(limit as f64)),
        None => String::new(),
    };
    let as_of = report.window.frees_seen_s.map_or_else(String::new, |seconds| {
        let text = format!(" after {}, when frees were last seen", human_age(seconds));
        layout.warning(&text)
    });
    let name = format!("{} (PID {})", printable(&target.comm), target.pid);
    let allocators = printable(&target.allocators.join(", "));
    let exe = layout.rest(&target.exe, &[&name, &allocators]);
    vec![
        format!("{}  {exe}  {allocators}", layout.bold(&name)).trim_end().to_owned(),
        format!("{window}; {sampling}"),
        format!(
            "{}{as_of}; resident {}{limit}",
            if report.is_walk() {
                held(&report.totals, layout)
            } else {
                in_use(&report.totals, layout)
            },
            human_size(report.memory.rss_bytes as f64)
        ),
    ]
}

/// What a file was made of, and when.
fn header_of_file(file: &str, report: &Report, layout: Layout) -> Vec<String> {
    let target = &report.target;
    let mut name = printable(file);
    let mut process = String::new();
    if target.pid != 0 {
        process = format!("{} (PID {})", printable(&target.comm), target.pid);
    }
    let exe = layout.rest(&target.exe, &[&name, &process]);
    if let Some(columns) = layout.width {
        name = shorten_start(&name, columns);
    }
    let parts = [process, exe].into_iter().filter(|part| !part.is_empty());
    let head = parts.fold(layout.bold(&name), |head, part| head + "  " + &part);
    let at = if report.has_time() { format!("of {}; ", report.window.end) } else { String::new() };
    vec![head, format!("{at}{}", sampling(report)), in_use(&report.totals, layout)]
}

fn sampling(report: &Report) -> String {
    let by = if report.sampling.mode == "go-runtime" { " by the Go runtime" } else { "" };
    match (report.sampling.mode, report.sampling.mean_bytes) {
        (HEAP_WALK, _) => "its heap walked, without call sites".to_owned(),
        ("usdt", _) => "sampled by the process itself (USDT), ± is 95 %".to_owned(),
        ("unknown", _) => "whether it was sampled is not known".to_owned(),
        (_, 0) => format!("every allocation recorded{by}"),
        (_, mean) => {
            format!("sampled{by}: one in {}, ± is 95 %", human_size(mean as f64))
        }
    }
}

/// How much is live. A Go runtime tells what was in use after its last collection, and what is now, garbage included.
fn in_use(totals: &Totals, layout: Layout) -> String {
    let bytes = layout.bold(&human_size(totals.live_bytes as f64));
    let count = human_count(totals.live_count as f64);
    match totals.now_bytes {
        None if totals.live_count == 0 && totals.live_bytes > 0 => format!("live {bytes}"),
        None => format!("live {bytes} in {count} blocks"),
        Some(now) => format!(
            "in use {bytes} in {count} objects after the last collection, {} now",
            human_size(now as f64)
        ),
    }
}

/// How much is held, and how much more is allocated.
fn held(totals: &Totals, layout: Layout) -> String {
    let bytes = layout.bold(&human_size(totals.live_bytes as f64));
    let count = human_count(totals.live_count as f64);
    let now = totals.now_bytes.unwrap_or(totals.live_bytes);
    let garbage = human_size(now.saturating_sub(totals.live_bytes) as f64);
    format!("held {bytes} in {count} objects; garbage that is not collected yet {garbage}")
}

/// Text that a target chose, without what would control the terminal.
pub fn printable(text: &str) -> String {
    let hidden =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;
    use crate::report::width_test::without_escapes;

    const SCREEN: Layout = Layout { colour: false, width: Some(80) };

    #[test]
    fn golden_exact() {
        insta::assert_snapshot!(render(&fixture::report(None, 10), SCREEN));
    }

    #[test]
    fn golden_sampled() {
        insta::assert_snapshot!(render(&fixture::report(Some(512 << 10), 10), SCREEN));
    }

    #[test]
    fn what_is_live_is_told_of_when_frees_were_last_seen() {
        let mut report = fixture::report(Some(512 << 10), 10);
        report.window.frees_seen_s = Some(12.0);
        let text = render(&report, SCREEN);
        assert!(text.contains("blocks after 12s, when frees were last seen; resident"), "{text}");
    }

    #[test]
    fn the_sites_are_on_the_first_screen() {
        let text = render(&fixture::report(Some(512 << 10), 10), SCREEN);
        let screen: Vec<_> = text.lines().take(24).collect();
        assert!(screen.iter().any(|line| line.contains("main.c:31")), "{text}");
        assert!(screen.iter().any(|line| line.contains("registry.cpp:1234")), "{text}");
        for line in text.lines().take_while(|line| !line.starts_with("stacks")).skip(4) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn names_of_the_target_cannot_control_the_terminal() {
        let text = render(&fixture::report(None, 10), SCREEN);
        assert!(!text.contains('\u{1b}'));
        assert_eq!(printable("a\u{1b}[2J\u{202e}b\n"), "a\u{fffd}[2J\u{fffd}b\u{fffd}");
    }

    #[test]
    fn colour_only_when_asked() {
        let report = fixture::report(None, 10);
        let colour = render(&report, Layout { colour: true, width: Some(80) });
        assert!(colour.contains("\u{1b}[1m"));
        assert_eq!(without_escapes(&colour), render(&report, SCREEN));
    }
}
