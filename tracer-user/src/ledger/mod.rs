//! Outstanding allocations of one process, by call site. Pure: events in, [`snapshot::Snapshot`] out.

mod ages;
mod blocks;
pub mod book;
pub mod estimate;
mod gather;
pub mod golang;
pub mod mappings;
#[cfg(test)]
mod model_test;
pub mod snapshot;

pub use book::Ledger;
pub use golang::GoBook;
pub use mappings::MappingBook;
