//! The thread of the live view: it waits for keys and for news, and draws.
//!
//! In: [`News`] from the session, keys and sizes from the terminal. Out: the screen; it returns when the person has enough.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use crossterm::event::{self, Event, KeyEventKind};

use super::export;
use super::source::Sources;
use super::state::{Request, State};
use super::terminal::{Screen, await_keys, has_gone};
use super::view::{self, Theme};
use crate::fault::{Fault, Status};
use crate::report::Sort;
use crate::report::model::Report;

/// How long news wait at most.
const PAUSE_MS: u8 = 50;

/// How long a look for keys takes when there are none: in no time at all crossterm does not look.
const LOOK: Duration = Duration::from_millis(1);

/// What the session tells.
pub enum News {
    /// What a process holds now.
    Report {
        /// The report.
        report: Box<Report>,
        /// Why no further one will come, when that is so.
        ended: Option<&'static str>,
    },
    /// Names are being looked up for a report: so many of so many.
    Naming(usize, usize),
    /// The view is to end.
    Quit,
}

/// Shows processes, given by PID and name, until a key, or the news, say that it is enough.
pub fn show(
    processes: Vec<(u32, String)>,
    sort: Sort,
    theme: Theme,
    news: &Receiver<News>,
) -> Result<(), Fault> {
    let mut state = State::new(processes, sort);
    let mut sources = Sources::default();
    let mut screen = match Screen::enter() {
        Err(_) if has_gone() => return Ok(()),
        other => other.map_err(|error| broken(&error))?,
    };
    let mut is_stale = true;
    loop {
        if is_stale {
            if let Some(row) = state.opened() {
                sources.read(&row.site.frames);
            }
            let drawn = screen.draw(|frame| view::draw(frame, &mut state, &sources, theme));
            match drawn {
                Err(_) if has_gone() => return Ok(()),
                other => other.map_err(|error| broken(&error))?,
            }
        }
        is_stale = false;
        if !await_keys(PAUSE_MS.into()) {
            return Ok(());
        }
        while let Some(event) = next_event()? {
            is_stale = true;
            if !handle(&event, &mut state) {
                return Ok(());
            }
        }
        loop {
            match news.try_recv() {
                Ok(News::Report { report, ended }) => state.take(*report, ended),
                Ok(News::Naming(done, total)) => {
                    state.naming = (done < total).then_some((done, total));
                }
                Ok(News::Quit) | Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => break,
            }
            is_stale = true;
        }
    }
}

/// What was typed, or another size; nothing when there is nothing now, or the terminal has gone.
fn next_event() -> Result<Option<Event>, Fault> {
    let event = match event::poll(LOOK) {
        Ok(true) => event::read().map(Some),
        other => other.map(|_| None),
    };
    match event {
        Err(_) if has_gone() => Ok(None),
        other => other.map_err(|error| broken(&error)),
    }
}

/// False when the view is to end.
fn handle(event: &Event, state: &mut State) -> bool {
    let Event::Key(key) = event else { return true };
    if key.kind == KeyEventKind::Release {
        return true;
    }
    match state.press(*key) {
        Some(Request::Quit) => return false,
        Some(Request::Export) => state.message = Some(exported(state)),
        None => {}
    }
    true
}

/// Writes the report of the moment; what came of it.
fn exported(state: &State) -> String {
    let Some(report) = state.report() else {
        return "nothing to export yet: the first report is to come".to_owned();
    };
    match export::write(report, Path::new(".")) {
        Ok(name) => format!("exported to {name}"),
        Err((name, error)) if error.kind() == io::ErrorKind::AlreadyExists => {
            format!("{name} exists already and stays as it is")
        }
        Err((name, error)) => format!("cannot export to {name}: {error}"),
    }
}

fn broken(error: &io::Error) -> Fault {
    Fault::new(
        Status::Failed,
        "the view has ended",
        format!("the terminal fails: {error}"),
        "use another terminal, or `outlive attach`, which needs none",
    )
}
