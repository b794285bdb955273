//! `outlive top`: a live view of call sites in the terminal.
//!
//! In: reports, and what a person types. Out: a screen, and reports written to files. What there is to show is decided without a terminal
//! (`state`), drawn without one (`view`), and put on a real one by a thread of its own (`show`), so that keys work while tracing is
//! busy.

mod export;
mod flame;
mod show;
mod source;
mod state;
pub mod terminal;
mod trail;
mod view;

pub use show::{News, show};
pub use view::Theme;
