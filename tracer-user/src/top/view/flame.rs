//! The flame view: the threads' starts above, allocations below, each function as wide as its live bytes.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::Paragraph;

use super::Theme;
use crate::report::columns::shorten_end;
use crate::top::flame::{Bar, bars};
use crate::top::state::State;
use crate::units::human_size;

/// Neighbours differ: by the sum of depth and place.
const COLOURS: [Color; 4] = [Color::Red, Color::Yellow, Color::Magenta, Color::Green];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &mut State, theme: Theme) {
    let bars = bars(state.rows().iter().map(|row| row.site), area.width);
    if bars.is_empty() {
        frame.render_widget(Paragraph::new("nothing is live that matches"), area);
        return;
    }
    let levels = bars.last().map_or(0, |bar| bar.depth + 1);
    state.scrolled = state.scrolled.min(levels.saturating_sub(area.height.into()));
    for (place, bar) in bars.iter().enumerate() {
        let Some(row) = bar.depth.checked_sub(state.scrolled) else { continue };
        if row < usize::from(area.height) {
            let area =
                Rect { x: area.x + bar.start, y: area.y + row as u16, width: bar.width, height: 1 };
            frame.render_widget(Paragraph::new(label(bar)).style(style(bar, place, theme)), area);
        }
    }
}

/// A bar's first column tells it from the bar before it, also without colours.
fn label(bar: &Bar) -> String {
    let text = format!("|{} {}", bar.name, human_size(bar.bytes as f64));
    shorten_end(&text, bar.width.into())
}

fn style(bar: &Bar, place: usize, theme: Theme) -> Style {
    if theme.colour {
        Style::new().fg(Color::Black).bg(COLOURS[(bar.depth + place) % COLOURS.len()])
    } else {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
