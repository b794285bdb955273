//! Parsers of the memory of a Go runtime. The first byte says of which version; what follows is memory.

use std::sync::LazyLock;

use super::remote_image::{self, RemoteImage};
use crate::golang::buckets::{self, Buckets, ProfilePlace, scale};
use crate::golang::goroutines::Goroutines;
use crate::golang::layout::Layout;
use crate::golang::specials::Specials;
use crate::golang::version::GoVersion;
use crate::target::VirtAddr;

/// The oldest version that is known, and how many are.
pub(super) const OLDEST: u32 = 19;
const VERSIONS: u32 = 9;
/// How many stacks of goroutines are walked.
const STACKS: usize = 64;

/// The layout of a version; the table is read once.
pub(super) fn layout(minor: u32) -> Option<&'static Layout> {
    static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| {
        let versions = OLDEST..OLDEST + VERSIONS;
        let layout = |minor| Layout::of(&GoVersion { text: String::new(), minor }).ok();
        versions.filter_map(layout).collect()
    });
    LAYOUTS.get(minor.checked_sub(OLDEST)? as usize)
}

fn memory(bytes: &[u8]) -> Option<(&'static Layout, RemoteImage)> {
    let (version, memory) = bytes.split_first()?;
    Some((layout(OLDEST + u32::from(*version) % VERSIONS)?, RemoteImage::new(memory)))
}

/// The heap profile. The first word is the head of the list, the second the cycle.
pub fn buckets(bytes: &[u8]) {
    let Some((layout, image)) = memory(bytes) else { return };
    let text = image.address(0)..image.address(bytes.len() as u64);
    let place = ProfilePlace { head: image.address(0), cycle: image.address(8) };
    if let Ok(profile) = Buckets::read(remote_image::memory(), place, &layout.bucket, &text) {
        for (bucket, published) in profile.list.iter().zip(profile.published()) {
            let now = bucket.now();
            for rate in [0, 1, 512 << 10, u64::MAX] {
                scale(now.in_use(), now.in_use_bytes(), rate);
                scale(published.allocs, published.alloc_bytes, rate);
            }
        }
    }
    buckets::read_one(remote_image::memory(), image.address(16), &layout.bucket).ok();
}

/// The sampled objects. The first words are the list of spans.
pub fn specials(bytes: &[u8]) {
    let Some((layout, image)) = memory(bytes) else { return };
    let heap = VirtAddr(image.address(0).0.wrapping_sub(layout.heap.allspans));
    Specials::read(remote_image::memory(), heap, &layout.heap, &layout.special).ok();
}

/// The goroutines. The first words are what the code refers to.
pub fn goroutines(bytes: &[u8]) {
    let Some((layout, image)) = memory(bytes) else { return };
    let candidates = [0, 8, 16, 24].map(|offset| image.address(offset));
    let read = Goroutines::read(
        remote_image::memory(),
        &candidates,
        &layout.goroutine,
        &layout.wait_reasons,
    );
    for goroutine in read.iter().flat_map(|found| &found.list).take(STACKS) {
        goroutine.return_addresses(remote_image::memory()).ok();
    }
}
