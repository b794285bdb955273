//! The stack of a site, each frame with the lines of source around it.

use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use super::{PLAIN, Theme};
use crate::report::stacks::{frame_line, heading, incomplete};
use crate::top::source::Sources;
use crate::top::state::State;

pub(super) fn lines(state: &State, sources: &Sources, theme: Theme) -> Vec<Line<'static>> {
    let Some(row) = state.opened() else {
        return vec![Line::from("the site is in the report no more: nothing of it is live")];
    };
    let is_estimate = state.report().is_some_and(|report| report.sampling.is_estimate());
    let sampled = is_estimate && row.site.kind == "allocation";
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines =
        vec![Line::from(heading(row.site, sampled, PLAIN).trim().to_owned()).style(bold)];
    for frame in &row.site.frames {
        lines.push(Line::from(frame_line(frame, PLAIN)).style(bold));
        for (number, text) in sources.get(frame).into_iter().flatten() {
            let is_meant = frame.line == Some(*number);
            let mark = if is_meant { '>' } else { ' ' };
            let line = Line::from(format!("        {mark}{number:>6}  {text}"));
            lines.push(if is_meant { line } else { line.style(Theme::dim()) });
        }
    }
    if row.site.frames.is_empty() {
        lines.push(Line::from("      (no stack)"));
    }
    if let Some(reason) = incomplete(row.site.stack_end) {
        lines.push(Line::from(format!("      (incomplete: {reason})")).style(theme.warning()));
    }
    lines
}
