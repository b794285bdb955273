//! Whether the kernel accepts every program for every kind of link it offers, and at what cost in verification.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::probes::attach::{ENTER_EARLY, GO_ALLOCATED_EARLY, Programs, REPORT_EARLY};
use crate::probes::features::{LinkKind, has_link_kind, has_loop};
use crate::probes::mapping_calls;
use crate::probes::object::{KernelObject, KernelOptions};

/// Loads all uprobe programs for all kinds of link; instructions the verifier walked through, by program. Recording
/// all allocations and sampling are different programs to the verifier: the larger number counts.
pub fn verified_instructions() -> Result<BTreeMap<&'static str, u32>, Fault> {
    let mut largest = BTreeMap::new();
    for sample_mean_bytes in [0, 1 << 19] {
        let options = KernelOptions { sample_mean_bytes, ring_bytes: 1 << 16, live_capacity: 1024 };
        let mut object = KernelObject::open(&options)?;
        let mut keep = |name, count: u32| {
            let entry = largest.entry(name).or_insert(0);
            *entry = count.max(*entry);
        };
        let mapping_calls = if has_loop() { mapping_calls::load(&mut object)? } else { Vec::new() };
        for (name, count) in mapping_calls {
            keep(name, count);
        }
        for kind in [LinkKind::Session, LinkKind::Multi, LinkKind::Single] {
            if !has_link_kind(kind) {
                continue;
            }
            let mut programs = Programs::load(&object, kind)?;
            programs.load_all(&object)?;
            for (name, count) in programs.verified_instructions() {
                keep(name, count);
            }
        }
        // What old kernels run is counted on all, so that it stays within its budget.
        for name in [ENTER_EARLY, REPORT_EARLY, GO_ALLOCATED_EARLY] {
            if let Some(count) = object.load_for(name, 0)?.verified_instructions {
                keep(name, count);
            }
        }
    }
    Ok(largest)
}
