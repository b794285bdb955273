//! The messages of pprof's `profile.proto`.

use std::io::Read;

use flate2::read::GzDecoder;
use prost::Message;

/// The four values of a heap profile's sample, in their order.
pub const SAMPLE_TYPES: [&str; 4] =
    ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"];

/// A profile.
#[derive(Clone, PartialEq, Message)]
pub struct Profile {
    /// Types of a sample's values.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// Stacks and their values.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Files with code.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Addresses in them.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// Texts, which all else names by their index.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Length of the window.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What lies between two samples.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// How much of it.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Texts for people.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The type that is shown first.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// A type and its unit.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ValueType {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Its unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack and its values.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Sample {
    /// Leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One for each type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What tells samples of one stack apart.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A key and a value.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Label {
    /// The key.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// A text.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// Or a number.
    #[prost(int64, tag = "3")]
    pub num: i64,
    /// With its unit.
    #[prost(int64, tag = "4")]
    pub num_unit: i64,
}

/// A file with code.
#[expect(clippy::struct_excessive_bools, reason = "the format has them")]
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Mapping {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its path.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Its build id.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Whether its locations have functions.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Whether they have files.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Whether they have lines.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Whether they have what is inlined.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// An address.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Location {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its file.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Where in the file.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Inlined functions first, what they are inlined into last.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// The line.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Function {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Its name as the linker has it.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Its file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}

impl Profile {
    /// Reads a compressed profile. Texts that are no UTF-8 end the test.
    pub fn parse(gzipped: &[u8]) -> Self {
        Self::decode(unpacked(gzipped).as_slice()).expect("the profile is one of pprof")
    }

    /// A text by its index.
    pub fn text(&self, index: i64) -> &str {
        &self.string_table[usize::try_from(index).unwrap()]
    }

    /// The sum of each value over all samples.
    pub fn totals(&self) -> [i64; 4] {
        self.sample.iter().fold([0; 4], |mut sums, sample| {
            sums.iter_mut().zip(&sample.value).for_each(|(sum, value)| *sum += value);
            sums
        })
    }

    /// The functions of a sample, leaf first, with what is inlined.
    pub fn functions(&self, sample: &Sample) -> Vec<&str> {
        let lines = sample.location_id.iter().flat_map(|id| &self.location(*id).line);
        lines.map(|line| self.text(self.function(line.function_id).name)).collect()
    }

    /// A location by its number.
    pub fn location(&self, id: u64) -> &Location {
        self.location.iter().find(|location| location.id == id).expect("a location of this number")
    }

    /// A function by its number.
    pub fn function(&self, id: u64) -> &Function {
        self.function.iter().find(|function| function.id == id).expect("a function of this number")
    }

    /// The text of a sample's label, or its number.
    pub fn label(&self, sample: &Sample, key: &str) -> Option<String> {
        let label = sample.label.iter().find(|label| self.text(label.key) == key)?;
        Some(if label.str == 0 { label.num.to_string() } else { self.text(label.str).to_owned() })
    }
}

/// What a gzipped file holds.
pub fn unpacked(gzipped: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(gzipped).read_to_end(&mut bytes).expect("the profile is gzipped");
    bytes
}
