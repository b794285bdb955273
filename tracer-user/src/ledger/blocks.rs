//! Outstanding blocks by address: ten million of them at 64 bytes each at most.
//!
//! In: blocks given out and taken back. Out: the block at an address, all blocks. A block is packed into 16 bytes. The table
//! is cut into shards, so that growing it never means to move everything at once: whoever waits would lose events. Shards
//! hold unlike shares of the addresses, since shards of one size would all double at the same moment, and be half empty
//! together.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::target::VirtAddr;

/// An outstanding block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Bytes requested; below 2^48, which the kernel side sees to.
    pub(super) size_bytes: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds; kept to the microsecond.
    pub(super) at_ns: u64,
    /// Where and how it was recorded: an index of the ledger's groups.
    pub(super) group: u32,
}

/// A block in 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Packed {
    size_bytes: [u8; 6],
    at_us: [u8; 6],
    group: [u8; 4],
}

impl From<Block> for Packed {
    fn from(block: Block) -> Self {
        Self {
            size_bytes: six_bytes(block.size_bytes),
            at_us: six_bytes(block.at_ns / 1000),
            group: block.group.to_le_bytes(),
        }
    }
}

impl From<Packed> for Block {
    fn from(packed: Packed) -> Self {
        Self {
            size_bytes: from_six_bytes(packed.size_bytes),
            at_ns: from_six_bytes(packed.at_us) * 1000,
            group: u32::from_le_bytes(packed.group),
        }
    }
}

/// The lower six bytes; the largest number for one that does not fit.
fn six_bytes(number: u64) -> [u8; 6] {
    let bytes = number.min((1 << 48) - 1).to_le_bytes();
    std::array::from_fn(|index| bytes[index])
}

fn from_six_bytes(six: [u8; 6]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&six);
    u64::from_le_bytes(bytes)
}

/// Shards; at ten million blocks each holds forty thousand, which are moved in a millisecond.
const SHARDS: usize = 256;

/// One shard. The seed is its own: which addresses collide cannot be known from outside.
type Shard = HashMap<VirtAddr, Packed, RandomState>;

/// Outstanding blocks by address.
#[derive(Debug)]
pub(super) struct Blocks {
    shards: Vec<Shard>,
    count: usize,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), count: 0 }
    }
}

impl Blocks {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Puts a block at an address; the one that was there before.
    pub(super) fn insert(&mut self, address: VirtAddr, block: Block) -> Option<Block> {
        let before = self.shard(address)?.insert(address, block.into());
        self.count += usize::from(before.is_none());
        before.map(Block::from)
    }

    /// Takes the block at an address.
    pub(super) fn remove(&mut self, address: VirtAddr) -> Option<Block> {
        let removed = self.shard(address)?.remove(&address)?;
        self.count -= 1;
        Some(removed.into())
    }

    /// Whether there is a block at an address.
    pub(super) fn contains(&self, address: VirtAddr) -> bool {
        self.shards.get(shard_of(address)).is_some_and(|shard| shard.contains_key(&address))
    }

    /// Every block, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Block> {
        self.shards.iter().flat_map(|shard| shard.values().map(|packed| Block::from(*packed)))
    }

    /// Keeps the blocks at these addresses only.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(VirtAddr) -> bool) {
        for shard in &mut self.shards {
            shard.retain(|address, _| keeps(*address));
        }
        self.count = self.shards.iter().map(HashMap::len).sum();
    }

    /// Forgets all, and gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn shard(&mut self, address: VirtAddr) -> Option<&mut Shard> {
        self.shards.get_mut(shard_of(address))
    }
}

/// The shard of an address. Of evenly spread addresses the last shard gets twice as many as the first.
fn shard_of(address: VirtAddr) -> usize {
    // Fibonacci hashing: neighbouring blocks go far apart, the upper bits are the well mixed ones.
    let mixed = address.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let share = (mixed >> 52) as usize;
    usize::from(SHARD_OF_SHARE.get(share).copied().unwrap_or_default())
}

/// Equal shares that the addresses are cut into, to be dealt to the shards.
const SHARES: usize = 1 << 12;

/// Which shard has a share. The first has half as many as the last: shard `s` has about `2^(s / SHARDS)` of them.
static SHARD_OF_SHARE: [u8; SHARES] = deal_shares();

const fn deal_shares() -> [u8; SHARES] {
    let mut shards = [0; SHARES];
    let mut share = 0;
    while share < SHARES {
        shards[share] = shard_of_share(share);
        share += 1;
    }
    shards
}

/// `SHARDS * log2(1 + share / SHARES)`, rounded down.
const fn shard_of_share(share: usize) -> u8 {
    // The binary logarithm of a number in [1, 2), one bit for each squaring; 32 fraction bits.
    let mut x = (((SHARES + share) as u128) << 32) / SHARES as u128;
    let mut log = 0;
    let mut bit = 0;
    while bit < SHARDS.ilog2() {
        x = (x * x) >> 32;
        log <<= 1;
        if x >= 2 << 32 {
            x >>= 1;
            log |= 1;
        }
        bit += 1;
    }
    log
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_packed_block_is_the_block(size_bytes in 0_u64..1 << 48, at_us in 0_u64..1 << 48, group: u32) {
            let block = Block { size_bytes, at_ns: at_us * 1000, group };
            prop_assert_eq!(Block::from(Packed::from(block)), block);
        }
    }

    #[test]
    fn an_entry_takes_24_bytes() {
        assert_eq!(size_of::<(VirtAddr, Packed)>(), 24);
    }

    #[test]
    fn impossible_sizes_stay_the_largest() {
        let block = Block { size_bytes: u64::MAX, at_ns: 0, group: 0 };
        assert_eq!(Block::from(Packed::from(block)).size_bytes, (1 << 48) - 1);
    }

    #[test]
    fn shards_are_all_used_and_the_last_holds_twice_as_much_as_the_first() {
        let mut shares = [0_usize; SHARDS];
        for shard in SHARD_OF_SHARE {
            shares[usize::from(shard)] += 1;
        }
        assert!(shares.iter().all(|share| *share >= 8), "{shares:?}");
        let sum = |shards: &[usize]| shards.iter().sum::<usize>();
        let (first, last) = (sum(&shares[..16]), sum(&shares[SHARDS - 16..]));
        assert!((first * 18..first * 22).contains(&(last * 10)), "{first} {last}");
    }
}
