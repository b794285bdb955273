//! Recordings: reports of hours to weeks in one file.
//!
//! In: [`crate::report::model::Report`]s, one after the other. Out: a SQLite file, and from it the report of any moment that it holds.
//!
//! Call stacks are kept once, numbers as differences to the snapshot before (`docs/recording.md`). What is older than a day is thinned
//! out. A snapshot is written whole or not at all.

mod codec;
mod columns;
mod dictionary;
mod error;
mod history;
mod lock;
mod read;
mod schema;
mod segment;
mod store;
#[cfg(test)]
mod store_test;
mod stored;
mod thinning;

pub use error::RecordingError;
pub use read::{Moment, Recording, SeriesInfo};
pub use store::{Recorded, Store, Traced};
