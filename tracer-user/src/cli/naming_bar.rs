//! A progress bar while names are looked up, on standard error, when that is a terminal and it takes long enough to be seen.
//!
//! In: how many addresses of how many are named. Out: cursor movements.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner is not worth a bar.
const UNSEEN: Duration = Duration::from_millis(200);
const TEMPLATE: &str = "outlive: {msg} [{bar:30}] {pos}/{len}";

/// The bar, shown or not.
#[derive(Default)]
pub(super) struct NamingBar {
    began: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl NamingBar {
    /// Shows how far it has come.
    pub(super) fn show(&mut self, done: usize, total: usize, fetching: bool) {
        let began = *self.began.get_or_insert_with(Instant::now);
        if began.elapsed() < UNSEEN {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            // Nothing is drawn where standard error is no terminal.
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            match ProgressStyle::with_template(TEMPLATE) {
                Ok(style) => bar.with_style(style.progress_chars("=> ")),
                Err(_) => bar,
            }
        });
        bar.set_message(if fetching { "fetching debug information" } else { "naming addresses" });
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        self.began = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
