//! What readers of pprof's format refuse or get wrong, from their sources.
//!
//! In: a profile's file. Out: nothing, or the end of the test.

use super::proto::{Profile, SAMPLE_TYPES, unpacked};

/// Pyroscope's limits unless configured otherwise.
const PYROSCOPE_BYTES: usize = 4 << 20;
const PYROSCOPE_SAMPLES: usize = 16_000;
const PYROSCOPE_DEPTH: usize = 1000;
const PYROSCOPE_LABELS: usize = 100;

/// Insists on the rules of all readers; gives the profile.
pub fn assert_kept(gzipped: &[u8]) -> Profile {
    let profile = Profile::parse(gzipped);
    assert_is_heap_profile(&profile);
    assert_parca(&profile);
    assert_pyroscope(&profile, unpacked(gzipped).len());
    profile
}

/// What `go tool pprof` and others expect of a heap profile.
fn assert_is_heap_profile(profile: &Profile) {
    let types: Vec<_> = profile.sample_type.iter().map(|one| profile.text(one.r#type)).collect();
    assert_eq!(types, SAMPLE_TYPES);
    let units: Vec<_> = profile.sample_type.iter().map(|one| profile.text(one.unit)).collect();
    assert_eq!(units, ["count", "bytes", "count", "bytes"]);
    assert_eq!(profile.text(profile.default_sample_type), "inuse_space");
    let period = profile.period_type.expect("a period has a type");
    assert_eq!((profile.text(period.r#type), profile.text(period.unit)), ("space", "bytes"));
    assert!(profile.period > 0);
    assert!(profile.time_nanos > 0, "the instant is told");
    for mapping in &profile.mapping {
        let build_id = profile.text(mapping.build_id);
        let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        assert!(build_id.chars().all(is_hex), "{build_id:?} is not lower-case hexadecimal");
        assert!(!profile.text(mapping.filename).is_empty());
        let details = mapping.has_filenames || mapping.has_line_numbers;
        assert!(mapping.has_functions || !details, "lines without functions");
    }
    for location in &profile.location {
        let Some(index) = location.mapping_id.checked_sub(1) else { continue };
        let mapping = profile.mapping[usize::try_from(index).unwrap()];
        let has_lines = !location.line.is_empty();
        assert!(!mapping.has_functions || has_lines, "a location without the functions promised");
        assert!(
            mapping.has_inline_frames || location.line.len() < 2,
            "inlined frames not promised"
        );
    }
    assert!(profile.sample.iter().all(|sample| sample.value.iter().all(|value| *value >= 0)));
}

/// `ValidatePprofProfile` of Parca, and that it does not take what is in use for a difference.
fn assert_parca(profile: &Profile) {
    assert_eq!(profile.string_table[0], "", "the first text is empty");
    assert_eq!(profile.duration_nanos, 0, "with a duration, Parca takes it for a difference");
    let is_text = |index: i64| (0..profile.string_table.len() as i64).contains(&index);
    for (number, mapping) in (1..).zip(&profile.mapping) {
        assert_eq!(mapping.id, number);
        assert!(is_text(mapping.filename) && is_text(mapping.build_id));
    }
    for (number, function) in (1..).zip(&profile.function) {
        assert_eq!(function.id, number);
        let texts = [function.name, function.system_name, function.filename];
        assert!(texts.into_iter().all(is_text));
        assert!(!profile.text(function.name).is_empty(), "a function has a name");
    }
    for (number, location) in (1..).zip(&profile.location) {
        assert_eq!(location.id, number);
        assert!(location.mapping_id <= profile.mapping.len() as u64);
        let functions = 1..=profile.function.len() as u64;
        assert!(location.line.iter().all(|line| functions.contains(&line.function_id)));
    }
    for sample in &profile.sample {
        assert_eq!(sample.value.len(), profile.sample_type.len());
        assert!(!sample.location_id.is_empty(), "a sample without a stack is nowhere");
        let locations = 1..=profile.location.len() as u64;
        assert!(sample.location_id.iter().all(|id| locations.contains(id)));
        assert!(sample.label.iter().all(|label| label.key != 0 && is_text(label.key)));
        assert!(sample.label.iter().all(|label| is_text(label.str)));
    }
}

/// `ValidateProfile` of Pyroscope. That texts are UTF-8 was seen when they were read.
fn assert_pyroscope(profile: &Profile, unpacked_bytes: usize) {
    assert!(unpacked_bytes <= PYROSCOPE_BYTES, "{unpacked_bytes} bytes");
    assert!(profile.sample.len() <= PYROSCOPE_SAMPLES);
    for sample in &profile.sample {
        assert!(sample.location_id.len() <= PYROSCOPE_DEPTH);
        assert!(sample.label.len() <= PYROSCOPE_LABELS);
    }
    for one in &profile.sample_type {
        assert!(!profile.text(one.r#type).contains('-'), "a sample type with a hyphen");
    }
}
