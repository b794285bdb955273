//! A difference as text for people: a line a site, the stacks of those that grew, and what the numbers lack.

use super::{Diff, DiffSite, Side};
use crate::report::profile::Amounts;
use crate::report::stacks::{frame_lines, own_frame};
use crate::report::table::with_places;
use crate::report::text::{Layout, printable};
use crate::units::{human_count, human_size};

/// What the rest of a line begins with that is too long.
const INDENT: &str = "        ";

/// The whole report.
pub fn render(diff: &Diff, layout: Layout) -> String {
    let lines = [
        line_of("before", &diff.before, layout),
        line_of("after", &diff.after, layout),
        format!(
            "growth  {}: {} at sites that grew, {} at sites that shrank",
            layout.bold(&signed_size(diff.growth_bytes)),
            signed_size(diff.grown_bytes as i64),
            signed_size(-(diff.shrunk_bytes as i64)),
        ),
    ];
    let mut lines: Vec<_> = lines.iter().flat_map(|line| layout.wrapped(line, INDENT)).collect();
    lines.push(String::new());
    lines.extend(table(diff, layout));
    lines.push(String::new());
    lines.extend(stacks(diff, layout));
    lines.extend(notices(diff, layout));
    lines.push(String::new());
    lines.join("\n")
}

fn line_of(word: &str, side: &Side, layout: Layout) -> String {
    let at = side.at.as_deref().map_or_else(String::new, |at| format!("  of {at}"));
    let count = match side.live_count {
        0 => String::new(),
        count => format!(" in {} blocks", human_count(count as f64)),
    };
    let live = layout.bold(&human_size(side.live_bytes as f64));
    format!("{word:<6}  {}{at}: live {live}{count}", printable(&side.file))
}

fn table(diff: &Diff, layout: Layout) -> Vec<String> {
    if diff.sites.is_empty() {
        return vec!["no site holds more or less than before".to_owned()];
    }
    let is_sampled = diff.sites.iter().any(|site| site.growth_bytes_ci95 != [site.growth_bytes; 2]);
    let mut heading = vec!["#", "GROWTH"];
    heading.extend(is_sampled.then_some("±"));
    heading.extend(["BEFORE", "AFTER", "BLOCKS"]);
    let mut rows: Vec<Vec<String>> = vec![heading.into_iter().map(str::to_owned).collect()];
    rows.extend(diff.sites.iter().map(|site| cells(site, is_sampled)));
    let frames: Vec<_> = diff.sites.iter().map(|site| own_frame(&site.frames)).collect();
    let mut lines = with_places(&rows, "ALLOCATED IN", &frames, layout);
    if diff.sites_omitted > 0 {
        lines.push(layout.dim(&format!("and {} more sites (--top)", diff.sites_omitted)));
    }
    lines
}

fn cells(site: &DiffSite, is_sampled: bool) -> Vec<String> {
    let mut cells = vec![site.rank.to_string(), signed_size(site.growth_bytes)];
    if is_sampled {
        let [low, high] = site.growth_bytes_ci95;
        cells.push(human_size(high.saturating_sub(low) as f64 / 2.0));
    }
    let live = |amounts: Option<Amounts>| {
        amounts.map_or_else(|| "-".to_owned(), |amounts| human_size(amounts.live_bytes as f64))
    };
    cells.extend([live(site.before), live(site.after)]);
    let sign = match site.growth_count {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    cells.push(format!("{sign}{}", human_count(site.growth_count.unsigned_abs() as f64)));
    cells
}

/// The stacks of the sites that grew.
fn stacks(diff: &Diff, layout: Layout) -> Vec<String> {
    let mut lines = Vec::new();
    for site in diff.sites.iter().filter(|site| site.growth_bytes > 0 && !site.frames.is_empty()) {
        let joined = match (site.joined_by, site.before) {
            (Some(super::Joined::Function), _) => ", joined by function: its lines have moved",
            (_, None) => ", new",
            _ => "",
        };
        let rank = layout.bold(&format!("#{}", site.rank));
        lines.push(format!("  {rank}  {}{joined}", signed_size(site.growth_bytes)));
        lines.extend(frame_lines(&site.frames, layout));
    }
    if !lines.is_empty() {
        lines.insert(0, "stacks of what grew, from the allocation outwards:".to_owned());
        lines.push(String::new());
    }
    lines
}

fn notices(diff: &Diff, layout: Layout) -> Vec<String> {
    let of = |word: &'static str, side: &Side| {
        let lines = side.notices.iter().map(|notice| format!("{word:<6}  {}", printable(notice)));
        lines.flat_map(|line| layout.wrapped(&line, INDENT)).collect::<Vec<_>>()
    };
    let mut lines = of("before", &diff.before);
    lines.extend(of("after", &diff.after));
    lines
}

fn signed_size(bytes: i64) -> String {
    let sign = if bytes > 0 { "+" } else { "" };
    format!("{sign}{}", human_size(bytes as f64))
}
