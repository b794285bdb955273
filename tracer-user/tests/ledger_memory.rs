//! What the ledger takes for each outstanding block: at most 64 bytes of resident memory, at ten million and on the way.
//!
//! A process of its own, with one test: what is resident beside the ledger does not change.

use outlive::collector::event::{Allocation, Event, Happening};
use outlive::ledger::Ledger;
use outlive::ledger::snapshot::Filter;
use outlive::target::{Pid, VirtAddr};

const BLOCKS: u64 = 10_000_000;
/// From here on memory is compared: with fewer blocks it does not matter.
const FIRST_LOOK: u64 = 1_000_000;
const LOOK_EVERY: u64 = 250_000;
const MOST_BYTES: u64 = 64;
const SITES: u64 = 1000;

/// A number of `/proc/self/status`, bytes.
fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = status.lines().find(|line| line.starts_with(name)).expect(name);
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.expect("a number") * 1024
}

/// Blocks of 48 bytes as glibc places them, with a gap where another arena starts.
fn address(block: u64) -> VirtAddr {
    VirtAddr(0x5555_5555_0000 + (block % 4) * (1 << 36) + block * 64)
}

fn apply(ledger: &mut Ledger, at_ns: u64, what: Happening) {
    ledger.apply(&Event { pid: Pid(1), tid: 1, at_ns, what });
}

#[test]
fn ten_million_blocks_take_64_bytes_each_at_most() {
    let before = status_bytes("VmRSS");
    let mut ledger = Ledger::new(0, 0);
    for block in 0..BLOCKS {
        let (size_bytes, stack_id) = (48 + block % 7, block % SITES);
        let allocation = Allocation {
            address: address(block),
            size_bytes,
            stack_id,
            tracked: true,
            weighted_bytes: None,
            doublings: 0,
        };
        apply(&mut ledger, block, Happening::Allocated(allocation));
        let count = block + 1;
        if count >= FIRST_LOOK && count.is_multiple_of(LOOK_EVERY) {
            let each = status_bytes("VmRSS").saturating_sub(before) / count;
            assert!(each <= MOST_BYTES, "{each} bytes for each of {count} blocks");
            assert!(each >= 16, "a block cannot be kept in {each} bytes: nothing was measured");
        }
    }
    assert_eq!(ledger.live_count() as u64, BLOCKS);

    let snapshot = ledger.snapshot(BLOCKS, &Filter::default());
    let peak_each = status_bytes("VmHWM").saturating_sub(before) / BLOCKS;
    println!(
        "{} bytes a block, {peak_each} at the most, a report included",
        (status_bytes("VmRSS") - before) / BLOCKS
    );
    assert!(peak_each <= MOST_BYTES, "{peak_each} bytes for each block while a report is made");
    assert_eq!(snapshot.totals.live_count.value as u64, BLOCKS);
    let bytes: u64 = (0..BLOCKS).map(|block| 48 + block % 7).sum();
    assert_eq!(snapshot.totals.live_bytes.value as u64, bytes);
    assert_eq!(snapshot.sites.len() as u64, SITES);

    for block in (0..BLOCKS).step_by(10) {
        apply(&mut ledger, BLOCKS, Happening::Freed(address(block)));
    }
    let totals = ledger.snapshot(BLOCKS, &Filter::default()).totals;
    let freed = BLOCKS / 10;
    assert_eq!(
        (totals.live_count.value as u64, totals.freed_count as u64),
        (BLOCKS - freed, freed)
    );
}
