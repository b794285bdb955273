//! Unwind tables: from a file's `.eh_frame` to the rows that kernel programs search.
//!
//! In: a module's file. Out: a [`pack::PackedTable`], and a dictionary of rules shared by all files. Pure, and hostile input:
//! numbers are checked, work is bounded, nothing panics.

pub mod compile;
pub mod pack;
