//! What keys and reports do to what is shown.

use super::*;
use crate::top::trail::fixture_report;

fn state() -> State {
    let mut state = State::new(vec![(4242, "svc".to_owned())], Sort::Live);
    state.take(fixture_report(None), None);
    state
}

fn press(state: &mut State, keys: &str) -> Option<Request> {
    let mut request = None;
    for key in keys.chars() {
        request = press_code(state, KeyCode::Char(key));
    }
    request
}

fn press_code(state: &mut State, code: KeyCode) -> Option<Request> {
    state.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn live(state: &State) -> Vec<u64> {
    state.rows().iter().map(|row| row.site.live_bytes).collect()
}

#[test]
fn keys_choose_the_order() {
    let mut state = state();
    assert_eq!(live(&state)[..2], [10_485_760, 1_048_576]);
    press(&mut state, "a");
    assert_eq!(state.rows()[0].site.oldest_age_s, Some(4000.0));
    press(&mut state, "c");
    assert_eq!(state.rows()[0].site.live_count, 200_000);
    press(&mut state, "g");
    assert_eq!(state.rows()[0].site.growth_bytes_per_s, Some(358_400.0));
    for order in [Sort::Age, Sort::Count, Sort::Live, Sort::Growth] {
        press(&mut state, "s");
        assert_eq!(state.sort, order);
    }
}

#[test]
fn the_selection_stays_with_its_site() {
    let mut state = state();
    press(&mut state, "jj");
    let rows = state.rows();
    let (place, key) = (state.selected(&rows), rows[2].key);
    assert_eq!(place, 2);
    press(&mut state, "a");
    let rows = state.rows();
    assert_eq!(rows[state.selected(&rows)].key, key);
    press_code(&mut state, KeyCode::End);
    press_code(&mut state, KeyCode::PageDown);
    let rows = state.rows();
    assert_eq!(state.selected(&rows), rows.len() - 1);
    press_code(&mut state, KeyCode::Home);
    press_code(&mut state, KeyCode::Up);
    let rows = state.rows();
    assert_eq!(state.selected(&rows), 0);
}

#[test]
fn enter_opens_the_stack_of_the_selected_site() {
    let mut state = state();
    press_code(&mut state, KeyCode::Down);
    let expected = state.rows()[1].site.live_bytes;
    press_code(&mut state, KeyCode::Enter);
    assert_eq!(state.opened().map(|row| row.site.live_bytes), Some(expected));
    // What is opened stays open when its site has gone, and is not another one.
    let mut report = fixture_report(None);
    report.sites.clear();
    state.take(report, None);
    assert!(matches!(state.view, View::Stack(_)) && state.opened().is_none());
    press_code(&mut state, KeyCode::Esc);
    assert_eq!(state.view, View::Table);
}

#[test]
fn a_filter_is_typed_kept_and_ended() {
    let mut state = state();
    let all = state.rows().len();
    press(&mut state, "/REGISTRY.cpp");
    assert!(state.is_typing);
    assert_eq!(state.rows().len(), 1);
    press_code(&mut state, KeyCode::Enter);
    assert!(!state.is_typing);
    assert_eq!((state.filter.as_str(), state.rows().len()), ("REGISTRY.cpp", 1));
    press_code(&mut state, KeyCode::Esc);
    assert_eq!(state.rows().len(), all);
    // `q` is a letter here.
    assert_eq!(press(&mut state, "/q"), None);
    press_code(&mut state, KeyCode::Backspace);
    assert_eq!(state.filter, "");
}

#[test]
fn a_pause_holds_the_moment_and_misses_nothing() {
    let mut state = state();
    press(&mut state, " ");
    let mut report = fixture_report(None);
    report.totals.live_bytes = 1;
    state.take(report, None);
    assert_eq!(state.report().map(|report| report.totals.live_bytes), Some(12_582_912));
    press(&mut state, "p");
    assert_eq!(state.report().map(|report| report.totals.live_bytes), Some(1));
    assert_eq!(state.rows()[0].trail.len(), 2);
}

#[test]
fn processes_are_shown_one_at_a_time() {
    let mut state = State::new(vec![(1, "a".to_owned()), (4242, "svc".to_owned())], Sort::Live);
    state.take(fixture_report(None), Some("the process has ended"));
    assert!(state.report().is_none() && state.ended().is_none());
    press_code(&mut state, KeyCode::Tab);
    assert_eq!(state.process(), ("svc", 4242, 2, 2));
    assert_eq!(state.ended(), Some("the process has ended"));
    press_code(&mut state, KeyCode::BackTab);
    assert_eq!(state.process().1, 1);
    // A child that is followed comes by its report.
    let mut report = fixture_report(None);
    report.target.pid = 7;
    state.take(report, None);
    assert_eq!(state.process().3, 3);
}

#[test]
fn keys_that_are_for_others() {
    let mut state = state();
    assert_eq!(press(&mut state, "q"), Some(Request::Quit));
    assert_eq!(press(&mut state, "e"), Some(Request::Export));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.press(interrupt), Some(Request::Quit));
    press(&mut state, "/");
    assert_eq!(state.press(interrupt), Some(Request::Quit));
}

#[test]
fn nothing_panics_without_a_report() {
    let mut state = State::new(vec![], Sort::Live);
    press(&mut state, "jkfnms?/x");
    for code in [KeyCode::Enter, KeyCode::Enter, KeyCode::Tab, KeyCode::End, KeyCode::Esc] {
        press_code(&mut state, code);
    }
    assert!(state.rows().is_empty());
}
