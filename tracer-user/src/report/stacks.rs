//! The call stacks of the sites, below the table.

use super::columns::{shorten_start, width};
use super::model::{Report, Site};
use super::table::{rate, without_parameters};
use super::text::{Layout, printable};
use crate::symbolise::Frame;
use crate::units::{human_count, human_size};

/// Most frames of one stack in text; JSON has all.
const MAX_SHOWN: usize = 24;

/// What the lines below a heading begin with.
const INDENT: &str = "      ";

/// What functions of language libraries begin with: they are on the way, not where the program decided to allocate.
const LIBRARY_PREFIXES: [&str; 10] = [
    "std::",
    "core::",
    "alloc::",
    "<std::",
    "<core::",
    "<alloc::",
    "__gnu_cxx::",
    "hashbrown::",
    "<hashbrown::",
    "void std::",
];

/// What the file names of C and C++ libraries begin with.
const LIBRARY_FILES: [&str; 6] = ["libc.so", "libc-", "libstdc++", "libc++", "ld-linux", "ld-musl"];

pub(super) fn lines(report: &Report, layout: Layout) -> Vec<String> {
    let mut lines = Vec::new();
    let with_stacks = report
        .sites
        .iter()
        .filter(|site| !site.frames.is_empty() && site.live_count.max(site.live_bytes) > 0);
    for site in with_stacks {
        if lines.is_empty() {
            lines.push("stacks, from the allocation outwards:".to_owned());
        }
        let sampled = report.sampling.is_estimate() && site.kind == "allocation";
        lines.extend(layout.wrapped(&heading(site, sampled, layout), INDENT));
        lines.extend(frame_lines(site.raw_frames.as_ref().unwrap_or(&site.frames), layout));
        if let Some(reason) = incomplete(site.stack_end) {
            let reason = layout.wrapped(&format!("{INDENT}(incomplete: {reason})"), INDENT);
            lines.extend(reason.iter().map(|line| layout.warning(line)));
        }
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// Rank, live bytes, growth and freed blocks of a site.
pub(crate) fn heading(site: &Site, sampled: bool, layout: Layout) -> String {
    let [low, high] = site.live_bytes_ci95;
    let interval = if sampled {
        format!(" ({} to {})", human_size(low as f64), human_size(high as f64))
    } else {
        String::new()
    };
    let freed = if site.allocated_count == 0 {
        String::new()
    } else {
        format!(
            ", {} of {} {}",
            human_count(site.freed_count as f64),
            human_count(site.allocated_count as f64),
            if site.kind == "mapping" { "unmapped" } else { "freed" },
        )
    };
    format!(
        "  {}  {}{interval}{}{}{freed}",
        layout.bold(&format!("#{}", site.rank)),
        human_size(site.live_bytes as f64),
        site.type_name.as_ref().map_or_else(String::new, |name| format!(", {}", printable(name))),
        growth(site),
    )
}

/// How fast, and from where to where that may be; nothing when it is not known.
fn growth(site: &Site) -> String {
    let Some(growth) = site.growth_bytes_per_s else { return String::new() };
    match site.growth_ci95 {
        Some([slow, fast]) if slow < fast => {
            format!(", growth {} ({} to {})", rate(growth), rate(slow), rate(fast))
        }
        _ => format!(", growth {}", rate(growth)),
    }
}

pub(crate) fn frame_lines(frames: &[Frame], layout: Layout) -> Vec<String> {
    let mut lines: Vec<_> =
        frames.iter().take(MAX_SHOWN).flat_map(|frame| fitted(frame, layout)).collect();
    if frames.len() > MAX_SHOWN {
        lines.push(format!("      … {} more (all of them: -f json)", frames.len() - MAX_SHOWN));
    }
    lines
}

/// Function and place of a frame.
pub(crate) fn frame_line(frame: &Frame, layout: Layout) -> String {
    let function = printable(&frame.function);
    let inlined = inlined(frame);
    match frame_place(frame) {
        Some(place) => format!("{INDENT}{function}{inlined}  {}", layout.dim(&place)),
        None => format!("{INDENT}{function}{inlined}"),
    }
}

/// The same in the columns that there are: a function that is too long without its parameters, and its place below it if need be.
fn fitted(frame: &Frame, layout: Layout) -> Vec<String> {
    let Some(columns) = layout.width else { return vec![frame_line(frame, layout)] };
    let inlined = inlined(frame);
    let left = columns.saturating_sub(INDENT.len() + inlined.len());
    let first = format!("{INDENT}{}{inlined}", fitting_name(&frame.function, left));
    let Some(place) = frame_place(frame) else { return vec![first] };
    if width(&first) + 2 + width(&place) <= columns {
        return vec![format!("{first}  {}", layout.dim(&place))];
    }
    let place = shorten_start(&place, columns.saturating_sub(INDENT.len() + 2));
    vec![first, layout.dim(&format!("{INDENT}  {place}"))]
}

/// A function's name in so many columns: without its parameters when it is too long, and its end when it still is.
pub(super) fn fitting_name(function: &str, columns: usize) -> String {
    let function = printable(function);
    if width(&function) <= columns {
        return function;
    }
    shorten_start(&without_parameters(&function), columns)
}

fn inlined(frame: &Frame) -> &'static str {
    if frame.inlined { " (inlined)" } else { "" }
}

/// File and line, or the file of the code; nothing in folded stacks, which have functions only.
fn frame_place(frame: &Frame) -> Option<String> {
    Some(match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{}:{line}", printable(file)),
        (Some(file), None) => printable(file),
        (None, _) => match &frame.module {
            Some(module) => printable(module),
            None if frame.offset > 0 => "code in no file".to_owned(),
            None => return None,
        },
    })
}

/// Why a stack does not reach the thread's start, in words.
pub(crate) fn incomplete(end: &str) -> Option<&'static str> {
    match end {
        "root" => None,
        "too-deep" => Some("deeper than outlive keeps"),
        "frame-pointer-lost" => Some("the code beyond has neither unwind table nor frame pointers"),
        "unreadable" => Some("the stack's memory could not be read"),
        _ => Some("it was not kept"),
    }
}

/// File name and line, or the file name alone, or nothing.
pub(super) fn place(frame: &Frame) -> String {
    let Some(file) = &frame.file else { return String::new() };
    let name = printable(file.rsplit('/').next().unwrap_or(file));
    frame.line.map_or_else(|| name.clone(), |line| format!("{name}:{line}"))
}

/// The innermost frame that is the program's own rather than a language library's; else the innermost.
pub(crate) fn own_frame(frames: &[Frame]) -> Option<&Frame> {
    frames.get(own_index(frames.iter()))
}

/// The place of that frame in its stack, leaf first.
pub(super) fn own_index<'f>(mut frames: impl Iterator<Item = &'f Frame>) -> usize {
    frames.position(|frame| !is_library(frame)).unwrap_or(0)
}

fn is_library(frame: &Frame) -> bool {
    let module = frame.module.as_deref().unwrap_or_default();
    let file = module.rsplit('/').next().unwrap_or_default();
    LIBRARY_PREFIXES.iter().any(|prefix| frame.function.starts_with(prefix))
        || LIBRARY_FILES.iter().any(|prefix| file.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, module: &str) -> Frame {
        Frame {
            function: function.into(),
            file: None,
            line: None,
            module: Some(module.into()),
            build_id: None,
            offset: 0,
            inlined: false,
        }
    }

    #[test]
    fn the_programs_own_code_is_what_is_shown_first() {
        let frames = [
            frame("std::vector<int>::push_back(int&&)", "/bin/svc"),
            frame("strdup", "/usr/lib/libc.so.6"),
            frame("remember", "/bin/svc"),
            frame("main", "/bin/svc"),
        ];
        assert_eq!(own_frame(&frames).map(|f| f.function.as_str()), Some("remember"));
        assert_eq!(own_frame(&frames[..2]), frames.first());
        assert_eq!(own_frame(&[]), None);
    }

    #[test]
    fn long_stacks_say_how_much_is_not_shown() {
        let frames = vec![frame("recurse", "/bin/svc"); 100];
        let lines = frame_lines(&frames, Layout::default());
        assert_eq!(lines.len(), MAX_SHOWN + 1);
        assert!(lines.last().is_some_and(|line| line.contains("76 more")));
    }
}
