//! A Go program's own heap profile: records by call stack.
//!
//! In: what `/debug/pprof/heap` serves, a gzipped protocol buffer (`profile.proto` of pprof). Out: a [`HeapProfile`].

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::ops::AddAssign;

use flate2::read::GzDecoder;
use prost::Message;

/// A line of a function that calls another, or allocates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodeLine {
    /// The function, as the runtime names it in tracebacks.
    pub function: String,
    /// The file, as the compiler was given it.
    pub file: String,
    /// The line in it.
    pub line: u64,
}

impl CodeLine {
    fn is_of_runtime(&self) -> bool {
        is_of_runtime(&self.function, '.')
    }

    /// Its files also have functions that other packages name as theirs, such as `reflect.makemap`.
    fn is_in_runtimes_file(&self) -> bool {
        let file = self.file.rsplit_once("/src/").map_or(self.file.as_str(), |(_, file)| file);
        is_of_runtime(file, '/')
    }
}

/// Whether something is of the package `runtime`, or of one inside of it; `separator` stands behind the package.
fn is_of_runtime(text: &str, separator: char) -> bool {
    let of_package = text.strip_prefix("runtime").and_then(|rest| rest.strip_prefix(separator));
    of_package.is_some_and(|name| !name.contains('/')) || text.starts_with("internal/runtime/")
}

/// Objects and their bytes, scaled from samples as the profile does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Objects allocated.
    pub allocated_count: u64,
    /// Their bytes.
    pub allocated_bytes: u64,
    /// Objects not freed.
    pub live_count: u64,
    /// Their bytes.
    pub live_bytes: u64,
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.allocated_count += other.allocated_count;
        self.allocated_bytes += other.allocated_bytes;
        self.live_count += other.live_count;
        self.live_bytes += other.live_bytes;
    }
}

/// A heap profile: what each call stack, leaf first, allocated and holds. Stacks with nothing are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeapProfile {
    /// By stack.
    pub records: BTreeMap<Vec<CodeLine>, Amounts>,
}

impl HeapProfile {
    /// Reads what the endpoint serves.
    pub fn parse(gzipped: &[u8]) -> Self {
        Self::parse_where(gzipped, |_| true)
    }

    /// The same of objects of one size. A stack may have others: an allocation makes the runtime allocate, now and
    /// then, and the profile does not show the runtime's own frames.
    pub fn parse_size(gzipped: &[u8], size: u64) -> Self {
        Self::parse_where(gzipped, |of| of == size)
    }

    fn parse_where(gzipped: &[u8], is_counted: impl Fn(u64) -> bool) -> Self {
        let mut bytes = Vec::new();
        GzDecoder::new(gzipped).read_to_end(&mut bytes).expect("the profile is gzipped");
        let proto = Proto::decode(bytes.as_slice()).expect("the profile is one of pprof");
        let types: Vec<&str> = proto.sample_type.iter().map(|one| proto.text(one.r#type)).collect();
        assert_eq!(types, ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
        let lines = proto.lines();
        let mut profile = Self::default();
        for sample in proto.sample.iter().filter(|sample| is_counted(proto.object_size(sample))) {
            let values = sample.value.iter().map(|&value| u64::try_from(value).unwrap());
            let values: [u64; 4] = values.collect::<Vec<_>>().try_into().unwrap();
            let [allocated_count, allocated_bytes, live_count, live_bytes] = values;
            let amounts = Amounts { allocated_count, allocated_bytes, live_count, live_bytes };
            let stack = sample.location_id.iter().flat_map(|id| lines[id].iter().cloned());
            profile.add(&stack.collect::<Vec<_>>(), amounts);
        }
        profile
    }

    /// Adds to a stack. The runtime's frames at the leaf are left out, and the first frame of a goroutine: the program
    /// itself leaves them out, though not all of them where functions are inlined.
    pub fn add(&mut self, stack: &[CodeLine], amounts: Amounts) {
        let hidden = stack.iter().position(|line| !line.is_of_runtime()).unwrap_or(0);
        let stack = &stack[hidden..];
        // What it says of those that another package names depends on what is inlined into them.
        let hidden = stack.iter().position(|line| !line.is_in_runtimes_file()).unwrap_or(0);
        let shown = stack[hidden..].iter().filter(|line| line.function != "runtime.goexit");
        if amounts != Amounts::default() {
            let stack = shown.cloned().map(without_one_of_many_files).collect();
            *self.records.entry(stack).or_default() += amounts;
        }
    }

    /// The sum of all stacks.
    pub fn total(&self) -> Amounts {
        self.sum(|_| true)
    }

    /// The sum of the stacks for which this holds.
    pub fn sum(&self, is_counted: impl Fn(&[CodeLine]) -> bool) -> Amounts {
        let mut sum = Amounts::default();
        self.records
            .iter()
            .filter(|(stack, _)| is_counted(stack))
            .for_each(|(_, amounts)| sum += *amounts);
        sum
    }

    /// The same without the stacks for which this holds.
    #[must_use]
    pub fn without(mut self, is_left_out: impl Fn(&[CodeLine]) -> bool) -> Self {
        self.records.retain(|stack, _| !is_left_out(stack));
        self
    }

    /// Where another profile differs: a line each.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let stacks = self
            .records
            .keys()
            .chain(other.records.keys().filter(|stack| !self.records.contains_key(*stack)));
        stacks
            .filter(|stack| self.records.get(*stack) != other.records.get(*stack))
            .map(|stack| {
                let (here, there) = (self.records.get(stack), other.records.get(stack));
                format!("{here:?} here, {there:?} there: {}", shown(stack))
            })
            .collect()
    }
}

/// The initialiser of a package is of all of its files, and a profile has one file for each function.
fn without_one_of_many_files(mut line: CodeLine) -> CodeLine {
    if line.function.rsplit('.').next() == Some("init") {
        line.file.clear();
    }
    line
}

/// A stack on one line.
fn shown(stack: &[CodeLine]) -> String {
    let lines = stack.iter().map(|l| format!("{} {}:{}", l.function, l.file, l.line));
    lines.collect::<Vec<_>>().join(" < ")
}

/// Profiles name the types that a generic function is compiled for, since Go 1.21; tracebacks never do.
pub(super) fn without_type_arguments(function: &str) -> String {
    match (function.split_once('['), function.rsplit_once(']')) {
        (Some((before, _)), Some((_, after))) => format!("{before}[...]{after}"),
        _ => function.to_owned(),
    }
}

/// What is needed of pprof's `Profile`.
#[derive(Message)]
struct Proto {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
}

#[derive(Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
}

#[derive(Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "3")]
    num: i64,
}

#[derive(Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    /// Inlined functions first, what they are inlined into last.
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

impl Proto {
    fn text(&self, index: i64) -> &str {
        &self.string_table[usize::try_from(index).unwrap()]
    }

    /// Nothing is told of stacks without objects.
    fn object_size(&self, sample: &Sample) -> u64 {
        let size = sample.label.iter().find(|label| self.text(label.key) == "bytes");
        size.map_or(0, |size| u64::try_from(size.num).unwrap())
    }

    /// The lines of code of each location.
    fn lines(&self) -> HashMap<u64, Vec<CodeLine>> {
        let functions: HashMap<u64, &Function> = self.function.iter().map(|f| (f.id, f)).collect();
        let lines = |location: &Location| {
            let lines = location.line.iter();
            lines.map(|line| self.code_line(line, functions[&line.function_id])).collect()
        };
        self.location.iter().map(|location| (location.id, lines(location))).collect()
    }

    fn code_line(&self, line: &Line, function: &Function) -> CodeLine {
        CodeLine {
            function: without_type_arguments(self.text(function.name)),
            file: self.text(function.filename).to_owned(),
            line: u64::try_from(line.line).unwrap(),
        }
    }
}
