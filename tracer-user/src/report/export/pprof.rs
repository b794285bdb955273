//! pprof's format: a gzipped protocol buffer that `go tool pprof`, Pyroscope, Parca and speedscope read.
//!
//! The rules of its readers that are not in the format's own description: numbers of mappings, functions and locations are 1, 2, 3, …;
//! every sample has as many values as there are sample types, and no sample is without a location; names are UTF-8. A mapping from 0 to
//! the largest address says that addresses are those of the file, as the linker gave them. There is no duration, as in Go's heap
//! profiles: with one, Parca takes what is in use for a difference.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use crate::report::profile::{FrameId, Profile, ProfileSite};
use crate::report::proto;
use crate::symbolise::Frame;

/// Types and units of a sample's values, in the order of Go's own heap profiles.
const SAMPLE_TYPES: [(&str, &str); 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];
const DEFAULT_SAMPLE_TYPE: &str = "inuse_space";
/// The function of a stack that was not kept.
pub(in crate::report) const NO_STACK: &str = "[stack not kept]";

/// The profile in pprof's format, compressed.
pub(super) fn document(profile: &Profile) -> Vec<u8> {
    let bytes = Encoder::new(profile).encode().encode_to_vec();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    drop(gzip.write_all(&bytes));
    gzip.finish().unwrap_or_default()
}

/// Distinct things, numbered in the order they come.
struct Numbered<K> {
    numbers: HashMap<K, u64>,
}

impl<K: Eq + Hash> Numbered<K> {
    /// The number from 1, and whether it is a new one.
    fn number(&mut self, key: K) -> (u64, bool) {
        let next = self.numbers.len() as u64 + 1;
        let number = *self.numbers.entry(key).or_insert(next);
        (number, number == next)
    }
}

impl<K> Default for Numbered<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new() }
    }
}

struct Encoder<'p> {
    profile: &'p Profile,
    out: proto::Profile,
    strings: HashMap<String, i64>,
    mappings: Numbered<(String, Option<String>)>,
    functions: Numbered<(String, Option<String>)>,
    locations: Numbered<Vec<FrameId>>,
}

impl<'p> Encoder<'p> {
    fn new(profile: &'p Profile) -> Self {
        Self {
            profile,
            out: proto::Profile { string_table: vec![Vec::new()], ..proto::Profile::default() },
            strings: HashMap::from([(String::new(), 0)]),
            mappings: Numbered::default(),
            functions: Numbered::default(),
            locations: Numbered::default(),
        }
    }

    fn encode(mut self) -> proto::Profile {
        for (name, unit) in SAMPLE_TYPES {
            let value_type = self.value_type(name, unit);
            self.out.sample_type.push(value_type);
        }
        self.out.default_sample_type = self.text(DEFAULT_SAMPLE_TYPE);
        self.out.period_type = Some(self.value_type("space", "bytes"));
        self.out.period = signed(self.profile.mean_bytes.max(1));
        self.out.time_nanos = signed(self.profile.end_ns);
        // The program of a process goes first: readers take it for the main binary.
        for process in &self.profile.processes {
            self.mapping(&process.exe, process.build_id.as_deref());
        }
        for notice in &self.profile.notices {
            let comment = self.text(notice);
            self.out.comment.push(comment);
        }
        for site in &self.profile.sites {
            let sample = self.sample(site);
            self.out.sample.push(sample);
        }
        for mapping in &mut self.out.mapping {
            mapping.has_filenames &= mapping.has_functions;
            mapping.has_line_numbers &= mapping.has_functions;
        }
        self.out
    }

    fn sample(&mut self, site: &ProfileSite) -> proto::Sample {
        let amounts = site.amounts;
        let values = [
            amounts.allocated_count,
            amounts.allocated_bytes,
            amounts.live_count,
            amounts.live_bytes,
        ];
        let mut location_id = Vec::new();
        let frames = &self.profile.frames;
        // An address with what is inlined there is one location.
        for place in site.stack.split_inclusive(|id| !frames.get(*id).inlined) {
            location_id.push(self.location(place));
        }
        if location_id.is_empty() {
            location_id.push(self.no_stack());
        }
        proto::Sample { location_id, value: values.map(signed).to_vec(), label: self.labels(site) }
    }

    fn labels(&mut self, site: &ProfileSite) -> Vec<proto::Label> {
        let mut labels = vec![self.label("kind", site.kind)];
        let process = self.profile.processes.get(site.process).filter(|process| process.pid != 0);
        if let Some(process) = process {
            labels.push(self.label("pid", &process.pid.to_string()));
        }
        if let Some(age) = site.oldest_age_s {
            let (key, num_unit) = (self.text("age"), self.text("seconds"));
            labels.push(proto::Label { key, num: age as i64, num_unit, ..Default::default() });
        }
        labels
    }

    fn label(&mut self, key: &str, value: &str) -> proto::Label {
        proto::Label { key: self.text(key), str: self.text(value), ..Default::default() }
    }

    fn location(&mut self, place: &[FrameId]) -> u64 {
        let (id, is_new) = self.locations.number(place.to_vec());
        if !is_new {
            return id;
        }
        let frames: Vec<&Frame> =
            place.iter().map(|frame| self.profile.frames.get(*frame)).collect();
        let outer = frames.last().copied();
        let address = outer.map_or(0, |frame| frame.offset);
        let mapping_id = outer.and_then(|frame| frame.module.as_deref()).map_or(0, |module| {
            self.mapping(module, outer.and_then(|frame| frame.build_id.as_deref()))
        });
        let is_named = frames.iter().all(|frame| frame.is_named());
        self.describe(mapping_id, &frames, is_named);
        // Without a line, readers look the address up themselves, by build id. Code in no file they cannot.
        let line = if is_named || mapping_id == 0 {
            frames.into_iter().map(|frame| self.line(frame)).collect()
        } else {
            Vec::new()
        };
        self.out.location.push(proto::Location { id, mapping_id, address, line });
        id
    }

    fn no_stack(&mut self) -> u64 {
        let (id, is_new) = self.locations.number(Vec::new());
        if is_new {
            let function_id = self.function(NO_STACK, None);
            let line = vec![proto::Line { function_id, line: 0 }];
            self.out.location.push(proto::Location { id, line, ..Default::default() });
        }
        id
    }

    fn mapping(&mut self, path: &str, build_id: Option<&str>) -> u64 {
        let (id, is_new) = self.mappings.number((path.to_owned(), build_id.map(str::to_owned)));
        if is_new {
            let mapping = proto::Mapping {
                id,
                memory_limit: u64::MAX,
                filename: self.text(path),
                build_id: self.text(build_id.unwrap_or_default()),
                has_functions: true,
                ..Default::default()
            };
            self.out.mapping.push(mapping);
        }
        id
    }

    /// Notes in the mapping what is known of the code in it.
    fn describe(&mut self, mapping_id: u64, frames: &[&Frame], is_named: bool) {
        let mapping = mapping_id.checked_sub(1).map(|index| index as usize);
        let Some(mapping) = mapping.and_then(|index| self.out.mapping.get_mut(index)) else {
            return;
        };
        mapping.has_functions &= is_named;
        mapping.has_filenames |= frames.iter().any(|frame| frame.file.is_some());
        mapping.has_line_numbers |= frames.iter().any(|frame| frame.line.is_some());
        mapping.has_inline_frames |= frames.len() > 1;
    }

    fn line(&mut self, frame: &Frame) -> proto::Line {
        proto::Line {
            function_id: self.function(&frame.function, frame.file.as_deref()),
            line: frame.line.map_or(0, i64::from),
        }
    }

    fn function(&mut self, name: &str, file: Option<&str>) -> u64 {
        let (id, is_new) = self.functions.number((name.to_owned(), file.map(str::to_owned)));
        if is_new {
            let name = self.text(name);
            let filename = self.text(file.unwrap_or_default());
            let system_name = name;
            self.out.function.push(proto::Function {
                id,
                name,
                system_name,
                filename,
                start_line: 0,
            });
        }
        id
    }

    fn value_type(&mut self, name: &str, unit: &str) -> proto::ValueType {
        proto::ValueType { r#type: self.text(name), unit: self.text(unit) }
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.out.string_table.len() as i64;
        self.out.string_table.push(text.as_bytes().to_vec());
        self.strings.insert(text.to_owned(), index);
        index
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;

    fn encoded(sample: Option<u64>) -> proto::Profile {
        Encoder::new(&Profile::of(&[fixture::report(sample, 10)])).encode()
    }

    fn text(profile: &proto::Profile, index: i64) -> String {
        String::from_utf8(profile.string_table[index as usize].clone()).expect("UTF-8")
    }

    #[test]
    fn a_stack_that_was_not_kept_is_a_place_of_its_own() {
        let profile = encoded(None);
        let sample = profile.sample.iter().find(|sample| sample.value[2] == 200_000);
        let location = sample.expect("the site without a stack").location_id[0] as usize - 1;
        let function = profile.location[location].line[0].function_id as usize - 1;
        assert_eq!(text(&profile, profile.function[function].name), NO_STACK);
        assert_eq!(profile.location[location].mapping_id, 0);
    }

    #[test]
    fn what_is_inlined_shares_the_location_of_its_caller() {
        let profile = encoded(None);
        let counts: Vec<_> = profile.location.iter().map(|location| location.line.len()).collect();
        assert_eq!(counts.iter().filter(|count| **count == 2).count(), 1, "{counts:?}");
        assert!(profile.mapping.iter().any(|mapping| mapping.has_inline_frames));
        assert_eq!(text(&profile, profile.mapping[0].build_id), "0123abcd", "the program is first");
    }

    #[test]
    fn the_period_is_the_mean_between_samples_or_one() {
        assert_eq!(encoded(Some(512 << 10)).period, 512 << 10);
        assert_eq!(encoded(None).period, 1);
    }

    #[test]
    fn the_same_report_gives_the_same_bytes() {
        let profile = || Profile::of(&[fixture::report(None, 10)]);
        assert_eq!(document(&profile()), document(&profile()));
    }
}
