//! Drawing: the header, what was chosen for the middle, losses and costs, and the keys.
//!
//! In: the state. Out: cells of a screen of any size. Whatever comes from the target goes through `printable`.

mod flame;
mod stack;
mod table;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout as Areas, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::source::Sources;
use super::state::{State, View};
use crate::report::footer;
use crate::report::model::Report;
use crate::report::text::{self, Layout, printable};

/// Lines of losses and costs; notices have a view of their own.
const FOOTER_LINES: usize = 3;
/// Screens with fewer rows have only the first of them.
const SMALL_ROWS: u16 = 16;
/// Text is laid out by ratatui: no colours, no width.
const PLAIN: Layout = Layout { colour: false, width: None };

const HELP: &str = "\
up down k j       move, page up and page down by ten, home and end to the ends
enter             the stack of the site, with its source lines; esc goes back
l g a c           order: live bytes, growth, age, blocks; s: the next of them
/                 filter by part of a function, file, module or type; esc: off
f                 flame view: callers above, as wide as their live bytes
m                 mappings in place of blocks (with --mappings)
space p           pause, and go on; tracing goes on meanwhile
e                 export the report of the moment: outlive-PID-TIME.json
n                 notes: what is missing from the numbers, in full
tab               the next process
q ctrl-c          quit; the probes are released

Bars: live bytes in the last 60 reports, each site by its own largest.
A site's numbers are those of `outlive attach`: docs/report.md.";

/// How things look.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Colours, or bold and reversed letters only.
    pub colour: bool,
}

impl Theme {
    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn warning(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    fn selected() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Draws it all.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State, sources: &Sources, theme: Theme) {
    let footer = footer_lines(state, theme, frame.area().height);
    let areas = Areas::vertical([
        Constraint::Length(3),
        Constraint::Min(1),
        Constraint::Length(footer.len() as u16),
        Constraint::Length(1),
    ]);
    let [top, middle, bottom, last] = areas.areas(frame.area());
    frame.render_widget(Paragraph::new(header(state, theme)), top);
    frame.render_widget(Paragraph::new(footer), bottom);
    frame.render_widget(Paragraph::new(status(state, theme)), last);
    match state.view {
        _ if state.report().is_none() => {
            frame.render_widget(Paragraph::new(waiting(state)), middle);
        }
        View::Table => table::draw(frame, middle, state, theme),
        View::Stack(_) => {
            let lines = stack::lines(state, sources, theme);
            scroll(frame, middle, state, lines, false);
        }
        View::Flame => flame::draw(frame, middle, state, theme),
        View::Notes => {
            let notes = state.report().map(|report| footer::lines(report, PLAIN));
            let lines = notes.unwrap_or_default().into_iter().map(Line::from).collect();
            scroll(frame, middle, state, lines, true);
        }
        View::Help => {
            scroll(frame, middle, state, HELP.lines().map(Line::from).collect(), false);
        }
    }
}

/// Lines from the one that is scrolled to on. Wrapped lines are not scrolled.
fn scroll(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &mut State,
    lines: Vec<Line<'static>>,
    is_wrapped: bool,
) {
    let most = if is_wrapped {
        lines.len().saturating_sub(1)
    } else {
        lines.len().saturating_sub(area.height.into())
    };
    state.scrolled = state.scrolled.min(most);
    let lines: Vec<Line<'static>> = lines.into_iter().skip(state.scrolled).collect();
    let paragraph = Paragraph::new(lines);
    let paragraph = if is_wrapped { paragraph.wrap(Wrap { trim: false }) } else { paragraph };
    frame.render_widget(paragraph, area);
}

/// Who, how, and how much: as in the text report.
fn header(state: &State, theme: Theme) -> Vec<Line<'static>> {
    let (name, pid, ordinal, many) = state.process();
    let mut lines: Vec<Line<'static>> = match state.report() {
        Some(report) => text::header(report, PLAIN).into_iter().map(Line::from).collect(),
        None => vec![Line::from(format!("{} (PID {pid})", printable(name)))],
    };
    if let Some(first) = lines.first_mut() {
        *first = std::mem::take(first).style(Style::new().add_modifier(Modifier::BOLD));
        if many > 1 {
            first.spans.insert(0, Span::from(format!("[{ordinal}/{many}] ")));
        }
    }
    if let Some(second) = lines.get_mut(1) {
        let marks = [
            state.ended().map(|ended| format!("[{ended}] ")),
            state.is_paused.then(|| "[paused] ".to_owned()),
        ];
        for mark in marks.into_iter().flatten() {
            second.spans.insert(0, Span::styled(mark, theme.warning()));
        }
    }
    lines
}

fn waiting(state: &State) -> String {
    match (state.ended(), state.naming) {
        (Some(ended), _) => ended.to_owned(),
        (None, Some((done, total))) => format!("looking up names: {done} of {total}"),
        (None, None) => "traced; the first report is to come".to_owned(),
    }
}

/// What is missing from the numbers, and what tracing cost.
fn footer_lines(state: &State, theme: Theme, height: u16) -> Vec<Line<'static>> {
    let Some(report) = state.report() else { return Vec::new() };
    let shown = if height < SMALL_ROWS { 1 } else { FOOTER_LINES };
    let mut lines: Vec<Line<'static>> =
        footer::lines(report, PLAIN).into_iter().take(shown).map(Line::from).collect();
    if let Some(first) = lines.first_mut()
        && !is_complete(report)
    {
        *first = std::mem::take(first).style(theme.warning());
    }
    let notices = report.loss.notices.len();
    if let (Some(notice), true) = (report.loss.notices.first(), shown > 1) {
        let all = if notices == 1 { "n: in full".to_owned() } else { format!("n: all {notices}") };
        lines.push(Line::from(format!("note       ({all}) {}", printable(notice))));
    }
    lines
}

/// Whether the text report would say that nothing was lost.
fn is_complete(report: &Report) -> bool {
    footer::lines(report, PLAIN).first().is_none_or(|line| line.ends_with("nothing"))
}

/// What is being typed, what happened, or the keys.
fn status(state: &State, theme: Theme) -> Line<'static> {
    if state.is_typing {
        return Line::from(format!("/{}_", printable(&state.filter)));
    }
    if let Some(message) = &state.message {
        return Line::from(printable(message)).style(theme.warning());
    }
    let keys = match state.view {
        View::Table => "?:help  /:filter  l g a c:order  enter:stack  f:flame  e:export  q:quit",
        _ => "esc:back  up down:scroll  e:export  q:quit",
    };
    let mut spans = Vec::new();
    if !state.filter.is_empty() {
        spans.push(Span::styled(format!("/{}  ", printable(&state.filter)), theme.warning()));
    }
    spans.push(Span::styled(keys, Theme::dim()));
    Line::from(spans)
}

#[cfg(test)]
#[path = "golden_test.rs"]
mod tests;
