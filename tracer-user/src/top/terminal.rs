//! The terminal while it belongs to the live view, and as it was before.
//!
//! However the view ends, by a return, a panic, or a signal, [`leave`] gives the terminal back. What is written to standard error
//! meanwhile would stand in the middle of the view: it is kept, and printed then.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Stdout, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};
use nix::unistd::dup2_stderr;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{Frame, Terminal};

/// Most of what was kept that is printed: its end.
const MAX_PRINTED: u64 = 64 << 10;

/// How long a terminal may take until it takes the last of the view.
const FAREWELL_MS: u16 = 1000;

/// Whether the terminal is the view's.
static IS_ENTERED: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<Option<KeptErrors>> = Mutex::new(None);

/// The terminal on standard input and output, in raw mode and on its alternate screen. Given back when dropped.
pub struct Screen {
    /// Not dropped: it would show the cursor once more, and panic where the terminal has gone and standard error with it.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
}

impl Screen {
    /// Takes the terminal.
    pub fn enter() -> io::Result<Self> {
        give_back_on_panic();
        enable_raw_mode()?;
        never_wait_for_keys().inspect_err(|_| drop(disable_raw_mode()))?;
        IS_ENTERED.store(true, Ordering::SeqCst);
        // From here on an early return gives it back.
        let entered = execute!(io::stdout(), EnterAlternateScreen, Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match entered {
            Ok(terminal) => {
                *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = KeptErrors::begin();
                Ok(Self { terminal: ManuallyDrop::new(terminal) })
            }
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Draws; does nothing when the terminal has been given back.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if IS_ENTERED.load(Ordering::SeqCst) {
            self.terminal.draw(draw)?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Waits so long at most for keys; false when the terminal has gone.
pub(super) fn await_keys(limit: PollTimeout) -> bool {
    let stdin = io::stdin();
    let mut keys = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    // A signal ends the waiting: the size may be another one.
    let _waited = poll(&mut keys, limit);
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    keys[0].revents().is_none_or(|events| !events.intersects(gone))
}

/// Whether the terminal has gone.
pub(super) fn has_gone() -> bool {
    !await_keys(PollTimeout::ZERO)
}

/// Gives the terminal back, if it was taken. Does not wait for one that takes nothing: the view may be waiting for it in vain.
pub fn leave() {
    if !IS_ENTERED.swap(false, Ordering::SeqCst) {
        return;
    }
    let left = say_farewell();
    let cooked = disable_raw_mode();
    if let Some(kept) = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take() {
        kept.end();
    }
    if let Err(error) = left.and(cooked) {
        tracing::debug!("the terminal has gone: {error}");
    }
}

/// Half of a key, such as the first byte of a letter, is there to be read, and the rest may never come.
fn never_wait_for_keys() -> io::Result<()> {
    let mut settings = tcgetattr(io::stdin())?;
    settings.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
    settings.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    Ok(tcsetattr(io::stdin(), SetArg::TCSANOW, &settings)?)
}

/// By an opening of its own, which can be told not to wait, past the lock that the view holds while it draws.
fn say_farewell() -> io::Result<()> {
    let mut terminal = OpenOptions::new()
        .write(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open("/proc/self/fd/1")?;
    let mut taken = [PollFd::new(terminal.as_fd(), PollFlags::POLLOUT)];
    poll(&mut taken, FAREWELL_MS)?;
    let mut farewell = Vec::new();
    execute!(farewell, LeaveAlternateScreen, Show)?;
    terminal.write_all(&farewell)
}

/// The message of a panic is for the terminal as it was.
fn give_back_on_panic() {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    if !IS_SET.swap(true, Ordering::SeqCst) {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
    }
}

/// What is written to standard error, in a file.
struct KeptErrors {
    file: File,
    terminal: OwnedFd,
}

impl KeptErrors {
    /// Keeps it from now on, when it would go to a terminal, and there is room for a file.
    fn begin() -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let terminal = nix::unistd::dup(io::stderr()).ok()?;
        let file = tempfile::tempfile().ok()?;
        dup2_stderr(&file).ok()?;
        Some(Self { file, terminal })
    }

    fn end(mut self) {
        if dup2_stderr(&self.terminal).is_err() {
            return;
        }
        let mut text = Vec::new();
        let end = self.file.metadata().map_or(0, |data| data.len());
        let read = self
            .file
            .seek(SeekFrom::Start(end.saturating_sub(MAX_PRINTED)))
            .and_then(|_| self.file.read_to_end(&mut text))
            .and_then(|_| io::stderr().write_all(&text));
        if let Err(error) = read {
            tracing::debug!("what was logged meanwhile cannot be printed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    use nix::pty::openpty;
    use nix::sys::termios::tcgetattr;

    /// Tells the test that it is the program on the terminal.
    const INSIDE: &str = "OUTLIVE_TEST_INSIDE_TERMINAL";
    const NAME: &str = "top::terminal::tests::a_panic_leaves_the_terminal_as_it_was";

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        if std::env::var_os(INSIDE).is_some() {
            let _screen = Screen::enter().expect("a terminal");
            eprintln!("logged meanwhile");
            panic!("on purpose");
        }
        let pair = openpty(None, None).expect("a pseudoterminal");
        let before = tcgetattr(&pair.slave).expect("its settings");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", NAME, "--nocapture"]).env(INSIDE, "1");
        let stream = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let mut child = command.spawn().expect("it starts");
        drop(command);
        let mut master = File::from(pair.master.try_clone().expect("a descriptor"));
        let reader = std::thread::spawn(move || {
            let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
            // A terminal whose other end is closed gives an error.
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                text.extend_from_slice(&buffer[..count]);
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        assert!(!child.wait().expect("it ends").success());
        assert_eq!(tcgetattr(&pair.slave).expect("its settings"), before);
        drop(pair.slave);
        let text = reader.join().expect("read");
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part:?}: {text:?}"));
        let entered = place("\u{1b}[?1049h");
        let left = place("\u{1b}[?1049l");
        assert!(entered < left && left < place("\u{1b}[?25h"), "{text:?}");
        assert!(left < place("logged meanwhile"), "{text:?}");
        assert!(place("logged meanwhile") < place("on purpose"), "{text:?}");
    }
}
