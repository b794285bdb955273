//! Unwind tables: from a file's `.eh_frame` to the rows that kernel programs search.
//!
//! In: a module's file. Out: a [`pack::PackedTable`], kept on disk by build id. Hostile input: numbers are checked, work is
//! bounded, nothing panics.

pub mod cache;
mod common_entries;
pub mod compile;
mod expression;
pub mod functions;
pub mod pack;
pub mod walk;
