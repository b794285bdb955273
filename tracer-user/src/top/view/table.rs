//! One line a site, with what it held in the last minute.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar::NINE_LEVELS;
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};

use super::Theme;
use crate::report::Sort;
use crate::report::stacks::own_frame;
use crate::report::table::{age, growth, relative_error, short_place};
use crate::top::state::{Row, State};
use crate::top::trail::KEPT;
use crate::units::{human_count, human_size};

/// Columns that function and line get before trails get more than their least.
const PLACE_COLUMNS: usize = 40;
/// Columns of a trail on a narrow screen.
const LEAST_TRAIL: usize = 8;
/// Blanks between columns.
const GAP: usize = 2;

/// A column of numbers.
struct Column {
    title: &'static str,
    sort: Option<Sort>,
    cells: Vec<String>,
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, theme: Theme) {
    let mut shown = std::mem::take(&mut state.table);
    let rows = state.rows();
    shown.select((!rows.is_empty()).then(|| state.selected(&rows)));
    if rows.is_empty() {
        frame.render_widget(Paragraph::new(nothing(state)), area);
    } else {
        let columns = columns(state, &rows);
        let widths: Vec<usize> = columns.iter().map(Column::width).collect();
        let used: usize = widths.iter().map(|width| width + GAP).sum();
        let left = usize::from(area.width).saturating_sub(used + GAP);
        let trail = left.saturating_sub(PLACE_COLUMNS).clamp(LEAST_TRAIL, KEPT);
        let place = left.saturating_sub(trail).max(LEAST_TRAIL);
        let table = Table::new(
            lines(&rows, &columns, trail, place, theme),
            widths.iter().chain([&trail, &place]).map(|width| Constraint::Length(*width as u16)),
        )
        .header(heading(&columns, state.sort))
        .column_spacing(GAP as u16)
        .row_highlight_style(Theme::selected());
        frame.render_stateful_widget(table, area, &mut shown);
    }
    state.table = shown;
}

fn nothing(state: &State) -> &'static str {
    match (state.filter.is_empty(), state.is_on_mappings) {
        (false, _) => "no site matches the filter (esc ends it)",
        (true, true) => "nothing that the program mapped since the start is mapped",
        (true, false) => "nothing that was allocated since the start is live",
    }
}

fn columns(state: &State, rows: &[Row<'_>]) -> Vec<Column> {
    let is_estimate = state.report().is_some_and(|report| report.sampling.is_estimate());
    let column = |title, sort, cell: &dyn Fn(&Row<'_>) -> String| Column {
        title,
        sort,
        cells: rows.iter().map(cell).collect(),
    };
    let live = if state.is_on_mappings { "MAPPED" } else { "LIVE" };
    let count = if state.is_on_mappings { "MAPPINGS" } else { "BLOCKS" };
    let mut columns =
        vec![column(live, Some(Sort::Live), &|row| human_size(row.site.live_bytes as f64))];
    if is_estimate && !state.is_on_mappings {
        columns.push(column("±", None, &|row| relative_error(row.site)));
    }
    columns.extend([
        column(count, Some(Sort::Count), &|row| human_count(row.site.live_count as f64)),
        column("OLDEST", Some(Sort::Age), &|row| age(row.site.oldest_age_s)),
        column("GROWTH", Some(Sort::Growth), &|row| growth(row.site)),
    ]);
    columns
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(String::as_str).chain([self.title]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// The titles; that of the order is underlined.
fn heading<'a>(columns: &[Column], sort: Sort) -> TableRow<'a> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let numbers = columns.iter().map(|column| {
        let line = Line::from(column.title).right_aligned();
        let is_order = column.sort == Some(sort);
        let style = if is_order { bold.add_modifier(Modifier::UNDERLINED) } else { bold };
        Cell::from(Text::from(line)).style(style)
    });
    let words = ["TREND", "ALLOCATED IN"].map(|title| Cell::from(title).style(bold));
    TableRow::new(numbers.chain(words).collect::<Vec<_>>())
}

fn lines<'a>(
    rows: &[Row<'_>],
    columns: &'a [Column],
    trail: usize,
    place: usize,
    theme: Theme,
) -> Vec<TableRow<'a>> {
    let line = |(number, row): (usize, &Row<'_>)| {
        let numbers = columns.iter().filter_map(|column| column.cells.get(number));
        let numbers = numbers.map(|cell| Cell::from(Text::from(cell.as_str()).right_aligned()));
        let sparkline = Cell::from(sparkline(row.trail, trail)).style(theme.coloured(Color::Green));
        let frame = own_frame(&row.site.frames);
        let name = frame.map_or("(no stack)".into(), |frame| short_place(frame, Some(place)));
        TableRow::new(numbers.chain([sparkline, Cell::from(name)]).collect::<Vec<_>>())
    };
    rows.iter().enumerate().map(line).collect()
}

/// The last of the values as bars, the largest of them as a full one.
fn sparkline(trail: &[u64], columns: usize) -> String {
    let shown = &trail[trail.len().saturating_sub(columns)..];
    let most = shown.iter().copied().max().unwrap_or(0).max(1);
    let level = |value: u64| (u128::from(value) * 8).div_ceil(u128::from(most));
    let bars: String =
        shown.iter().map(|value| NINE_LEVELS_BY_NUMBER[level(*value) as usize]).collect();
    format!("{bars:>columns$}")
}

/// From nothing to all.
const NINE_LEVELS_BY_NUMBER: [&str; 9] = [
    NINE_LEVELS.empty,
    NINE_LEVELS.one_eighth,
    NINE_LEVELS.one_quarter,
    NINE_LEVELS.three_eighths,
    NINE_LEVELS.half,
    NINE_LEVELS.five_eighths,
    NINE_LEVELS.three_quarters,
    NINE_LEVELS.seven_eighths,
    NINE_LEVELS.full,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_tell_how_it_went() {
        assert_eq!(sparkline(&[0, 1, 50, 100], 6), "  \u{20}▁▄█");
        assert_eq!(sparkline(&[7, 7, 7], 2), "██");
        assert_eq!(sparkline(&[0, 0], 2), "  ");
        assert_eq!(sparkline(&[u64::MAX, u64::MAX / 2], 2), "█▄");
        assert_eq!(sparkline(&[], 3), "   ");
    }
}
