//! Events out of the kernel, typed and checked; and what the kernel could not deliver.
//!
//! In: the ring buffer and the counters. Out: [`event::Event`]s in the order they happened, [`counts::Counts`].

pub mod counts;
pub mod event;
pub mod mapping;
pub mod ring;
