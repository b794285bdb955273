//! Folded stacks: a line each, `root;caller;leaf 4096`. The number is taken for live bytes.

use std::collections::HashMap;

use super::{ImportError, MAX_DEPTH, MAX_FRAMES, described};
use crate::report::profile::{Amounts, FrameId, Profile, ProfileSite};
use crate::symbolise::Frame;

/// What a reader must know.
const NOTICE: &str = "folded stacks have one number: it is taken for live bytes; blocks, allocations and how it was sampled are not known";

pub(super) fn read(text: &str, name: &str) -> Result<Profile, ImportError> {
    let mut profile = Profile {
        processes: vec![described(None, None, 0, name)],
        mode: "unknown",
        notices: vec![NOTICE.to_owned()],
        ..Profile::default()
    };
    let mut sites: HashMap<Vec<FrameId>, u64> = HashMap::new();
    let mut order = Vec::new();
    let mut frames = 0;
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let (stack, bytes) = parsed(line).ok_or_else(|| {
            ImportError::Damaged(format!("line {number} is not `root;caller;leaf BYTES`"))
        })?;
        let leaf_first = stack.rsplit(';').take(MAX_DEPTH);
        let stack: Vec<FrameId> =
            leaf_first.map(|function| profile.frames.intern(&Frame::of_name(function))).collect();
        frames += stack.len();
        if frames > MAX_FRAMES {
            return Err(ImportError::TooLarge);
        }
        let sum = sites.entry(stack.clone()).or_insert_with(|| {
            order.push(stack);
            0
        });
        *sum = sum.saturating_add(bytes);
    }
    profile.sites = order.into_iter().map(|stack| site(sites[&stack], stack)).collect();
    Ok(profile)
}

fn parsed(line: &str) -> Option<(&str, u64)> {
    let (stack, bytes) = line.trim_end().rsplit_once([' ', '\t'])?;
    let stack = stack.trim();
    (!stack.is_empty()).then_some((stack, bytes.parse().ok()?))
}

fn site(live_bytes: u64, stack: Vec<FrameId>) -> ProfileSite {
    ProfileSite {
        process: 0,
        kind: "allocation",
        stack,
        amounts: Amounts { live_bytes, ..Amounts::default() },
        freed_bytes: None,
        live_bytes_ci95: [live_bytes; 2],
        oldest_age_s: None,
        history: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_leaf_first_and_equal_ones_are_one_site() {
        let profile = read("main;a b;leaf 10\nmain 5\n\nmain;a b;leaf 2\n", "x.folded");
        let profile = profile.expect("stacks");
        assert_eq!(profile.sites.len(), 2);
        assert_eq!(profile.sites[0].amounts.live_bytes, 12);
        let names: Vec<_> = profile.stack(&profile.sites[0]).map(|f| f.function.as_str()).collect();
        assert_eq!(names, ["leaf", "a b", "main"]);
    }

    #[test]
    fn what_is_no_stack_is_refused_with_its_line() {
        for text in ["main;a\n", "main;a x\n", "a 1\n 5\n", "main -5\n", "{\"a\": 1}\n"] {
            assert!(read(text, "x").is_err(), "{text:?}");
        }
        let error = read("a 1\nb\n", "x").expect_err("no number").to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
