//! Goroutines that wait for channels, and for which.
//!
//! In: goroutines. Out: [`Blocked`], those that only somebody who has one of their channels can wake.

use std::collections::HashMap;

use crate::golang::GoError;
use crate::golang::bytes::u64_at;
use crate::golang::goroutines::{Goroutine, State};
use crate::golang::layout::WaiterLayout;
use crate::target::{RemoteMemory, VirtAddr};

/// Reasons to wait, in the runtime's words: for the channels in whose queues it stands.
const FOR_CHANNELS: [&str; 3] = ["chan receive", "chan send", "select"];
/// For nothing that there is.
const FOR_NOTHING: [&str; 3] =
    ["chan receive (nil chan)", "chan send (nil chan)", "select (no cases)"];
/// Most cases of one `select`: the compiler allows no more.
const MAX_CASES: usize = 1 << 16;
/// Most places in queues that are looked at.
const MAX_WAITERS: usize = 1 << 24;

/// A goroutine that waits for channels. Equal to an earlier one if it has not run in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// Where the runtime describes it.
    pub(super) address: VirtAddr,
    /// Channels of which any may wake it; none if nothing can.
    pub(super) channels: Vec<VirtAddr>,
    /// It has waited since before the last collection.
    pub(super) is_seen_by_collector: bool,
    waiter: VirtAddr,
    stops: u8,
    reason: String,
}

/// Those that wait for channels, by the number of the goroutine. One whose places in queues are not its own is left out.
pub(super) fn blocked(
    memory: RemoteMemory,
    list: &[Goroutine],
    layout: &WaiterLayout,
) -> Result<HashMap<u64, Blocked>, GoError> {
    let mut found = HashMap::new();
    let mut cursors = Vec::new();
    for goroutine in list {
        let is_waiting = matches!(goroutine.state, State::Waiting | State::Leaked);
        let Some(reason) = goroutine.waits_for.as_deref().filter(|_| is_waiting) else { continue };
        let stands_in_queues = goroutine.waiter.0 != 0;
        // A `select` all of whose channels are nil stands in no queue either.
        let is_blocked = if stands_in_queues {
            FOR_CHANNELS.contains(&reason)
        } else {
            FOR_NOTHING.contains(&reason) || reason == "select"
        };
        if !is_blocked {
            continue;
        }
        found.insert(
            goroutine.id,
            Blocked {
                address: goroutine.address,
                channels: Vec::new(),
                is_seen_by_collector: goroutine.waiting_since_ns.is_some(),
                waiter: goroutine.waiter,
                stops: goroutine.stops,
                reason: reason.to_owned(),
            },
        );
        if stands_in_queues {
            cursors.push((goroutine.id, goroutine.waiter));
        }
    }
    follow(memory, &mut found, cursors, layout)?;
    Ok(found)
}

/// Follows the lists of many goroutines together, a place of each at a time.
fn follow(
    memory: RemoteMemory,
    found: &mut HashMap<u64, Blocked>,
    mut cursors: Vec<(u64, VirtAddr)>,
    layout: &WaiterLayout,
) -> Result<(), GoError> {
    let mut looked_at = 0;
    for _ in 0..MAX_CASES {
        looked_at += cursors.len();
        if cursors.is_empty() || looked_at > MAX_WAITERS {
            break;
        }
        let places: Vec<_> = cursors.iter().map(|(_, at)| *at).collect();
        let records = memory.read_records(&places, layout.size as usize)?;
        let mut next = Vec::new();
        for ((id, _), record) in cursors.iter().zip(records.iter()) {
            let own = found.get(id).map(|blocked| blocked.address);
            match record.and_then(|record| waiter(record, layout)).filter(|w| Some(w.0) == own) {
                Some((_, channel, link)) => {
                    if let Some(blocked) = found.get_mut(id) {
                        blocked.channels.push(channel);
                    }
                    next.extend((link.0 != 0).then_some((*id, link)));
                }
                None => drop(found.remove(id)),
            }
        }
        cursors = next;
    }
    // Lists that do not end are no lists.
    for (id, _) in cursors {
        found.remove(&id);
    }
    Ok(())
}

/// The goroutine that stands in a queue, the queue's channel, and its next place; `None` when it is in none.
fn waiter(record: &[u8], layout: &WaiterLayout) -> Option<(VirtAddr, VirtAddr, VirtAddr)> {
    let word = |offset| u64_at(record, offset).map(VirtAddr);
    let channel = word(layout.size - 8)?;
    let found = (word(layout.goroutine)?, channel, word(layout.waitlink)?);
    (channel.0 != 0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::layout::Layout;
    use crate::golang::version::GoVersion;
    use crate::target::Pid;

    const GOROUTINE: VirtAddr = VirtAddr(0x7000);

    fn layout(version: &str) -> WaiterLayout {
        Layout::of(&GoVersion::parse(version).expect("a version")).expect("known").waiter
    }

    fn waiter_bytes(layout: &WaiterLayout, goroutine: u64, channel: u64, link: u64) -> Box<[u8]> {
        let mut bytes = vec![0; layout.size as usize];
        for (at, value) in
            [(layout.goroutine, goroutine), (layout.size - 8, channel), (layout.waitlink, link)]
        {
            bytes[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes.into()
    }

    /// The channels that one goroutine is told to wait for, when it is told to be blocked.
    fn channels(reason: &str, waiter: u64, layout: &WaiterLayout) -> Option<Vec<u64>> {
        let mut goroutine = Goroutine::sample(VirtAddr(1), None, Some(reason));
        (goroutine.address, goroutine.waiter) = (GOROUTINE, VirtAddr(waiter));
        let memory = RemoteMemory::new(Pid(std::process::id()));
        let found = blocked(memory, &[goroutine], layout).expect("readable");
        Some(found.get(&1)?.channels.iter().map(|channel| channel.0).collect())
    }

    #[test]
    fn all_cases_of_a_select_are_followed_in_every_version() {
        for version in ["go1.19", "go1.25", "go1.26", "go1.27"] {
            let layout = layout(version);
            let second = waiter_bytes(&layout, GOROUTINE.0, 0xc2, 0);
            let first = waiter_bytes(&layout, GOROUTINE.0, 0xc1, second.as_ptr() as u64);
            let at = first.as_ptr() as u64;
            assert_eq!(channels("select", at, &layout), Some(vec![0xc1, 0xc2]), "{version}");
            assert_eq!(channels("sync.Mutex.Lock", at, &layout), None);
        }
    }

    #[test]
    fn who_waits_for_nothing_needs_no_channel_and_what_is_not_its_own_does_not_count() {
        let layout = layout("go1.24");
        assert_eq!(channels("select (no cases)", 0, &layout), Some(vec![]));
        assert_eq!(channels("select", 0, &layout), Some(vec![]));
        assert_eq!(channels("chan receive", 0, &layout), None);
        let of_another = waiter_bytes(&layout, 0x8000, 0xc1, 0);
        assert_eq!(channels("chan receive", of_another.as_ptr() as u64, &layout), None);
        let of_none = waiter_bytes(&layout, GOROUTINE.0, 0, 0);
        assert_eq!(channels("chan send", of_none.as_ptr() as u64, &layout), None);
        assert_eq!(channels("chan send", 8, &layout), None);
        let mut circle = waiter_bytes(&layout, GOROUTINE.0, 0xc1, 0);
        let own = circle.as_ptr() as u64;
        circle[layout.waitlink as usize..][..8].copy_from_slice(&own.to_le_bytes());
        assert_eq!(channels("select", own, &layout), None);
    }
}
