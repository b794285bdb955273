//! Whole screens, on ratatui's terminal for tests.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::report::Sort;
use crate::top::trail::fixture_report;

/// The screen after these keys; `\n` is enter.
fn screen(sample: Option<u64>, keys: &str, columns: u16, rows: u16) -> String {
    let mut state = State::new(vec![(4242, "svc".to_owned())], Sort::Live);
    for bytes in [1, 4, 10] {
        let mut report = fixture_report(sample);
        report.sites[0].live_bytes = bytes << 20;
        state.take(report, None);
    }
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        state.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    drawn(&mut state, columns, rows)
}

fn drawn(state: &mut State, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    let sources = Sources::default();
    let theme = Theme { colour: true };
    terminal.draw(|frame| draw(frame, state, &sources, theme)).expect("drawn");
    terminal.backend().to_string()
}

#[test]
fn golden_table() {
    insta::assert_snapshot!("table_80x24", screen(None, "", 80, 24));
    insta::assert_snapshot!("table_120x40", screen(Some(512 << 10), "jg", 120, 40));
}

#[test]
fn golden_stack() {
    insta::assert_snapshot!("stack_80x24", screen(None, "j\n", 80, 24));
    insta::assert_snapshot!("stack_120x40", screen(Some(512 << 10), "\n", 120, 40));
}

#[test]
fn golden_flame() {
    insta::assert_snapshot!("flame_80x24", screen(None, "f", 80, 24));
    insta::assert_snapshot!("flame_120x40", screen(None, "f", 120, 40));
}

#[test]
fn golden_help_and_notes() {
    insta::assert_snapshot!("help_80x24", screen(None, "?", 80, 24));
    insta::assert_snapshot!("notes_80x24", screen(None, "n", 80, 24));
}

#[test]
fn every_size_can_be_drawn() {
    for keys in ["", "\n", "f", "n", "?", "/no such", "m"] {
        for (columns, rows) in [(1, 1), (5, 3), (20, 8), (80, 10), (300, 100)] {
            screen(None, keys, columns, rows);
        }
    }
}

#[test]
fn before_the_first_report_and_after_the_last() {
    let mut state = State::new(vec![(4242, "s\u{1b}[2Jvc".to_owned())], Sort::Live);
    state.naming = Some((3, 20));
    let before = drawn(&mut state, 80, 24);
    assert!(before.contains("looking up names: 3 of 20") && before.contains("(PID 4242)"));
    assert!(!before.contains('\u{1b}'));
    state.take(fixture_report(None), Some("the process has ended"));
    assert!(drawn(&mut state, 80, 24).contains("[the process has ended]"));
}
