//! Fuzz targets: each feeds one parser of `outlive::hostile` with what libFuzzer makes of its seeds.
//!
//! In: bytes from libFuzzer; for the seeds, the folder that `OUTLIVE_FUZZ_SEEDS` names and the programs in the list
//! `OUTLIVE_FUZZ_PROGRAMS`. Out: a crash, a timeout or too much memory when a parser does not hold.

use std::env;
use std::fs;
use std::path::Path;

#[doc(hidden)]
pub use libfuzzer_sys;
#[doc(hidden)]
pub use outlive;

/// Where seeds are written to.
const SEEDS: &str = "OUTLIVE_FUZZ_SEEDS";
/// Files of programs to make seeds of.
const PROGRAMS: &str = "OUTLIVE_FUZZ_PROGRAMS";

/// Makes the program that fuzzes the parser of this name.
#[macro_export]
macro_rules! parser {
    ($name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::write_seeds(stringify!($name)),
            |bytes: &[u8]| $crate::outlive::hostile::$name(bytes)
        );
    };
}

/// Writes the seeds of a parser before libFuzzer reads its corpus.
pub fn write_seeds(parser: &str) {
    let Some(folder) = env::var_os(SEEDS) else { return };
    let programs = env::var_os(PROGRAMS).unwrap_or_default();
    let read = |path| fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let programs: Vec<_> = env::split_paths(&programs).map(read).collect();
    for (number, seed) in outlive::hostile::seeds(parser, &programs).iter().enumerate() {
        let path = Path::new(&folder).join(format!("seed-{number}"));
        fs::write(&path, seed).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    }
}
