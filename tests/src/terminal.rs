//! A program on a terminal of its own: what it shows, keys for it, and the terminal that it leaves behind.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, pipe2};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use vt100::Parser;

use crate::patience::{PATIENCE, await_condition};

/// Rows and columns at first.
const SIZE: (u16, u16) = (24, 80);

/// A program that runs on a pseudoterminal as its controlling one; killed when dropped.
pub struct Terminal {
    child: Child,
    /// Until it is closed.
    line: Option<Line>,
    /// The program's end.
    program_end: OwnedFd,
    screen: Arc<Mutex<Parser>>,
    heard: Arc<AtomicUsize>,
    before: Termios,
}

/// A person's end of it.
struct Line {
    keyboard: File,
    /// And what ends it when it is closed.
    reader: Option<(JoinHandle<()>, OwnedFd)>,
}

impl Terminal {
    /// Starts a command on it.
    pub fn start(command: &Command) -> Self {
        Self::of_rows(SIZE.0, command)
    }

    /// Starts a command on one with so many rows.
    pub fn of_rows(rows: u16, command: &Command) -> Self {
        let columns = SIZE.1;
        let (keyboard, program_end) = open_pair();
        let before = tcgetattr(&program_end).expect("its settings");
        resize(&keyboard, rows, columns);
        let screen = Arc::new(Mutex::new(Parser::new(rows, columns, 0)));
        let heard = Arc::default();
        let (closed, end_of_reading) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let master = keyboard.try_clone().expect("a descriptor");
        let reader = read_on(master, closed, Arc::clone(&screen), Arc::clone(&heard));
        let stream = || Stdio::from(program_end.try_clone().expect("a descriptor"));
        // It becomes the program: no process stands between.
        let mut on_terminal = Command::new("setsid");
        on_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args());
        on_terminal.env("TERM", "xterm-256color");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => on_terminal.env(name, value),
                None => on_terminal.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            on_terminal.current_dir(folder);
        }
        on_terminal.stdin(stream()).stdout(stream()).stderr(stream());
        let child = on_terminal.spawn().expect("setsid starts");
        drop(on_terminal);
        let line = Some(Line { keyboard, reader: Some((reader, end_of_reading)) });
        Self { child, line, program_end, screen, heard, before }
    }

    /// Types.
    pub fn press(&self, keys: &str) {
        self.keyboard().write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    fn keyboard(&self) -> &File {
        &self.line.as_ref().expect("the terminal is open").keyboard
    }

    /// The text on the screen, line by line.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// The lines that were too long for it.
    pub fn wrapped(&self) -> Vec<String> {
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let all: Vec<String> = screen.rows(0, columns).collect();
        (0..rows)
            .filter(|row| screen.row_wrapped(*row))
            .map(|row| all[usize::from(row)].clone())
            .collect()
    }

    /// Whether anything on it is in a colour, bold or dim.
    pub fn has_colour(&self) -> bool {
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let mut cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        cells.any(|(row, column)| {
            let is_coloured = |cell: &vt100::Cell| {
                cell.bold() || cell.dim() || cell.fgcolor() != vt100::Color::Default
            };
            screen.cell(row, column).is_some_and(is_coloured)
        })
    }

    /// Waits until the screen is as described; gives its text.
    pub fn await_screen(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let found =
            await_condition(PATIENCE, || Some(self.text()).filter(|text| is_it(text.as_str())));
        found.unwrap_or_else(|| panic!("the screen never shows {what}:\n{}", self.text()))
    }

    /// Waits for a text on the screen; gives all of it.
    pub fn await_text(&self, part: &str) -> String {
        self.await_screen(part, |text| text.contains(part))
    }

    /// Makes it larger or smaller; the kernel tells the program.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(rows, columns);
        resize(self.keyboard(), rows, columns);
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("the signal arrives");
    }

    /// Awaits the program's end and insists that the terminal is as it was: settings, screen, cursor.
    pub fn await_clean_end(&mut self) -> ExitStatus {
        let status = await_condition(PATIENCE, || self.child.try_wait().unwrap());
        let status = status.unwrap_or_else(|| panic!("it does not end:\n{}", self.text()));
        // What it wrote last may still be on its way.
        let is_clean = || {
            let parser = self.screen.lock().unwrap();
            let screen = parser.screen();
            (!screen.alternate_screen() && !screen.hide_cursor()).then_some(())
        };
        assert!(await_condition(PATIENCE, is_clean).is_some(), "not clean:\n{}", self.text());
        assert_eq!(tcgetattr(&self.program_end).unwrap(), self.before, "the terminal's settings");
        status
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that came from the program, and from the kernel, which shows what is typed while the program does not.
    pub fn heard(&self) -> usize {
        self.heard.load(Ordering::Relaxed)
    }

    /// Closes it, as when its window is closed or its connection breaks, and awaits the program's end.
    pub fn hang_up(&mut self) -> ExitStatus {
        self.stop_reading();
        self.line = None;
        self.await_end()
    }

    /// Takes nothing from the program any more: what it writes fills a buffer, and then it waits.
    pub fn stop_reading(&mut self) {
        let line = self.line.as_mut().expect("the terminal is open");
        if let Some((reader, end_of_reading)) = line.reader.take() {
            drop(end_of_reading);
            reader.join().expect("the terminal was read");
        }
    }

    /// Awaits the program's end, in whatever state the terminal is.
    pub fn await_end(&mut self) -> ExitStatus {
        let ended = await_condition(PATIENCE, || self.child.try_wait().unwrap());
        ended.unwrap_or_else(|| {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
            panic!("it goes on: {state:?}")
        })
    }

    /// Whether the program has the alternate screen.
    pub fn is_on_alternate_screen(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Both ends. No program that is started has the person's end: that would keep the terminal open.
fn open_pair() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).expect("a pseudoterminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be used");
    let program_end = ioctl_tiocgptpeer(&master, flags).expect("its other end");
    (File::from(master), program_end)
}

fn resize(keyboard: &File, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(keyboard, size).expect("the terminal changes size");
}

/// Puts what the program writes on the screen, until the other end of `closed` is closed.
fn read_on(
    mut master: File,
    closed: OwnedFd,
    screen: Arc<Mutex<Parser>>,
    heard: Arc<AtomicUsize>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 16_384];
        loop {
            let mut ends =
                [&master.as_fd(), &closed.as_fd()].map(|end| PollFd::new(*end, PollFlags::POLLIN));
            poll(&mut ends, PollTimeout::NONE).expect("both can be awaited");
            if ends[1].any() == Some(true) {
                return;
            }
            let Ok(count @ 1..) = master.read(&mut buffer) else { return };
            screen.lock().unwrap().process(&buffer[..count]);
            heard.fetch_add(count, Ordering::Relaxed);
        }
    })
}
