//! A program on a terminal of its own: what it shows, keys for it, and the terminal that it leaves behind.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use vt100::Parser;

use crate::patience::{PATIENCE, await_condition};

/// Rows and columns at first.
const SIZE: (u16, u16) = (24, 80);

/// A program that runs on a pseudoterminal as its controlling one; killed when dropped.
pub struct Terminal {
    child: Child,
    keyboard: File,
    /// The program's end.
    program_end: OwnedFd,
    screen: Arc<Mutex<Parser>>,
    before: Termios,
}

impl Terminal {
    /// Starts a command on it.
    pub fn start(command: &Command) -> Self {
        let (rows, columns) = SIZE;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a pseudoterminal");
        let before = tcgetattr(&pair.slave).expect("its settings");
        let screen = Arc::new(Mutex::new(Parser::new(rows, columns, 0)));
        let keyboard = File::from(pair.master);
        read_on(keyboard.try_clone().expect("a descriptor"), Arc::clone(&screen));
        let stream = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
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
        Self { child, keyboard, program_end: pair.slave, screen, before }
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// The text on the screen, line by line.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
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
        let size =
            rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keyboard, size).expect("the terminal changes size");
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

/// Puts what the program writes on the screen.
fn read_on(mut master: File, screen: Arc<Mutex<Parser>>) {
    thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            screen.lock().unwrap().process(&buffer[..count]);
        }
    });
}
