//! Signals to outlive: an end of what it does, or something for the program it runs.
//!
//! In: signals, heard by a thread of its own, so that they are heard whatever outlive is busy with. Out: what they ask for; where there is
//! nothing to end well, or the second time, the end of outlive at once (`docs/exit-status.md`).

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::cli::say::say;
use crate::cli::unfinished;
use crate::fault::{Fault, Status};
use crate::golang::profiling;
use crate::target::{Pid, successor};
use crate::top::terminal;
use crate::trace::progress::UserSignal;

/// Added to a signal's number for the status of a process that it ended.
const ENDED_BY: i32 = 128;

/// How long outlive may take to end when it is asked to a second time.
const SOON: Duration = Duration::from_secs(1);

/// Whom a signal is for.
#[derive(Debug, Default)]
enum Taker {
    /// Nobody: it ends outlive at once.
    #[default]
    Nobody,
    /// A run, which then ends with its last report; the second time, with what of it there is, and that soon.
    Run { sender: UnboundedSender<UserSignal>, asked: u32 },
    /// The program that outlive runs, while it does; then outlive, as above. Until there is one, a signal ends outlive at once.
    Program { sender: UnboundedSender<UserSignal>, pid: Option<Pid>, asked: u32 },
}

/// Hears signals until outlive ends.
#[derive(Clone, Debug)]
pub(super) struct Signals {
    taker: Arc<Mutex<Taker>>,
    /// One has come, even if nobody has taken it yet.
    has_come: Arc<AtomicBool>,
}

/// Those of this process.
static HEARD: OnceLock<Signals> = OnceLock::new();

/// Before a failure is told: a call may have failed for no other reason than a signal that came in its middle (bpf(2) then gives
/// `EAGAIN` where a program is verified). If that signal ends outlive at once, it is about to.
pub(super) fn let_end() {
    let Some(signals) = HEARD.get() else { return };
    let ends = matches!(&*signals.lock(), Taker::Nobody | Taker::Program { pid: None, .. });
    if ends && signals.has_come.load(Ordering::SeqCst) {
        thread::sleep(SOON);
    }
}

impl Signals {
    /// Begins to hear those that end outlive: they do so at once, until [`Signals::end_well`].
    pub(super) fn hear() -> Result<Self, Fault> {
        // Who starts outlive by nohup wants it to go on.
        let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        Self::hear_these([SIGINT, SIGTERM].into_iter().chain(hang_up), Taker::Nobody)
    }

    /// Begins to hear those that are for the program that outlive runs.
    pub(super) fn hear_for_program() -> Result<(Self, UnboundedReceiver<UserSignal>), Fault> {
        let (sender, receiver) = unbounded_channel();
        let taker = Taker::Program { sender, pid: None, asked: 0 };
        let all = [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];
        Ok((Self::hear_these(all, taker)?, receiver))
    }

    fn hear_these(signals: impl IntoIterator<Item = i32>, taker: Taker) -> Result<Self, Fault> {
        let all: Vec<i32> = signals.into_iter().collect();
        let has_come = Arc::new(AtomicBool::new(false));
        for signal in &all {
            flag::register(*signal, Arc::clone(&has_come))
                .map_err(|error| cannot_listen(&error))?;
        }
        let mut heard =
            SignalsInfo::<WithOrigin>::new(all).map_err(|error| cannot_listen(&error))?;
        let signals = Self { taker: Arc::new(Mutex::new(taker)), has_come };
        let ear = signals.clone();
        let thread = thread::Builder::new().name("signals".to_owned());
        let started = thread.spawn(move || heard.forever().for_each(|origin| ear.take(&origin)));
        started.map_err(|error| cannot_listen(&error))?;
        // A process hears them once.
        let _first = HEARD.set(signals.clone());
        Ok(signals)
    }

    /// From now on the first one is for a run, which ends with its report.
    pub(super) fn end_well(&self) -> UnboundedReceiver<UserSignal> {
        let (sender, receiver) = unbounded_channel();
        *self.lock() = Taker::Run { sender, asked: 0 };
        receiver
    }

    /// They are for this program: it is about to run.
    pub(super) fn are_for(&self, program: Pid) {
        if let Taker::Program { pid, .. } = &mut *self.lock() {
            *pid = Some(program);
        }
    }

    fn take(&self, origin: &Origin) {
        let signal = origin.signal;
        if is_from_keyboard(origin) {
            write_over_echo();
        }
        match &mut *self.lock() {
            Taker::Nobody => end_at_once(signal, "there is nothing to report"),
            Taker::Run { sender, asked } => ask(sender, asked, signal),
            Taker::Program { sender, pid, asked } => {
                let Some(pid) = pid else { end_at_once(signal, "the program does not run yet") };
                if !successor::is_running(*pid) {
                    ask(sender, asked, signal);
                } else if !is_from_keyboard(origin) {
                    send(sender, UserSignal::HandOn(signal));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taker> {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A terminal that goes away may say so several times: that is no second wish.
fn ask(sender: &UnboundedSender<UserSignal>, asked: &mut u32, signal: i32) {
    const WHY: &str = "it was asked to a second time, and the report is not complete";
    if signal != SIGHUP || *asked == 0 {
        *asked += 1;
    }
    match *asked {
        1 => send(sender, UserSignal::Finish),
        2 if !sender.is_closed() => {
            send(sender, UserSignal::Finish);
            thread::spawn(move || {
                thread::sleep(SOON);
                end_at_once(signal, WHY);
            });
        }
        _ => end_at_once(signal, WHY),
    }
}

fn send(sender: &UnboundedSender<UserSignal>, signal: UserSignal) {
    if sender.send(signal).is_err() {
        tracing::debug!("{signal:?}: the run has ended already");
    }
}

/// Ctrl-C and Ctrl-\ reach the program without our help: it is in the same process group.
fn is_from_keyboard(origin: &Origin) -> bool {
    matches!(origin.signal, SIGINT | SIGQUIT) && matches!(origin.cause, Cause::Kernel)
}

/// Probes go with the process. What would stay is put in order first.
fn end_at_once(signal: i32, why: &str) -> ! {
    terminal::leave();
    profiling::set_all_back();
    unfinished::remove();
    say(format_args!("outlive: ended at once by a signal: {why}"));
    std::process::exit(ENDED_BY + signal)
}

/// Whether whoever started this process had it ignore a signal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << (signal - 1) != 0
}

/// A terminal has shown `^C` or `^\`: what is written next goes over it, rather than be two columns too long.
fn write_over_echo() {
    if io::stderr().is_terminal() {
        eprint!("\r");
    }
}

fn cannot_listen(error: &io::Error) -> Fault {
    Fault::new(
        Status::Failed,
        "cannot listen for signals",
        error.to_string(),
        "check the limits of this process (ulimit -n)",
    )
}
