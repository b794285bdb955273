//! What the live view shows, without a terminal.
//!
//! In: reports, keys. Out: the report of the moment, its sites in order, and what else a key asks for.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::trail::Trails;
use crate::report::Sort;
use crate::report::model::{Report, Site};
use crate::report::site_key::SiteKey;
use crate::report::table::is_shown;

/// Rows that a page key moves by.
const PAGE: usize = 10;
/// Longest filter.
const MAX_FILTER: usize = 100;
/// The orders that the sort key goes through.
const ORDERS: [Sort; 4] = [Sort::Live, Sort::Growth, Sort::Age, Sort::Count];

/// What a key asks for that is not in the state's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Leave.
    Quit,
    /// Write the report of the moment to a file.
    Export,
}

/// What fills the middle of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// One line a site.
    Table,
    /// The stack of a site.
    Stack(SiteKey),
    /// Stacks by their shares.
    Flame,
    /// What is missing from the numbers, in full.
    Notes,
    /// The keys.
    Help,
}

/// A report, and the trail of each of its sites.
pub(super) struct Moment {
    pub(super) report: Report,
    trails: Vec<(SiteKey, Vec<u64>)>,
}

/// A site of the moment, with what it held in the last minute.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) key: SiteKey,
    pub(super) site: &'a Site,
    pub(super) trail: &'a [u64],
}

/// A process that is watched.
struct Watched {
    pid: u32,
    name: String,
    trails: Trails,
    shown: Option<Moment>,
    /// What came while the view was paused.
    newer: Option<Moment>,
    ended: Option<&'static str>,
}

/// All that is shown, and how.
pub(super) struct State {
    processes: Vec<Watched>,
    chosen: usize,
    pub(super) view: View,
    pub(super) sort: Sort,
    /// Mappings are listed, not blocks.
    pub(super) is_on_mappings: bool,
    pub(super) filter: String,
    /// Keys go to the filter.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    /// What happened last, until the next key.
    pub(super) message: Option<String>,
    /// Names that were looked up for the report to come, and all of them.
    pub(super) naming: Option<(usize, usize)>,
    /// The site that was moved to; without one, the first.
    selected: Option<SiteKey>,
    /// Lines that are scrolled past; the drawing keeps it where there are lines.
    pub(super) scrolled: usize,
    /// Which rows of the table are on the screen: the drawing's.
    pub(super) table: TableState,
}

impl State {
    /// Watches these processes, of which nothing is known but PID and name.
    pub(super) fn new(processes: Vec<(u32, String)>, sort: Sort) -> Self {
        Self {
            processes: processes.into_iter().map(|(pid, name)| Watched::new(pid, name)).collect(),
            chosen: 0,
            view: View::Table,
            sort,
            is_on_mappings: false,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            message: None,
            naming: None,
            selected: None,
            scrolled: 0,
            table: TableState::default(),
        }
    }

    /// Takes a report; with the reason why it is the last on its process, when it is.
    pub(super) fn take(&mut self, report: Report, ended: Option<&'static str>) {
        let pid = report.target.pid;
        let place = self.processes.iter().position(|process| process.pid == pid);
        let place = place.unwrap_or_else(|| {
            self.processes.push(Watched::new(pid, report.target.comm.clone()));
            self.processes.len() - 1
        });
        let process = &mut self.processes[place];
        let moment = Moment { trails: process.trails.extend(&report), report };
        process.ended = process.ended.or(ended);
        self.naming = None;
        if self.is_paused && process.shown.is_some() {
            process.newer = Some(moment);
        } else {
            process.shown = Some(moment);
        }
    }

    /// Name and PID of the process that is shown, and which it is of how many.
    pub(super) fn process(&self) -> (&str, u32, usize, usize) {
        let many = self.processes.len();
        let shown = self.processes.get(self.chosen);
        shown.map_or(("", 0, 0, 0), |shown| (&shown.name, shown.pid, self.chosen + 1, many))
    }

    /// The report of the moment.
    pub(super) fn report(&self) -> Option<&Report> {
        Some(&self.moment()?.report)
    }

    /// Why no further report will come on the process, when that is so.
    pub(super) fn ended(&self) -> Option<&'static str> {
        self.processes.get(self.chosen)?.ended
    }

    /// The sites that match, in order.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let kind = if self.is_on_mappings { "mapping" } else { "allocation" };
        let filter = self.filter.to_lowercase();
        let mut rows: Vec<Row<'_>> = self
            .all_rows()
            .filter(|row| row.site.kind == kind && is_shown(row.site) && matches(row.site, &filter))
            .collect();
        let key = |site: &Site| match self.sort {
            Sort::Live => site.live_bytes as f64,
            Sort::Count => site.live_count as f64,
            Sort::Growth => site.growth_bytes_per_s.unwrap_or(f64::NEG_INFINITY),
            Sort::Age => site.oldest_age_s.unwrap_or(f64::NEG_INFINITY),
            Sort::Allocated => site.allocated_bytes as f64,
        };
        rows.sort_by(|a, b| key(b.site).total_cmp(&key(a.site)));
        rows
    }

    /// Which of the rows is selected.
    pub(super) fn selected(&self, rows: &[Row<'_>]) -> usize {
        let key = self.selected;
        key.and_then(|key| rows.iter().position(|row| row.key == key)).unwrap_or(0)
    }

    /// The site whose stack is open; `None` when it is in the report no more.
    pub(super) fn opened(&self) -> Option<Row<'_>> {
        let View::Stack(key) = self.view else { return None };
        self.all_rows().find(|row| row.key == key)
    }

    /// Does what a key means.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Request> {
        self.message = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Request::Quit);
        }
        if self.is_typing {
            self.type_filter(key.code);
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Request::Quit),
            KeyCode::Char('e') => return Some(Request::Export),
            KeyCode::Char('?' | 'h') => self.open(View::Help),
            KeyCode::Char('f') => self.open(View::Flame),
            KeyCode::Char('n') => self.open(View::Notes),
            KeyCode::Char('/') => {
                self.is_typing = true;
                self.filter.clear();
            }
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('m') => self.exchange_kind(),
            KeyCode::Char('l') => self.sort = Sort::Live,
            KeyCode::Char('g') => self.sort = Sort::Growth,
            KeyCode::Char('a') => self.sort = Sort::Age,
            KeyCode::Char('c') => self.sort = Sort::Count,
            KeyCode::Char('s') => self.sort = next(self.sort),
            KeyCode::Tab => self.choose(1),
            KeyCode::BackTab => self.choose(self.processes.len().saturating_sub(1)),
            KeyCode::Enter => self.open_stack(),
            KeyCode::Esc => self.go_back(),
            code => self.navigate(code),
        }
        None
    }

    fn navigate(&mut self, code: KeyCode) {
        let by: fn(usize) -> usize = match code {
            KeyCode::Up | KeyCode::Char('k') => |at| at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => |at| at.saturating_add(1),
            KeyCode::PageUp => |at| at.saturating_sub(PAGE),
            KeyCode::PageDown => |at| at.saturating_add(PAGE),
            KeyCode::Home => |_| 0,
            KeyCode::End => |_| usize::MAX,
            _ => return,
        };
        if self.view != View::Table {
            self.scrolled = by(self.scrolled);
            return;
        }
        let rows = self.rows();
        let place = by(self.selected(&rows)).min(rows.len().saturating_sub(1));
        // The first row is the first whatever comes, as long as nobody moves away from it.
        self.selected = rows.get(place).filter(|_| place > 0).map(|row| row.key);
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if !letter.is_control() && self.filter.len() < MAX_FILTER => {
                self.filter.push(letter);
            }
            _ => {}
        }
    }

    /// Opens a view, or closes it when it is open.
    fn open(&mut self, view: View) {
        self.scrolled = 0;
        self.view = if self.view == view { View::Table } else { view };
    }

    fn open_stack(&mut self) {
        let rows = self.rows();
        let row = rows.get(self.selected(&rows)).map(|row| row.key);
        if let (View::Table, Some(key)) = (self.view, row) {
            self.selected = Some(key);
            self.open(View::Stack(key));
        }
    }

    fn go_back(&mut self) {
        if self.view == View::Table {
            self.filter.clear();
        }
        self.scrolled = 0;
        self.view = View::Table;
    }

    fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        for process in &mut self.processes {
            if let Some(newer) = process.newer.take() {
                process.shown = Some(newer);
            }
        }
    }

    fn exchange_kind(&mut self) {
        if self.report().is_some_and(|report| report.mappings.is_some()) {
            self.is_on_mappings = !self.is_on_mappings;
        } else {
            self.message = Some("mappings are not followed: start with --mappings".to_owned());
        }
    }

    fn choose(&mut self, further: usize) {
        if self.processes.len() > 1 {
            self.chosen = (self.chosen + further) % self.processes.len();
            self.go_back();
            self.selected = None;
        }
    }

    fn moment(&self) -> Option<&Moment> {
        self.processes.get(self.chosen)?.shown.as_ref()
    }

    fn all_rows(&self) -> impl Iterator<Item = Row<'_>> {
        let rows = self.moment().into_iter();
        rows.flat_map(|moment| moment.report.sites.iter().zip(&moment.trails))
            .map(|(site, (key, trail))| Row { key: *key, site, trail })
    }
}

impl Watched {
    fn new(pid: u32, name: String) -> Self {
        Self { pid, name, trails: Trails::default(), shown: None, newer: None, ended: None }
    }
}

fn next(sort: Sort) -> Sort {
    let place = ORDERS.iter().position(|order| *order == sort);
    ORDERS[place.map_or(0, |place| place + 1) % ORDERS.len()]
}

/// Whether function, file or module of a frame, or the type, has this text in it, in lower case.
fn matches(site: &Site, text: &str) -> bool {
    let has = |name: &str| name.to_lowercase().contains(text);
    text.is_empty()
        || site.type_name.as_deref().is_some_and(has)
        || site.frames.iter().any(|frame| {
            has(&frame.function)
                || frame.file.as_deref().is_some_and(has)
                || frame.module.as_deref().is_some_and(has)
        })
}

#[cfg(test)]
#[path = "state_test.rs"]
mod tests;
