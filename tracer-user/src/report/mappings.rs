//! Sites and sums of what was mapped, after those of what was allocated.

use super::build::{Options, Stack, ordered, site_section};
use super::model::{Mappings, Site};
use crate::collector::mapping::Backing;
use crate::ledger::mappings::{MappingSite, MappingsSnapshot};
use crate::symbolise::strip_mapping_frames;

/// Appends the sites to the report's, ranks going on, and gives the sums.
pub(super) fn add(
    snapshot: &MappingsSnapshot,
    options: Options,
    stack: &mut dyn FnMut(u64) -> Stack,
    sites: &mut Vec<Site>,
) -> Mappings {
    let order = ordered(&snapshot.sites, options.sort, |mapping| &mapping.site);
    let shown = order.len().min(options.top);
    let first_rank = sites.len() + 1;
    for (rank, MappingSite { site, backing }) in (first_rank..).zip(order.iter().take(shown)) {
        let stack = stack(site.stack_id);
        sites.push(Site {
            frames: strip_mapping_frames(&stack.frames).to_vec(),
            kind: "mapping",
            backing: Some(backing_word(*backing)),
            ..site_section(rank, site, stack, options.raw)
        });
    }
    let totals = &snapshot.totals;
    Mappings {
        live_bytes: totals.live_bytes,
        live_count: totals.live_count,
        mapped_bytes: totals.mapped_bytes,
        mapped_count: totals.mapped_count,
        unmapped_bytes: totals.unmapped_bytes,
        by_allocator_bytes: snapshot.by_allocator.live_bytes,
        read_only_file_bytes: snapshot.read_only_files.live_bytes,
        unknown_unmapped_bytes: snapshot.unknown_unmapped_bytes,
        untracked_bytes: snapshot.untracked_bytes,
        resynchronised_bytes: snapshot.resynchronised_bytes,
        sites_omitted: order.len() - shown,
    }
}

fn backing_word(backing: Backing) -> &'static str {
    match backing {
        Backing::Anonymous => "anonymous",
        Backing::WritableFile | Backing::ReadOnlyFile => "file",
    }
}
