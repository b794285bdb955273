//! Where the fields of the runtime's structures are, by version of Go.
//!
//! In: a [`GoVersion`]. Out: a [`Layout`]. The table `layouts.json` is generated from the runtime's own sources; it is data, not trusted:
//! what it says is checked against each process.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::GoError;
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
        let table = table()?;
        let row = table.get(&version.family());
        let Some((row, fields)) = row.and_then(|row| Some((row, row.get(ARCHITECTURE)?))) else {
            return Err(unknown(version, &table));
        };
        Ok(Self {
            moduledata: part(fields)?,
            bucket: part(fields)?,
            heap: part(fields)?,
            special: part(fields)?,
            scheduler: part(fields)?,
            types: part(fields)?,
            goroutine: part(fields)?,
            waiter: part(fields)?,
            wait_reasons: part(row.get("waitreasons").unwrap_or(&Value::Null))?,
        })
    }
}

type Table = BTreeMap<String, BTreeMap<String, Value>>;

fn table() -> Result<Table, GoError> {
    serde_json::from_str(TABLE)
        .map_err(|error| GoError::refused(format!("the table of layouts is broken: {error}")))
}

fn part<T: for<'de> Deserialize<'de>>(fields: &Value) -> Result<T, GoError> {
    T::deserialize(fields)
        .map_err(|error| GoError::refused(format!("the table of layouts is broken: {error}")))
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
    fn a_version_that_is_not_in_the_table_is_refused_by_name() {
        for text in ["go1.18.10", "devel go1.99-abc"] {
            let error = layout(text).expect_err("unknown").to_string();
            assert!(error.contains(text) && error.contains("1.19 to 1.27"), "{error}");
        }
    }
}
