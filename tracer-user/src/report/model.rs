//! The JSON contract, `outlive/1`: what every format of a report is made from.
//!
//! Additions are allowed, removals and changes of meaning are not.

use serde::{Deserialize, Serialize};

use super::timeline::Timeline;
use super::words::{self, Word};

/// The name and version of the contract.
pub const SCHEMA: &str = "outlive/1";
/// The mode of numbers that a walk over the heap gives: what is held and by what, without call sites.
pub const HEAP_WALK: Word = "heap-walk";
/// The kind of a site of such a walk: objects of one type that one thing holds.
pub const HOLDING: Word = "holding";
/// The time of a file that does not tell any.
pub const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// A report on one process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    #[serde(deserialize_with = "words::known")]
    pub schema: Word,
    /// The file that the numbers are from, when nothing was traced for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The process.
    pub target: TargetSection,
    /// The time observed.
    pub window: Window,
    /// How allocations were chosen.
    pub sampling: Sampling,
    /// Sums over all sites.
    pub totals: Totals,
    /// What is missing from the numbers.
    pub loss: Loss,
    /// The process's memory as the kernel sees it.
    pub memory: Memory,
    /// What tracing cost.
    pub cost: Cost,
    /// Call sites, in the order asked for.
    pub sites: Vec<Site>,
    /// Sites of kind `allocation` that matched the filters but are beyond `--top`.
    pub sites_omitted: usize,
    /// Sums over what was mapped; `null` without `--mappings`.
    pub mappings: Option<Mappings>,
    /// What it held before, where that is known; for pages, not part of the contract.
    #[serde(skip)]
    pub timeline: Option<Timeline>,
}

impl Report {
    /// Whether it is of an instant: nothing was followed, so that ages and growth are not known.
    pub fn is_instant(&self) -> bool {
        self.window.start == self.window.end
    }

    /// Whether it is of a walk over the heap: what is held, without call sites.
    pub fn is_walk(&self) -> bool {
        self.sampling.mode == HEAP_WALK
    }

    /// Whether it is known of when it is: a file may not tell.
    pub fn has_time(&self) -> bool {
        self.window.end != NO_TIME
    }
}

/// The process a report is on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TargetSection {
    /// Process id; 0 when a file does not tell.
    pub pid: u32,
    /// Name of its main thread.
    pub comm: String,
    /// Path of its program, as it sees it.
    pub exe: String,
    /// The program's build id.
    pub build_id: Option<String>,
    /// `native` or `go`; `unknown` when a file does not tell.
    #[serde(deserialize_with = "words::known")]
    pub kind: Word,
    /// Version of the Go toolchain that built it.
    pub go_version: Option<String>,
    /// Container it runs in.
    pub container_id: Option<String>,
    /// Pod it runs in.
    pub pod: Option<String>,
    /// Allocators hooked, such as `glibc 2.36`.
    pub allocators: Vec<String>,
    /// `full`, `stripped` or `none`: whether the program has debug information, symbols, neither.
    #[serde(deserialize_with = "words::known")]
    pub symbols: Word,
}

/// The time a report covers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Window {
    /// Start, RFC 3339.
    pub start: String,
    /// End, RFC 3339.
    pub end: String,
    /// Length by the monotonic clock, seconds.
    pub seconds: f64,
    /// Seconds from its start in which frees were seen: what is live and freed is of that moment. `null`: all of it.
    pub frees_seen_s: Option<f64>,
}

/// How allocations were chosen.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Sampling {
    /// `exact`, `poisson`, `usdt`: by the process itself, `go-runtime`: by its Go runtime, or `heap-walk`: its heap was walked. Of a file: `exact`, `pprof`: it says how,
    /// or `unknown`.
    #[serde(deserialize_with = "words::known")]
    pub mode: Word,
    /// Mean bytes between samples at the end; 0 where every allocation is recorded, and where it is not known.
    pub mean_bytes: u64,
    /// The same at the start: it is raised when tracing costs more than is allowed.
    pub mean_bytes_at_start: u64,
}

impl Sampling {
    /// Whether numbers are estimates.
    pub fn is_estimate(&self) -> bool {
        !matches!(self.mode, "exact" | "unknown" | HEAP_WALK)
    }
}

/// Sums over all sites; estimates are rounded to whole numbers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names are the contract's and say it all")]
pub struct Totals {
    pub live_bytes: u64,
    pub live_bytes_ci95: [u64; 2],
    pub live_count: u64,
    pub allocated_bytes: u64,
    pub allocated_count: u64,
    pub freed_bytes: u64,
    pub freed_count: u64,
    pub inherited_bytes: Option<u64>,
    /// In a snapshot of a Go process: bytes in use now, as [`GoSite::now_bytes`]. In a walk: all bytes allocated, garbage that is not swept yet
    /// included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_count: Option<u64>,
}

/// Sums over what was mapped since tracing started. Exact, also when allocations are sampled.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Mappings {
    /// Bytes mapped now, by all sites of kind `mapping`.
    pub live_bytes: u64,
    /// Mappings of which something is left.
    pub live_count: u64,
    /// Bytes mapped.
    pub mapped_bytes: u64,
    /// Calls that mapped something.
    pub mapped_count: u64,
    /// Bytes unmapped, of those counted in `mapped_bytes`.
    pub unmapped_bytes: u64,
    /// Bytes mapped now by the allocator, to be given out as blocks: in no site.
    pub by_allocator_bytes: u64,
    /// Bytes mapped now of files that are only read: in no site.
    pub read_only_file_bytes: u64,
    /// Bytes unmapped that are in no book: from before tracing, or not mapped at all.
    pub unknown_unmapped_bytes: u64,
    /// Bytes of mappings that were not followed: there were too many.
    pub untracked_bytes: u64,
    /// Bytes dropped after a loss, because they were not mapped any more.
    pub resynchronised_bytes: u64,
    /// Sites of kind `mapping` that matched the filters but are beyond `--top`.
    pub sites_omitted: usize,
}

/// What is missing from the numbers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Loss {
    /// Events that did not reach the ledger.
    pub lost_events: u64,
    /// Allocations counted as allocated but never followed.
    pub untracked_allocations: u64,
    /// Stacks cut at the depth limit.
    pub truncated_stacks: u64,
    /// Stacks that do not reach the thread's root.
    pub incomplete_stacks: u64,
    /// Allocation events lost (part of `lost_events`).
    pub lost_allocations: u64,
    /// Bytes of `lost_allocations`.
    pub lost_allocated_bytes: u64,
    /// Free events lost (part of `lost_events`): as many blocks reported live may be gone.
    pub lost_frees: u64,
    /// Calls whose return was never seen: longjmp over the allocator, a thread that ended in it.
    pub missed_returns: u64,
    /// Bytes requested by `missed_returns`.
    pub missed_return_bytes: u64,
    /// Allocations whose stack was not kept.
    pub missing_stacks: u64,
    /// Events of mmap, mremap and brk lost (part of `lost_events`).
    pub lost_mappings: u64,
    /// Bytes of `lost_mappings`.
    pub lost_mapped_bytes: u64,
    /// Events of munmap lost (part of `lost_events`).
    pub lost_unmappings: u64,
    /// Frees of blocks that are not in the ledger: from before tracing, or whose allocation was lost.
    pub unknown_frees: u64,
    /// Blocks whose address was given out again although their free was not seen.
    pub implied_frees: u64,
    /// Everything a reader must know to trust the numbers, in words.
    pub notices: Vec<String>,
}

/// The process's memory as the kernel sees it, at the end of the window.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Memory {
    /// Resident set.
    pub rss_bytes: u64,
    /// Limit of its control group.
    pub limit_bytes: Option<u64>,
    /// The resident set by cause; `null` where it is not known yet.
    pub breakdown: Breakdown,
}

/// The resident set by cause.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the contract's and say it all")]
pub struct Breakdown {
    pub live_heap: u64,
    pub allocator_retained: Option<u64>,
    pub stacks: Option<u64>,
    pub file: Option<u64>,
    pub other: Option<u64>,
}

/// What tracing cost.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Cost {
    /// Calls that ran a probe of an allocator's function.
    pub hits: u64,
    /// CPU time that tracing has added to the process, over what it used for itself, estimated: 0.05 for 5 %. `null`
    /// before it has used any.
    pub estimated_slowdown: Option<f64>,
    /// CPU time of outlive itself, seconds.
    pub tracer_cpu_s: f64,
    /// Resident set of outlive itself.
    pub tracer_rss_bytes: u64,
    /// Calls that ran an allocation probe.
    pub allocate_hits: u64,
    /// Calls that ran a release probe.
    pub release_hits: u64,
    /// Calls of mmap, munmap, mremap and brk, with `--mappings`.
    pub mapping_hits: u64,
    /// As `tracer_cpu_s`.
    pub own_cpu_s: f64,
    /// As `tracer_rss_bytes`.
    pub own_rss_bytes: u64,
}

impl Cost {
    /// Of a report that took no probes.
    pub fn without_probes(tracer_cpu_s: f64, tracer_rss_bytes: u64) -> Self {
        Self {
            estimated_slowdown: Some(0.0),
            tracer_cpu_s,
            tracer_rss_bytes,
            own_cpu_s: tracer_cpu_s,
            own_rss_bytes: tracer_rss_bytes,
            ..Self::default()
        }
    }
}

/// One call site.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names are the contract's and say it all")]
pub struct Site {
    /// `allocation`, `mapping` or `holding`.
    #[serde(deserialize_with = "words::known")]
    pub kind: Word,
    /// `anonymous` or `file`: what is behind a mapping; `null` for an allocation.
    #[serde(default, deserialize_with = "words::known_if_any")]
    pub backing: Option<Word>,
    pub rank: usize,
    pub live_bytes: u64,
    pub live_bytes_ci95: [u64; 2],
    pub live_count: u64,
    pub allocated_bytes: u64,
    pub allocated_count: u64,
    pub freed_count: u64,
    /// Bytes freed, of those counted in `allocated_bytes`; `null` when what wrote the report did not tell.
    #[serde(default)]
    pub freed_bytes: Option<u64>,
    /// Ages and growth are `null`, and the histogram empty, in a snapshot: they take time to see.
    pub oldest_age_s: Option<f64>,
    pub median_age_s: Option<f64>,
    pub age_histogram_s: Vec<(u64, u64)>,
    pub growth_bytes_per_s: Option<f64>,
    pub growth_ci95: Option<[f64; 2]>,
    #[serde(deserialize_with = "words::known")]
    pub verdict: Word,
    pub verdict_reason: String,
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    pub retained_by: Option<String>,
    /// `root`, `too-deep`, `frame-pointer-lost`, `unreadable`, `not-kept`: where the stack ends.
    #[serde(deserialize_with = "words::known")]
    pub stack_end: Word,
    pub frames: Vec<crate::symbolise::Frame>,
    /// All frames, the allocator's own included, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_frames: Option<Vec<crate::symbolise::Frame>>,
    /// What a Go runtime's own profiler knows besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go: Option<GoSite>,
    /// Its live bytes at the moments of the report's timeline; empty when it has no line.
    #[serde(skip)]
    pub history: Vec<u64>,
    /// In a site of kind `holding`: what is held, and by what kind of thing. Which one is in `retained_by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldSite>,
}

/// Objects of one type that one thing holds, found by a walk over the heap.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HeldSite {
    /// `variable`, `variables`: several, `goroutines`: of one `go` statement, `several-goroutines`, or `runtime`.
    #[serde(deserialize_with = "words::known")]
    pub holder: Word,
    /// Where the type is not known: the size of a slot; `null` for those too large for a size class.
    pub slot_bytes: Option<u64>,
    /// Where the type is not known: whether some of the words may be addresses.
    pub has_pointers: Option<bool>,
    /// Bytes more than at the first walk; `null` when there was one only.
    pub growth_bytes: Option<i64>,
    /// Objects more than at the first walk.
    pub growth_count: Option<i64>,
}

/// A call site as a Go runtime's profiler has it at this instant. `live_*` of the site are those of the last finished collection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct GoSite {
    /// Bytes in use now: with what was allocated since the last finished collection, and garbage that is not swept yet.
    pub now_bytes: u64,
    /// Objects in use now.
    pub now_count: u64,
    /// Sampled objects found alive in the heap; `null` when the heap could not be walked.
    pub sampled_objects: Option<u64>,
    /// What following the heap shows besides; absent in a snapshot.
    #[serde(flatten)]
    pub followed: Option<FollowedGoSite>,
}

/// A call site in a Go heap that was followed. Its `live_*` are those of this instant.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FollowedGoSite {
    /// Bytes of `live_bytes` that were there before tracing started: their ages count from then.
    pub inherited_bytes: u64,
    /// Objects of `live_count` that were there.
    pub inherited_count: u64,
    /// Collections that the oldest live object has survived.
    pub oldest_age_cycles: u32,
    /// The median of that.
    pub median_age_cycles: u32,
}
