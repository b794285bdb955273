//! The table of a walk over a heap: objects by what holds them and by type, for there are no call sites.
//!
//! In: a report of such a walk. Out: its lines; and for formats that know stacks only, the type and its holder in the place of calls.

use super::columns::{aligned, shorten_end, widths};
use super::model::{HeldSite, Report, Site};
use super::text::{Layout, printable};
use crate::symbolise::Frame;
use crate::units::{human_count, human_size};

/// Fewest columns that the holder is cut to, even when the terminal has less.
const MIN_HOLDER_COLUMNS: usize = 16;
/// Most columns of a type.
const MAX_TYPE_COLUMNS: usize = 32;
/// What nothing is known of.
const UNKNOWN: &str = "-";

/// The table.
pub(super) fn lines(report: &Report, layout: Layout) -> Vec<String> {
    let sites: Vec<_> =
        report.sites.iter().filter_map(|site| Some((site, site.held.as_ref()?))).collect();
    let has_growth = !report.is_instant();
    let mut rows = vec![heading(has_growth)];
    rows.extend(sites.iter().map(|(site, held)| cells(site, held, has_growth)));
    let widths = widths(&rows);
    let used: usize = widths.iter().map(|width| width + 2).sum();
    let left = layout.width.map(|width| width.saturating_sub(used).max(MIN_HOLDER_COLUMNS));
    let holders = sites.iter().map(|(site, _)| {
        let holder = printable(site.retained_by.as_deref().unwrap_or(UNKNOWN));
        left.map_or(holder.clone(), |columns| shorten_end(&holder, columns))
    });
    let holders = std::iter::once("HELD BY".to_owned()).chain(holders);
    let mut lines: Vec<_> =
        rows.iter().zip(holders).map(|(row, holder)| aligned(row, &widths) + &holder).collect();
    if let Some(first) = lines.first_mut() {
        *first = layout.dim(first);
    }
    if sites.is_empty() {
        lines.push("nothing is held".to_owned());
    }
    if report.sites_omitted > 0 {
        lines.push(layout.dim(&format!("and {} more lines (--top)", report.sites_omitted)));
    }
    lines
}

fn heading(has_growth: bool) -> Vec<String> {
    let growth: &[&str] = if has_growth { &["GROWTH", "MORE"] } else { &[] };
    let cells = ["#", "HELD", "OBJECTS"].into_iter().chain(growth.iter().copied());
    cells.chain(["TYPE"]).map(str::to_owned).collect()
}

fn cells(site: &Site, held: &HeldSite, has_growth: bool) -> Vec<String> {
    let mut cells = vec![
        site.rank.to_string(),
        human_size(site.live_bytes as f64),
        human_count(site.live_count as f64),
    ];
    if has_growth {
        cells.push(signed(held.growth_bytes, &human_size));
        cells.push(signed(held.growth_count, &human_count));
    }
    cells.push(shorten_end(&printable(&type_words(site, held)), MAX_TYPE_COLUMNS));
    cells
}

/// A change with its sign.
fn signed(growth: Option<i64>, words: &dyn Fn(f64) -> String) -> String {
    let Some(growth) = growth else { return UNKNOWN.to_owned() };
    let sign = match growth {
        ..0 => "-",
        0 => "",
        1.. => "+",
    };
    format!("{sign}{}", words(growth.unsigned_abs() as f64))
}

/// The type, or what is known in its place.
fn type_words(site: &Site, held: &HeldSite) -> String {
    if let Some(name) = &site.type_name {
        return name.clone();
    }
    let slot = match held.slot_bytes {
        Some(bytes) => human_size(bytes as f64),
        None => "large".to_owned(),
    };
    let with = if held.has_pointers == Some(true) { "with" } else { "no" };
    format!("({slot}, {with} pointers)")
}

/// What stands for the calls of a site, leaf first: its type, and what holds it.
pub(super) fn path(site: &Site, held: &HeldSite) -> [Frame; 2] {
    let holder = site.retained_by.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    [Frame::of_name(type_words(site, held)), Frame::of_name(format!("held by {holder}"))]
}
