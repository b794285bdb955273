//! Where an allocator's own code is: memory that is mapped from there is its stock, given out as blocks.

use std::ops::Range;

use crate::allocators::discover::Allocator;
use crate::target::ElfAddr;

/// Farthest that glibc's allocating functions lie apart: they are one object file, with the functions that they jump to
/// between them.
const MAX_GLIBC_BYTES: u64 = 64 << 10;

/// Addresses of an allocator's code in its module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocatorCode {
    ranges: Vec<Range<ElfAddr>>,
}

impl AllocatorCode {
    /// The code of the hooked functions. What they only jump to is known of glibc alone.
    pub fn of(allocator: &Allocator) -> Self {
        let bodies = allocator.hooks.iter().map(|hook| {
            hook.address..ElfAddr(hook.address.0.saturating_add(hook.size_bytes.max(1)))
        });
        let mut ranges: Vec<_> = bodies.collect();
        let start = ranges.iter().map(|range| range.start).min();
        let end = ranges.iter().map(|range| range.end).max();
        if let (Some(start), Some(end)) = (start, end)
            && allocator.name.starts_with("glibc")
            && end.0 - start.0 <= MAX_GLIBC_BYTES
        {
            ranges = vec![start..end];
        }
        Self { ranges }
    }

    /// Whether an address is the allocator's.
    pub fn contains(&self, address: ElfAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::function::Shape;

    use super::*;
    use crate::allocators::{Hook, Manner};

    #[test]
    fn what_lies_between_is_known_of_glibc_only() {
        let hook = |address| Hook {
            name: "malloc".into(),
            shape: Shape::Size,
            manner: Manner::Returns,
            in_heap: false,
            address: ElfAddr(address),
            size_bytes: 0x10,
        };
        let named = |name: &str, addresses: [u64; 2]| {
            let allocator = Allocator { name: name.into(), hooks: addresses.map(hook).to_vec() };
            AllocatorCode::of(&allocator)
        };
        let holds = |code: &AllocatorCode, address| code.contains(ElfAddr(address));
        let other = named("malloc of app", [0x1000, 0x2000]);
        assert_eq!(
            [0xfff, 0x100f, 0x1800, 0x2010].map(|a| holds(&other, a)),
            [false, true, false, false]
        );
        let glibc = named("glibc 2.36", [0x1000, 0x2000]);
        assert_eq!(
            [0xfff, 0x1800, 0x200f, 0x2010].map(|a| holds(&glibc, a)),
            [false, true, true, false]
        );
        assert!(!holds(&named("glibc 2.36", [0x1000, 0x9_0000]), 0x1800));
    }
}
