//! The words that the contract fixes, read back from a report that was kept.
//!
//! In: a word in JSON. Out: the same word out of a fixed set, or an error: another version wrote it.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer};

use super::model::{HEAP_WALK, HOLDING, SCHEMA};

/// One of a fixed set of words.
pub type Word = &'static str;

const WORDS: [Word; 34] = [
    SCHEMA,
    "native",
    "go",
    "full",
    "stripped",
    "none",
    "exact",
    "poisson",
    "usdt",
    "go-runtime",
    HEAP_WALK,
    "allocation",
    "mapping",
    HOLDING,
    "variable",
    "variables",
    "goroutines",
    "several-goroutines",
    "runtime",
    "anonymous",
    "file",
    "growing",
    "bounded",
    "plateau",
    "churn",
    "unknown",
    "root",
    "too-deep",
    "frame-pointer-lost",
    "unreadable",
    "not-kept",
    "pprof",
    "folded",
    "",
];

/// The word of the contract that is equal to this text.
pub fn find(text: &str) -> Option<Word> {
    WORDS.into_iter().find(|word| *word == text)
}

/// Reads one.
pub(super) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
    let text = String::deserialize(deserializer)?;
    find(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no word of {SCHEMA}")))
}

/// Reads one, or `null`.
pub(super) fn known_if_any<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Word>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let word = text.map(|text| {
        find(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no word of {SCHEMA}")))
    });
    word.transpose()
}
