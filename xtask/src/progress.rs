//! Progress on standard error: a spinner on a terminal, plain lines elsewhere.
//!
//! In: what is being done. Out: something to look at; standard output is never touched.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::ProgressBar;

/// A step that takes a while; it is shown until this is dropped.
pub(crate) struct Step {
    bar: Option<ProgressBar>,
}

/// Shows that a step began.
pub(crate) fn step(what: &str) -> Step {
    if !stderr().is_terminal() {
        say(what);
        return Step { bar: None };
    }
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    Step { bar: Some(bar) }
}

/// Says something that takes no time, or whose program shows its own progress.
pub(crate) fn say(what: &str) {
    eprintln!("xtask: {what}");
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
