//! Heap profiles in pprof's format: of Go services, of outlive itself, of other tools that count memory.

use std::collections::HashMap;

use prost::Message as _;

use super::{ImportError, MAX_DEPTH, MAX_FRAMES, described};
use crate::ledger::estimate::{Moments, weight};
use crate::report::export::NO_STACK;
use crate::report::profile::{Amounts, FrameId, Profile, ProfileSite};
use crate::report::proto;
use crate::symbolise::{Frame, nameless};

/// What the values are called: Go's words first, then those of other heap profilers.
const ALLOCATED_COUNT: [&str; 1] = ["alloc_objects"];
const ALLOCATED_BYTES: [&str; 2] = ["alloc_space", "alloc_bytes"];
const LIVE_COUNT: [&str; 2] = ["inuse_objects", "objects"];
const LIVE_BYTES: [&str; 3] = ["inuse_space", "inuse_bytes", "space"];
/// Units that are one byte.
const BYTES: [&str; 3] = ["bytes", "byte", ""];

pub(super) fn read(bytes: &[u8], name: &str) -> Result<Profile, ImportError> {
    let source = proto::Profile::decode(bytes).map_err(|error| {
        ImportError::Damaged(format!("neither text nor pprof's format ({error})"))
    })?;
    Reader::new(&source, name)?.read()
}

/// Where the values of a sample are.
#[derive(Clone, Copy, Default)]
struct Columns {
    allocated_count: Option<usize>,
    allocated_bytes: Option<usize>,
    live_count: Option<usize>,
    live_bytes: Option<usize>,
}

struct Reader<'s> {
    source: &'s proto::Profile,
    name: &'s str,
    columns: Columns,
    profile: Profile,
    /// The frames of each location.
    locations: HashMap<u64, Vec<FrameId>>,
    processes: HashMap<u32, usize>,
    sites: HashMap<(usize, &'static str, Vec<FrameId>), usize>,
    moments: Vec<Moments>,
    frames: usize,
    cut: u64,
}

impl<'s> Reader<'s> {
    fn new(source: &'s proto::Profile, name: &'s str) -> Result<Self, ImportError> {
        let mut reader = Self {
            source,
            name,
            columns: Columns::default(),
            profile: Profile::default(),
            locations: HashMap::new(),
            processes: HashMap::new(),
            sites: HashMap::new(),
            moments: Vec::new(),
            frames: 0,
            cut: 0,
        };
        reader.columns = reader.columns()?;
        Ok(reader)
    }

    fn read(mut self) -> Result<Profile, ImportError> {
        let profile = &mut self.profile;
        profile.end_ns = u64::try_from(self.source.time_nanos).unwrap_or(0);
        for comment in &self.source.comment {
            let comment = text(self.source, *comment)?;
            self.profile.notices.push(comment);
        }
        self.sampling()?;
        self.locations()?;
        for sample in &self.source.sample {
            self.sample(sample)?;
        }
        for (site, moments) in self.profile.sites.iter_mut().zip(&self.moments) {
            let (low, high) = moments.estimate().ci95;
            let live = site.amounts.live_bytes;
            site.live_bytes_ci95 = [(low.floor() as u64).min(live), (high.ceil() as u64).max(live)];
        }
        if self.profile.processes.is_empty() {
            self.process(0)?;
        }
        self.notices();
        Ok(self.profile)
    }

    fn notices(&mut self) {
        let mut add = |is_so: bool, text: &str| {
            if is_so {
                self.profile.notices.push(text.to_owned());
            }
        };
        add(self.columns.live_bytes.is_none(), "it tells of allocations only, not of what is live");
        add(self.columns.live_count.is_none(), "it does not tell how many blocks are live");
        add(self.columns.allocated_bytes.is_none(), "it does not tell how much was allocated");
        if self.cut > 0 {
            let notice = format!("{} stacks have more than {MAX_DEPTH} frames: cut", self.cut);
            self.profile.notices.push(notice);
        }
    }

    /// Finds the values, by their names and units.
    fn columns(&self) -> Result<Columns, ImportError> {
        let mut types = Vec::new();
        for one in &self.source.sample_type {
            types.push((text(self.source, one.r#type)?, text(self.source, one.unit)?));
        }
        let find = |names: &[&str], is_bytes: bool| {
            let mut names = names.iter();
            names.find_map(|name| {
                types.iter().position(|(found, unit)| {
                    found == name && (!is_bytes || BYTES.contains(&unit.as_str()))
                })
            })
        };
        let columns = Columns {
            allocated_count: find(&ALLOCATED_COUNT, false),
            allocated_bytes: find(&ALLOCATED_BYTES, true),
            live_count: find(&LIVE_COUNT, false),
            live_bytes: find(&LIVE_BYTES, true),
        };
        if columns.live_bytes.or(columns.allocated_bytes).is_some() {
            return Ok(columns);
        }
        if types.is_empty() {
            return Err(ImportError::Damaged("it has no types of samples".to_owned()));
        }
        let types: Vec<_> = types.iter().map(|(name, unit)| format!("{name}/{unit}")).collect();
        Err(ImportError::NotOfMemory(format!("they are of {}", types.join(", "))))
    }

    fn sampling(&mut self) -> Result<(), ImportError> {
        let by_bytes = match self.source.period_type {
            Some(period) => text(self.source, period.r#type)? == "space",
            None => false,
        };
        (self.profile.mode, self.profile.mean_bytes) = match u64::try_from(self.source.period) {
            Ok(1) if by_bytes => ("exact", 0),
            Ok(mean @ 2..) if by_bytes => ("pprof", mean),
            _ => ("unknown", 0),
        };
        Ok(())
    }

    fn locations(&mut self) -> Result<(), ImportError> {
        let source = self.source;
        let functions: HashMap<u64, &proto::Function> =
            source.function.iter().map(|function| (function.id, function)).collect();
        let mappings: HashMap<u64, &proto::Mapping> =
            source.mapping.iter().map(|mapping| (mapping.id, mapping)).collect();
        for location in &source.location {
            let place = place(source, location, mappings.get(&location.mapping_id).copied())?;
            let mut ids = Vec::new();
            let lines = location.line.len();
            for (number, line) in (1..).zip(&location.line).take(MAX_DEPTH) {
                let function = functions.get(&line.function_id).ok_or_else(damaged)?;
                let name = text(source, function.name)?;
                // That a stack was not kept is no frame.
                if name == NO_STACK {
                    continue;
                }
                let file = text(source, function.filename)?;
                ids.push(self.profile.frames.intern(&Frame {
                    function: name,
                    file: Some(file).filter(|file| !file.is_empty()),
                    line: u32::try_from(line.line).ok().filter(|line| *line > 0),
                    inlined: number < lines,
                    ..place.clone()
                }));
            }
            if lines == 0 {
                ids.push(self.profile.frames.intern(&place));
            }
            self.locations.insert(location.id, ids);
        }
        Ok(())
    }

    fn sample(&mut self, sample: &proto::Sample) -> Result<(), ImportError> {
        let amounts = self.amounts(sample)?;
        let mut stack = Vec::new();
        for id in &sample.location_id {
            stack.extend(self.locations.get(id).ok_or_else(damaged)?);
            if stack.len() > MAX_DEPTH {
                stack.truncate(MAX_DEPTH);
                self.cut += 1;
                break;
            }
        }
        self.frames += stack.len();
        if self.frames > MAX_FRAMES {
            return Err(ImportError::TooLarge);
        }
        let labels = Labels::of(self.source, sample)?;
        let process = self.process(labels.pid)?;
        let index = self.site(process, labels.kind, stack);
        let site = &mut self.profile.sites[index];
        site.amounts = site.amounts.plus(amounts);
        if let Some(age) = labels.age_s {
            site.oldest_age_s = Some(site.oldest_age_s.map_or(age, |oldest| oldest.max(age)));
        }
        self.moments[index] =
            self.moments[index].plus(&moments(amounts, labels.size_bytes, self.profile.mean_bytes));
        Ok(())
    }

    fn amounts(&self, sample: &proto::Sample) -> Result<Amounts, ImportError> {
        let value = |column: Option<usize>| match column {
            None => Ok(0),
            Some(column) => {
                let value = *sample.value.get(column).ok_or_else(damaged)?;
                u64::try_from(value).map_err(|_| ImportError::Difference)
            }
        };
        Ok(Amounts {
            allocated_count: value(self.columns.allocated_count)?,
            allocated_bytes: value(self.columns.allocated_bytes)?,
            live_count: value(self.columns.live_count)?,
            live_bytes: value(self.columns.live_bytes)?,
        })
    }

    /// The site of a stack; a new one the first time.
    fn site(&mut self, process: usize, kind: &'static str, stack: Vec<FrameId>) -> usize {
        let next = self.profile.sites.len();
        let index = *self.sites.entry((process, kind, stack.clone())).or_insert(next);
        if index == next {
            self.moments.push(Moments::default());
            self.profile.sites.push(ProfileSite {
                process,
                kind,
                stack,
                amounts: Amounts::default(),
                freed_bytes: None,
                live_bytes_ci95: [0; 2],
                oldest_age_s: None,
                history: Vec::new(),
            });
        }
        index
    }

    /// The process with this number; 0 when the file names none.
    fn process(&mut self, pid: u32) -> Result<usize, ImportError> {
        if let Some(index) = self.processes.get(&pid) {
            return Ok(*index);
        }
        let (mut exe, mut build_id) = (String::new(), String::new());
        if let Some(mapping) = self.source.mapping.first() {
            exe = text(self.source, mapping.filename)?;
            build_id = text(self.source, mapping.build_id)?;
        }
        let some = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        let (exe, build_id) = (some(&exe), some(&build_id));
        let index = self.profile.processes.len();
        self.profile.processes.push(described(exe.as_deref(), build_id.as_deref(), pid, self.name));
        self.processes.insert(pid, index);
        Ok(index)
    }
}

/// What is known of a sample besides.
struct Labels {
    pid: u32,
    kind: &'static str,
    age_s: Option<f64>,
    size_bytes: Option<u64>,
}

impl Labels {
    fn of(source: &proto::Profile, sample: &proto::Sample) -> Result<Self, ImportError> {
        let mut labels = Self { pid: 0, kind: "allocation", age_s: None, size_bytes: None };
        for label in &sample.label {
            match text(source, label.key)?.as_str() {
                "pid" => labels.pid = text(source, label.str)?.parse().unwrap_or(0),
                "kind" if text(source, label.str)? == "mapping" => labels.kind = "mapping",
                "age" => labels.age_s = Some(label.num.max(0) as f64),
                "bytes" => labels.size_bytes = u64::try_from(label.num).ok(),
                _ => {}
            }
        }
        Ok(labels)
    }
}

/// What the samples behind an amount say of its interval: all of one size, or of their mean size.
fn moments(amounts: Amounts, size_bytes: Option<u64>, mean_bytes: u64) -> Moments {
    let mut moments = Moments::default();
    if let Some(mean_size) = amounts.live_bytes.checked_div(amounts.live_count) {
        let size = size_bytes.unwrap_or(mean_size);
        let weight = weight(size, mean_bytes);
        let samples = (amounts.live_count as f64 / weight).round() as u64;
        moments.add_many(samples, size as f64, weight);
    }
    moments
}

/// The frame of a location without lines: a place in a file.
fn place(
    source: &proto::Profile,
    location: &proto::Location,
    mapping: Option<&proto::Mapping>,
) -> Result<Frame, ImportError> {
    let (mut module, mut build_id, mut offset) = (None, None, location.address);
    if let Some(mapping) = mapping {
        module = Some(text(source, mapping.filename)?).filter(|path| !path.is_empty());
        build_id = Some(text(source, mapping.build_id)?).filter(|id| !id.is_empty());
        // Where in the file the address is, wherever it was loaded.
        let from_start = location.address.checked_sub(mapping.memory_start);
        offset =
            from_start.map_or(offset, |from_start| from_start.wrapping_add(mapping.file_offset));
    }
    let function = match &module {
        Some(module) => nameless(module, offset),
        None => format!("{offset:#x}"),
    };
    Ok(Frame { function, file: None, line: None, module, build_id, offset, inlined: false })
}

fn text(source: &proto::Profile, index: i64) -> Result<String, ImportError> {
    let text = usize::try_from(index).ok().and_then(|index| source.string_table.get(index));
    match (text, index) {
        (Some(text), _) => Ok(String::from_utf8_lossy(text).into_owned()),
        (None, 0) => Ok(String::new()),
        (None, _) => Err(damaged()),
    }
}

fn damaged() -> ImportError {
    ImportError::Damaged("a part of it names another that is not there".to_owned())
}
