//! What tells call sites apart, through all reports on a process.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use super::model::Site;

/// Kind and stack of a site. Names are no part of it where there are addresses, since they may come later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteKey(u64);

impl SiteKey {
    /// That of a site.
    pub fn of(site: &Site) -> Self {
        let frames = site.frames.iter().filter(|frame| !frame.inlined);
        let stack: Vec<_> = frames
            .map(|frame| {
                let name = frame.module.is_none().then_some(&frame.function);
                (&frame.module, frame.offset, name)
            })
            .collect();
        Self(FixedState::default().hash_one((site.kind, site.backing, &site.type_name, stack)))
    }
}
