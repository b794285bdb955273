//! The heap of a Go process as a graph: which slots there are, and what reaches what.
//!
//! | module | what it is |
//! |---|---|
//! | [`spans`] | runs of pages cut into slots of one size, and the slot that an address lies in |
//! | [`bits`] | a bit for each slot |
//! | [`walk`] | what is reached from words that hold addresses |
//! | [`owners`] | from where each slot was reached |
//! | [`globals`] | words of variables that hold addresses |
//!
//! In: the memory of a running process. It changes while it is read: a walk sees each page at another moment. Every word of a slot that may
//! hold an address counts as one, whatever its type; slots that the collector does not scan are not read at all. Memory is bounded by two
//! bits for each slot (and four bytes where it is told who has it) and four bytes for each page of 8 KiB; time by the size of the heap, since each slot is looked at once.

pub mod bits;
pub mod globals;
pub mod owners;
pub mod spans;
pub mod walk;

/// Bytes of a word that holds an address.
const WORD_BYTES: u64 = 8;
