//! From one traced process at an instant to a report.

use tracer_common::counter::Counter;
use tracer_common::stack::StackEnd;

use crate::collector::counts::Counts;
use crate::governor::Costs;
use crate::ledger::mappings::MappingsSnapshot;
use crate::ledger::snapshot::Snapshot;
use crate::probes::features::LinkKind;
use crate::report::model::{Cost, Loss};
use crate::symbolise::Usage;
use crate::sys::usage;
use crate::trace::golang::GoHeap;
use crate::trace::golang_exact::ExactGoHeap;
use crate::trace::process::TracedProcess;
use crate::trace::stacks::Stacks;

/// What a report says of the run as a whole.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// The kernel's counters.
    pub counts: Counts,
    /// Ring buffer records of an unknown version.
    pub undecodable: u64,
    /// How probes are attached, and whether that is the best this kernel has.
    pub link_kind: LinkKind,
    /// What a hit costs on this machine.
    pub costs: Costs,
    /// Processes traced at once: the kernel's counters are of all of them.
    pub processes: usize,
}

/// What is missing from the numbers of a report.
pub fn loss(
    process: &TracedProcess,
    stacks: &Stacks,
    snapshot: &Snapshot,
    mappings: Option<&MappingsSnapshot>,
    facts: &RunFacts,
) -> Loss {
    let count = |counter| facts.counts.get(counter);
    let mapping_sites = mappings.into_iter().flat_map(|mappings| &mappings.sites);
    let mapping_stacks = mapping_sites.map(|mapping| mapping.site.stack_id);
    let ids = process.ledger.stack_ids().chain(mapping_stacks);
    let ends: Vec<StackEnd> = stacks.ends(ids).collect();
    let counted =
        |wanted: &dyn Fn(StackEnd) -> bool| ends.iter().filter(|end| wanted(**end)).count() as u64;
    let cut_by_go = process.golang.as_ref().map_or(0, GoHeap::truncated_stacks);
    let truncated_stacks = counted(&|end| end == StackEnd::TooDeep) + cut_by_go;
    let incomplete_stacks = counted(&|end| end != StackEnd::Root) + cut_by_go;
    Loss {
        lost_events: facts.counts.lost_events() + facts.undecodable,
        untracked_allocations: count(Counter::LiveFull),
        truncated_stacks,
        incomplete_stacks,
        lost_allocations: count(Counter::LostAllocations) + count(Counter::InFlightFull),
        lost_allocated_bytes: count(Counter::LostAllocatedBytes)
            + count(Counter::InFlightFullBytes),
        lost_frees: count(Counter::LostFrees),
        missed_returns: count(Counter::MissedReturns),
        missed_return_bytes: count(Counter::MissedReturnBytes),
        missing_stacks: count(Counter::StackSlotsBusy),
        lost_mappings: count(Counter::LostMappings),
        lost_mapped_bytes: count(Counter::LostMappedBytes),
        lost_unmappings: count(Counter::LostUnmappings),
        unknown_frees: snapshot.unknown_frees,
        implied_frees: snapshot.implied_frees,
        notices: notices(process, snapshot, mappings, facts),
    }
}

/// What tracing a process has cost so far; `naming` is what was used for names, apart from this process.
pub fn cost(process: &TracedProcess, facts: &RunFacts, naming: Usage) -> Cost {
    let (hits, estimated_slowdown) = process.spending.summary(&facts.costs);
    let cpu_s = usage::own_cpu_time().as_secs_f64() + naming.cpu_s;
    let rss_bytes = usage::own_rss_bytes() + naming.rss_bytes;
    Cost {
        hits: hits.allocations + hits.releases + hits.exits,
        estimated_slowdown,
        tracer_cpu_s: cpu_s,
        tracer_rss_bytes: rss_bytes,
        allocate_hits: hits.allocations,
        release_hits: hits.releases,
        mapping_hits: facts.counts.get(Counter::MappingHits),
        own_cpu_s: cpu_s,
        own_rss_bytes: rss_bytes,
    }
}

fn notices(
    process: &TracedProcess,
    snapshot: &Snapshot,
    mappings: Option<&MappingsSnapshot>,
    facts: &RunFacts,
) -> Vec<String> {
    let mut notices: Vec<String> = process.governed.values().cloned().collect();
    notices.extend(process.hooks.notices.iter().cloned());
    notices.extend(process.notices.iter().cloned());
    notices.extend(process.golang.iter().flat_map(GoHeap::notices));
    notices.extend(process.exact.iter().flat_map(ExactGoHeap::notices));
    notices.extend(process.golang_refused.iter().map(ToString::to_string));
    notices.extend(losses(snapshot, mappings, facts));
    if facts.link_kind != LinkKind::Session {
        notices.push(format!(
            "probes are attached by {} links: every return of an allocating function is trapped too",
            facts.link_kind.name()
        ));
    }
    if facts.processes > 1 {
        notices
            .push(format!("losses are those of all {} processes traced together", facts.processes));
    }
    notices
}

/// Each kind of loss that there was, in words.
fn losses(
    snapshot: &Snapshot,
    mappings: Option<&MappingsSnapshot>,
    facts: &RunFacts,
) -> Vec<String> {
    let count = |counter| facts.counts.get(counter);
    let mut notices = Vec::new();
    let mut add = |number: u64, text: &dyn Fn(u64) -> String| {
        if number > 0 {
            notices.push(text(number));
        }
    };
    add(count(Counter::LostAllocations), &|n| {
        format!(
            "{n} allocations did not fit in the ring buffer: they are in no site; a larger OUTLIVE_RING_SIZE or --sample helps"
        )
    });
    add(count(Counter::LostFrees), &|n| {
        format!(
            "{n} frees did not fit in the ring buffer: up to as many blocks shown live may be gone"
        )
    });
    add(count(Counter::LostMappings) + count(Counter::LostUnmappings), &|n| {
        format!(
            "{n} events of mmap, munmap, mremap or brk were lost: what is not mapped any more was dropped, what was mapped unseen is in no site"
        )
    });
    add(mappings.map_or(0, |mappings| mappings.untracked_bytes), &|n| {
        format!(
            "{n} bytes mapped were not followed, there were too many mappings: they count as mapped, not as live"
        )
    });
    add(count(Counter::LiveFull), &|n| {
        format!(
            "{n} sampled blocks were not followed, the table was full: they count as allocated, not as live; a larger --sample helps"
        )
    });
    add(count(Counter::InFlightFull), &|n| {
        format!("{n} calls were not recorded: too many threads were inside the allocator at once")
    });
    add(count(Counter::MissedReturns), &|n| {
        format!(
            "{n} calls never returned (longjmp, or a thread that ended inside the allocator): what they allocated, if anything, is not counted"
        )
    });
    add(count(Counter::DestroyedHeaps), &|n| {
        format!(
            "{n} heaps were destroyed whole (mi_heap_destroy): blocks that were still in them count as live"
        )
    });
    add(count(Counter::StackSlotsBusy), &|n| {
        format!(
            "{n} allocations have no stack: too many tasks were preempted in the middle of a stack walk"
        )
    });
    add(count(Counter::UnknownFunctions), &|n| {
        format!("{n} hits of probes that nothing is known of")
    });
    add(count(Counter::UnreadableResults), &|n| {
        format!("{n} results of posix_memalign could not be read")
    });
    add(count(Counter::UnreadableArguments), &|n| {
        format!(
            "{n} hits of USDT points whose arguments could not be read: what they told is not counted"
        )
    });
    add(facts.undecodable, &|n| format!("{n} records of the kernel side could not be understood"));
    add(snapshot.implied_frees, &|n| {
        format!(
            "{n} blocks were given out again without a free that was seen: their frees were lost"
        )
    });
    notices
}
