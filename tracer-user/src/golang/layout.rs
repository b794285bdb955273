//! Where the fields of the runtime's structures are, by version of Go.
//!
//! In: a [`GoVersion`], and how the program's debug information describes them, if it does. Out: a [`Layout`]. The table `layouts.json` is
//! generated from the runtime's own sources. Debug information goes before it, structure by structure: it is of this very runtime, which
//! may be a changed or a newer one. Neither is trusted: what they say is checked against each process.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::GoError;
use super::debug_info::RuntimeDescription;
use super::version::GoVersion;

/// `{"go1.24": {"amd64": {"mspan.startAddr": 24, "sizeof.mspan": 160, "const.kindSpecialProfile": 3}, "waitreasons": [..]}}`
const TABLE: &str = include_str!("layouts.json");

/// The instruction set that outlive reads.
const ARCHITECTURE: &str = "amd64";

/// Offsets of fields, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The linker's description of a module.
    pub moduledata: ModuledataLayout,
    /// A call site of the heap profile.
    pub bucket: BucketLayout,
    /// The heap and its spans.
    pub heap: HeapLayout,
    /// Records beside objects.
    pub special: SpecialLayout,
    /// Goroutines and threads.
    pub scheduler: SchedulerLayout,
    /// Types.
    pub types: TypeLayout,
    /// Goroutines and their threads.
    pub goroutine: GoroutineLayout,
    /// Goroutines in the queues of channels.
    pub waiter: WaiterLayout,
    /// What goroutines wait for, in words, by number.
    pub wait_reasons: Vec<String>,
    /// Of a release after those in the table: all that is known of it is what the program itself describes.
    pub is_newer: bool,
}

/// `moduledata`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the runtime's own")]
pub struct ModuledataLayout {
    #[serde(rename = "moduledata.ftab")]
    pub ftab: u64,
    #[serde(rename = "moduledata.minpc")]
    pub minpc: u64,
    #[serde(rename = "moduledata.maxpc")]
    pub maxpc: u64,
    #[serde(rename = "moduledata.text")]
    pub text: u64,
    #[serde(rename = "moduledata.etext")]
    pub etext: u64,
    #[serde(rename = "moduledata.types")]
    pub types: u64,
    #[serde(rename = "moduledata.etypes")]
    pub etypes: u64,
    #[serde(rename = "moduledata.data")]
    pub data: u64,
    #[serde(rename = "moduledata.edata")]
    pub edata: u64,
    #[serde(rename = "moduledata.bss")]
    pub bss: u64,
    #[serde(rename = "moduledata.ebss")]
    pub ebss: u64,
    #[serde(rename = "moduledata.gcdatamask")]
    pub gcdatamask: u64,
    #[serde(rename = "moduledata.gcbssmask")]
    pub gcbssmask: u64,
    #[serde(rename = "moduledata.gofunc")]
    pub gofunc: u64,
    #[serde(rename = "moduledata.next")]
    pub next: u64,
    #[serde(rename = "sizeof.moduledata")]
    pub size: u64,
}

/// `bucket` and `memRecordCycle`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the runtime's own")]
pub struct BucketLayout {
    #[serde(rename = "bucket.allnext")]
    pub allnext: u64,
    #[serde(rename = "bucket.typ")]
    pub typ: u64,
    #[serde(rename = "bucket.size")]
    pub object_size: u64,
    #[serde(rename = "bucket.nstk")]
    pub nstk: u64,
    #[serde(rename = "sizeof.bucket")]
    pub size: u64,
    #[serde(rename = "memRecordCycle.allocs")]
    pub allocs: u64,
    #[serde(rename = "memRecordCycle.frees")]
    pub frees: u64,
    /// Since Go 1.27, bytes are not counted: they are the number times the size.
    #[serde(rename = "memRecordCycle.alloc_bytes")]
    pub alloc_bytes: Option<u64>,
    #[serde(rename = "memRecordCycle.free_bytes")]
    pub free_bytes: Option<u64>,
    #[serde(rename = "sizeof.memRecordCycle")]
    pub cycle_size: u64,
}

/// `mheap` and `mspan`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the runtime's own")]
pub struct HeapLayout {
    #[serde(rename = "mheap.allspans")]
    pub allspans: u64,
    #[serde(rename = "mheap.sweepgen")]
    pub sweepgen: u64,
    #[serde(rename = "mheap.arenas")]
    pub arenas: u64,
    #[serde(rename = "heapArena.spans")]
    pub arena_spans: u64,
    #[serde(rename = "mspan.gcmarkBits")]
    pub mark_bits: u64,
    #[serde(rename = "mheap.speciallock")]
    pub speciallock: u64,
    #[serde(rename = "mheap.specialprofilealloc")]
    pub specialprofilealloc: u64,
    #[serde(rename = "mspan.startAddr")]
    pub start: u64,
    #[serde(rename = "mspan.npages")]
    pub npages: u64,
    #[serde(rename = "mspan.elemsize")]
    pub elemsize: u64,
    #[serde(rename = "mspan.nelems")]
    pub nelems: u64,
    #[serde(rename = "mspan.freeindex")]
    pub freeindex: u64,
    #[serde(rename = "mspan.allocBits")]
    pub alloc_bits: u64,
    #[serde(rename = "mspan.spanclass")]
    pub spanclass: u64,
    /// Since Go 1.22.
    #[serde(rename = "mspan.largeType")]
    pub large_type: Option<u64>,
    #[serde(rename = "mspan.specials")]
    pub specials: u64,
    #[serde(rename = "mspan.state")]
    pub state: u64,
    #[serde(rename = "sizeof.mspan")]
    pub span_size: u64,
}

/// `g` and `m`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the runtime's own")]
pub struct SchedulerLayout {
    #[serde(rename = "g.m")]
    pub thread: u64,
    #[serde(rename = "m.p")]
    pub processor: u64,
    #[serde(rename = "m.g0")]
    pub system_goroutine: u64,
    /// Not in every release the same for all patches.
    #[serde(rename = "m.alllink")]
    pub next_thread: Option<u64>,
    #[serde(rename = "sizeof.m")]
    pub thread_size: u64,
    #[serde(rename = "p.id")]
    pub processor_id: u64,
    #[serde(rename = "p.wbBuf")]
    pub write_barriers: Option<u64>,
    #[serde(rename = "sizeof.wbBuf")]
    pub write_barriers_size: u64,
    #[serde(rename = "p.pcache")]
    pub free_pages: Option<u64>,
    #[serde(rename = "sizeof.pageCache")]
    pub free_pages_size: u64,
    #[serde(rename = "p.gcw")]
    pub collector_work: Option<u64>,
    #[serde(rename = "sizeof.gcWork")]
    pub collector_work_size: u64,
    #[serde(rename = "sizeof.p")]
    pub processor_size: u64,
}

/// `sudog`: a goroutine in the queue of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the runtime's own")]
pub struct WaiterLayout {
    #[serde(rename = "sudog.g")]
    pub goroutine: u64,
    #[serde(rename = "sudog.waitlink")]
    pub waitlink: u64,
    /// The last field. Since Go 1.26 it has two words, of which the last is the address.
    #[serde(rename = "sudog.c")]
    pub channel: u64,
    #[serde(rename = "sizeof.sudog")]
    pub size: u64,
}

/// `special` and `specialprofile`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the runtime's own")]
pub struct SpecialLayout {
    #[serde(rename = "special.next")]
    pub next: u64,
    #[serde(rename = "special.offset")]
    pub offset: u64,
    #[serde(rename = "special.kind")]
    pub kind: u64,
    #[serde(rename = "specialprofile.b")]
    pub bucket: u64,
    #[serde(rename = "sizeof.specialprofile")]
    pub size: u64,
    #[serde(rename = "const.kindSpecialProfile")]
    pub kind_profile: u8,
}

/// `abi.Type`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the runtime's own")]
pub struct TypeLayout {
    #[serde(rename = "type.tflag")]
    pub tflag: u64,
    #[serde(rename = "type.str")]
    pub name: u64,
}

/// `g`, `gobuf` and `m`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the names are the runtime's own")]
pub struct GoroutineLayout {
    #[serde(rename = "g.stack")]
    pub stack: u64,
    #[serde(rename = "stack.lo")]
    pub stack_low: u64,
    #[serde(rename = "stack.hi")]
    pub stack_high: u64,
    #[serde(rename = "g.m")]
    pub thread: u64,
    #[serde(rename = "m.curg")]
    pub thread_goroutine: u64,
    #[serde(rename = "g.sched")]
    pub sched: u64,
    #[serde(rename = "gobuf.pc")]
    pub saved_pc: u64,
    #[serde(rename = "gobuf.sp")]
    pub saved_sp: u64,
    #[serde(rename = "gobuf.bp")]
    pub saved_bp: u64,
    #[serde(rename = "g.syscallpc")]
    pub syscallpc: u64,
    #[serde(rename = "g.syscallsp")]
    pub syscallsp: u64,
    /// Since Go 1.23.
    #[serde(rename = "g.syscallbp")]
    pub syscallbp: Option<u64>,
    #[serde(rename = "g.atomicstatus")]
    pub status: u64,
    #[serde(rename = "g.goid")]
    pub goid: u64,
    #[serde(rename = "g.waitsince")]
    pub waitsince: u64,
    #[serde(rename = "g.waitreason")]
    pub waitreason: u64,
    /// Counts how often it has stopped running, of which the lowest byte is kept.
    #[serde(rename = "g.trackingSeq")]
    pub stops: u64,
    #[serde(rename = "g.waiting")]
    pub waiting: u64,
    #[serde(rename = "g.gopc")]
    pub gopc: u64,
    #[serde(rename = "g.startpc")]
    pub startpc: u64,
    /// Since Go 1.21.
    #[serde(rename = "g.parentGoid")]
    pub parent: Option<u64>,
    #[serde(rename = "sizeof.g")]
    pub size: u64,
}

impl Layout {
    /// Of a version; refused when the table does not have it.
    pub fn of(version: &GoVersion) -> Result<Self, GoError> {
        Self::described(version, None)
    }

    /// Of a version whose structures may be described by the program itself. Of one that is newer than the table all must be.
    pub fn described(
        version: &GoVersion,
        description: Option<&RuntimeDescription>,
    ) -> Result<Self, GoError> {
        let table = table()?;
        let row = table.get(&version.family());
        let known = row.and_then(|row| row.get(ARCHITECTURE)?.as_object());
        let is_newer = table.keys().all(|family| is_before(family, version));
        let mut fields = match (known, description) {
            (Some(fields), _) => fields.clone(),
            (None, Some(_)) if is_newer => Map::new(),
            _ => return Err(unknown(version, &table)),
        };
        if let Some(description) = description {
            describe(&mut fields, description);
        }
        let fields = Value::Object(fields);
        Ok(Self {
            moduledata: part(&fields)?,
            bucket: part(&fields)?,
            heap: part(&fields)?,
            special: part(&fields)?,
            scheduler: part(&fields)?,
            types: part(&fields)?,
            goroutine: part(&fields)?,
            waiter: part(&fields)?,
            // In debug information their words are not.
            wait_reasons: match row.and_then(|row| row.get("waitreasons")) {
                Some(words) => part(words)?,
                None => Vec::new(),
            },
            is_newer,
        })
    }
}

/// Puts what a program says of its structures in the place of what the table says of them: fields that it has not are gone.
fn describe(fields: &mut Map<String, Value>, description: &RuntimeDescription) {
    for structure in description.structures() {
        let (prefix, size) = (format!("{structure}."), format!("sizeof.{structure}"));
        fields.retain(|name, _| !name.starts_with(&prefix) && *name != size);
    }
    fields.extend(description.fields().map(|(name, value)| (name, value.into())));
}

type Table = BTreeMap<String, BTreeMap<String, Value>>;

fn table() -> Result<Table, GoError> {
    serde_json::from_str(TABLE)
        .map_err(|error| GoError::refused(format!("the table of layouts is broken: {error}")))
}

fn part<T: for<'de> Deserialize<'de>>(fields: &Value) -> Result<T, GoError> {
    T::deserialize(fields).map_err(|error| {
        GoError::refused(format!("its runtime's structures are not as outlive knows them: {error}"))
    })
}

/// Whether a release of the table is older than a version.
fn is_before(family: &str, version: &GoVersion) -> bool {
    GoVersion::parse(family).is_some_and(|known| known.minor < version.minor)
}

fn unknown(version: &GoVersion, table: &Table) -> GoError {
    let minors = table.keys().filter_map(|family| GoVersion::parse(family)).map(|v| v.minor);
    let (oldest, newest) = minors.fold((u32::MAX, 0), |(a, b), minor| (a.min(minor), b.max(minor)));
    GoError::UnknownVersion {
        found: version.text.clone(),
        oldest: format!("1.{oldest}"),
        newest: format!("1.{newest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::debug_info;

    fn layout(text: &str) -> Result<Layout, GoError> {
        Layout::of(&GoVersion::parse(text).expect("a version"))
    }

    #[test]
    fn every_version_from_19_to_27_is_whole() {
        for minor in 19..=27 {
            let layout = layout(&format!("go1.{minor}.1")).expect("in the table");
            assert_eq!(layout.bucket.alloc_bytes.is_none(), minor == 27);
            let heap = &layout.heap;
            assert!(heap.state.max(heap.specials).max(heap.elemsize) + 8 <= heap.span_size);
            assert!(layout.special.bucket < layout.special.size);
            assert!(layout.wait_reasons.iter().any(|reason| reason == "chan receive"));
            assert_eq!(layout.goroutine.syscallbp.is_some(), minor >= 23);
            assert!(layout.moduledata.gofunc < layout.moduledata.size);
            // What outlive takes for the channel's address: the last word.
            let channel_words = if minor >= 26 { 2 } else { 1 };
            assert_eq!(layout.waiter.channel + 8 * channel_words, layout.waiter.size);
            assert_eq!(heap.large_type.is_some(), minor >= 22);
            assert_eq!(heap.nelems - heap.freeindex, if minor >= 22 { 2 } else { 8 });
        }
    }

    #[test]
    fn what_a_program_describes_goes_before_the_table() {
        let version = GoVersion::parse("go1.24.1").expect("a version");
        let (abbreviations, entries) = debug_info::sample();
        let description = RuntimeDescription::parse(&abbreviations, &entries);
        let mut expected = Layout::of(&version).expect("in the table");
        expected.special.kind_profile = 3;
        let same = Layout::described(&version, description.as_ref()).expect("a layout");
        assert_eq!(same, expected, "of this release it says what the table says");

        let mut entries = entries;
        let high = entries.windows(4).position(|some| some == b"hi\0\x08").expect("a field");
        entries[high + 3] = 4;
        let description = RuntimeDescription::parse(&abbreviations, &entries);
        expected.goroutine.stack_high = 4;
        let changed = Layout::described(&version, description.as_ref()).expect("a layout");
        assert_eq!(changed, expected);

        // A field of another name is one that the runtime does not have.
        entries[high] = b'x';
        let description = RuntimeDescription::parse(&abbreviations, &entries);
        let error = Layout::described(&version, description.as_ref()).expect_err("no stack.hi");
        assert!(error.to_string().contains("stack.hi"), "{error}");
    }

    #[test]
    fn a_newer_version_has_to_be_described_whole() {
        let (abbreviations, entries) = debug_info::sample();
        let description = RuntimeDescription::parse(&abbreviations, &entries);
        let version = GoVersion::parse("go1.99.1").expect("a version");
        let error = Layout::described(&version, description.as_ref()).expect_err("not whole");
        assert!(error.to_string().contains("missing field"), "{error}");
        let older = GoVersion::parse("go1.18.1").expect("a version");
        let error = Layout::described(&older, description.as_ref()).expect_err("too old");
        assert!(matches!(error, GoError::UnknownVersion { .. }), "{error}");
    }

    #[test]
    fn a_version_that_is_not_in_the_table_is_refused_by_name() {
        for text in ["go1.18.10", "devel go1.99-abc"] {
            let error = layout(text).expect_err("unknown").to_string();
            assert!(error.contains(text) && error.contains("1.19 to 1.27"), "{error}");
        }
    }
}
