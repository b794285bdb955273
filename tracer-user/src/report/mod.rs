//! What a person or a program reads.
//!
//! In: the ledger at an instant, its stacks named, and what is known of target, loss and cost. Out: a [`model::Report`], and it as text
//! or JSON; of its call stacks a [`profile::Profile`], and it in the formats of other tools ([`export`]). The same input gives the same bytes.

mod arrange;
mod build;
pub(crate) mod columns;
pub mod diff;
pub mod export;
pub(crate) mod footer;
mod holdings;
pub mod import;
pub mod json;
pub mod list;
mod mappings;
pub mod model;
pub mod profile;
mod proto;
pub mod site_key;
pub(crate) mod source;
pub(crate) mod stacks;
pub(crate) mod table;
pub mod text;
pub mod timeline;
pub mod words;

#[cfg(test)]
mod width_test;

#[cfg(test)]
pub(crate) use build::fixture;
pub use build::{
    Options, ReportInput, Sampling, Sort, Stack, build, describe_target, shown_stacks,
    stack_end_word,
};
