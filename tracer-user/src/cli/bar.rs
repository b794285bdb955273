//! A progress bar for what may take long, on standard error, when that is a terminal and it takes long enough to be seen.
//!
//! In: what is done, and how much of it. Out: cursor movements.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner is not worth a bar.
const UNSEEN: Duration = Duration::from_millis(200);
const TEMPLATE: &str = "outlive: {msg} [{bar:30}] {pos}/{len}";

/// The bar, shown or not.
#[derive(Default)]
pub(super) struct Bar {
    began: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Shows how far it has come.
    pub(super) fn show(&mut self, what: &'static str, done: u64, total: u64) {
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
        bar.set_message(what);
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        self.began = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
