//! Signals to outlive: an end of the run, or something for the program it runs.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::fault::{Fault, Status};
use crate::trace::progress::UserSignal;

/// Exit status of a process that was ended by Ctrl-C: 128 and SIGINT.
const INTERRUPTED: i32 = 130;

/// Signals end the run; a second Ctrl-C ends outlive at once.
pub(super) fn ending() -> Result<UnboundedReceiver<UserSignal>, Fault> {
    ending_after(|| {})
}

/// As [`ending`]; before outlive ends at once, `last` is done.
pub(super) fn ending_after(last: fn()) -> Result<UnboundedReceiver<UserSignal>, Fault> {
    let (sender, receiver) = unbounded_channel();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).map_err(|error| cannot_listen(&error))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            let mut asked = false;
            while signals.recv().await.is_some() {
                if asked || sender.send(UserSignal::Finish).is_err() {
                    last();
                    std::process::exit(INTERRUPTED);
                }
                asked = true;
            }
        });
    }
    Ok(receiver)
}

/// Signals are for the program. A terminal's Ctrl-C and Ctrl-\ reach it without our help, since it is in the same
/// process group.
pub(super) fn handed_on() -> Result<UnboundedReceiver<UserSignal>, Fault> {
    let (sender, receiver) = unbounded_channel();
    let from_terminal = io::stdin().is_terminal();
    for (kind, by_terminal) in [
        (SignalKind::interrupt(), true),
        (SignalKind::quit(), true),
        (SignalKind::terminate(), false),
        (SignalKind::hangup(), false),
        (SignalKind::user_defined1(), false),
        (SignalKind::user_defined2(), false),
    ] {
        let mut signals = signal(kind).map_err(|error| cannot_listen(&error))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let handed_on = UserSignal::HandOn(kind.as_raw_value());
                if !(by_terminal && from_terminal) && sender.send(handed_on).is_err() {
                    break;
                }
            }
        });
    }
    Ok(receiver)
}

fn cannot_listen(error: &io::Error) -> Fault {
    Fault::new(
        Status::Failed,
        "cannot listen for signals",
        error.to_string(),
        "check the limits of this process (ulimit -n)",
    )
}
