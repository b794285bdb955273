//! What each line of some functions holds: by itself, and with all that it calls.
//!
//! In: a profile, and which functions are meant. Out: sums by function and line. A stack counts once for a line, and once for a function,
//! however often it passes through them.

use std::collections::HashMap;

use serde::Serialize;

use crate::report::profile::{Amounts, FrameId, Profile, ProfileSite};

/// Blocks and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// Blocks and bytes, allocated and live.
    #[serde(flatten)]
    pub amounts: Amounts,
    /// 95 % interval of the live bytes.
    pub live_bytes_ci95: [u64; 2],
    /// Bytes freed.
    pub freed_bytes: u64,
    /// How far the interval reaches down and up, squared: independent errors add up so.
    #[serde(skip)]
    squares: [f64; 2],
}

impl Sum {
    fn add(&mut self, site: &ProfileSite) {
        self.amounts = self.amounts.plus(site.amounts);
        self.freed_bytes = self.freed_bytes.saturating_add(site.freed_bytes().unwrap_or(0));
        let (live, [low, high]) = (site.amounts.live_bytes, site.live_bytes_ci95);
        self.squares[0] += (live.saturating_sub(low) as f64).powi(2);
        self.squares[1] += (high.saturating_sub(live) as f64).powi(2);
        let [below, above] = self.squares.map(|square| square.sqrt().round() as u64);
        let live = self.amounts.live_bytes;
        self.live_bytes_ci95 = [live.saturating_sub(below), live.saturating_add(above)];
    }

    /// Whether there is nothing to tell.
    pub fn is_nothing(&self) -> bool {
        self.amounts == Amounts::default() && self.freed_bytes == 0
    }
}

/// A sum over stacks, each once.
#[derive(Default)]
struct Once {
    sum: Sum,
    /// The last stack that was counted, from 1.
    last: usize,
}

impl Once {
    fn add(&mut self, stack: usize, site: &ProfileSite) {
        if self.last != stack {
            self.last = stack;
            self.sum.add(site);
        }
    }
}

#[derive(Default)]
struct Entry {
    own: Sum,
    cumulative: Once,
}

/// A function in a file.
pub(super) struct FunctionTally<'p> {
    pub(super) function: &'p str,
    pub(super) file: Option<&'p str>,
    pub(super) module: Option<&'p str>,
    pub(super) own: Sum,
    pub(super) cumulative: Sum,
    /// In ascending order; what is at no known line goes first.
    pub(super) lines: Vec<LineTally>,
}

/// A line of a function; 0 when it is not known.
pub(super) struct LineTally {
    pub(super) line: u32,
    pub(super) own: Sum,
    pub(super) cumulative: Sum,
}

/// Where the sums of a frame are.
#[derive(Clone, Copy)]
struct Place {
    function: usize,
    line: usize,
}

/// Sums up what the functions whose names match hold. Those that hold most go first.
pub(super) fn tally<'p>(
    profile: &'p Profile,
    is_meant: &dyn Fn(&str) -> bool,
) -> Vec<FunctionTally<'p>> {
    let (places, mut functions, mut lines) = find(profile, is_meant);
    for (stack, site) in (1..).zip(&profile.sites) {
        for (depth, id) in site.stack.iter().enumerate() {
            let Some(place) = places.get(id) else { continue };
            let (function, line) = (&mut functions[place.function], &mut lines[place.line].1);
            if depth == 0 {
                function.entry.own.add(site);
                line.own.add(site);
            }
            function.entry.cumulative.add(stack, site);
            line.cumulative.add(stack, site);
        }
    }
    for (Key { function, line }, entry) in lines {
        let (own, cumulative) = (entry.own, entry.cumulative.sum);
        functions[function].lines.push(LineTally { line, own, cumulative });
    }
    let mut all: Vec<_> = functions.into_iter().map(FunctionEntry::finish).collect();
    all.sort_by(|a, b| {
        let size = |f: &FunctionTally<'_>| {
            let amounts = f.cumulative.amounts;
            (amounts.live_bytes, amounts.allocated_bytes)
        };
        size(b).cmp(&size(a)).then_with(|| (a.function, a.file).cmp(&(b.function, b.file)))
    });
    all
}

struct FunctionEntry<'p> {
    function: &'p str,
    file: Option<&'p str>,
    module: Option<&'p str>,
    entry: Entry,
    lines: Vec<LineTally>,
}

impl<'p> FunctionEntry<'p> {
    fn finish(mut self) -> FunctionTally<'p> {
        self.lines.sort_by_key(|line| line.line);
        FunctionTally {
            function: self.function,
            file: self.file,
            module: self.module,
            own: self.entry.own,
            cumulative: self.entry.cumulative.sum,
            lines: self.lines,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    function: usize,
    line: u32,
}

type Found<'p> = (HashMap<FrameId, Place>, Vec<FunctionEntry<'p>>, Vec<(Key, Entry)>);

/// The frames that are meant, with empty sums for their functions and lines. A name is asked for once.
fn find<'p>(profile: &'p Profile, is_meant: &dyn Fn(&str) -> bool) -> Found<'p> {
    let mut names: HashMap<&str, bool> = HashMap::new();
    let mut by_name: HashMap<(&str, Option<&str>), usize> = HashMap::new();
    let mut by_line: HashMap<Key, usize> = HashMap::new();
    let (mut places, mut functions, mut lines) = (HashMap::new(), Vec::new(), Vec::new());
    for (id, frame) in profile.frames.iter() {
        let name = frame.function.as_str();
        if !*names.entry(name).or_insert_with(|| is_meant(name)) {
            continue;
        }
        let file = frame.file.as_deref();
        let function = *by_name.entry((name, file)).or_insert_with(|| {
            let module = frame.module.as_deref();
            let (entry, lines) = (Entry::default(), Vec::new());
            functions.push(FunctionEntry { function: name, file, module, entry, lines });
            functions.len() - 1
        });
        let key = Key { function, line: frame.line.filter(|_| file.is_some()).unwrap_or(0) };
        let line = *by_line.entry(key).or_insert_with(|| {
            lines.push((key, Entry::default()));
            lines.len() - 1
        });
        places.insert(id, Place { function, line });
    }
    (places, functions, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolise::Frame;

    /// Functions and lines of a stack, and what is allocated and live there.
    type Held<'s> = (&'s [(&'s str, u32)], u64, u64);

    fn profile(stacks: &[Held<'_>]) -> Profile {
        let mut profile = Profile::default();
        for (stack, allocated_bytes, live_bytes) in stacks {
            let frame = |(function, line): &(&str, u32)| Frame {
                function: (*function).to_owned(),
                file: Some("a.c".to_owned()),
                line: Some(*line),
                module: None,
                build_id: None,
                offset: u64::from(*line),
                inlined: false,
            };
            let stack = stack.iter().map(|at| profile.frames.intern(&frame(at))).collect();
            profile.sites.push(ProfileSite {
                process: 0,
                kind: "allocation",
                stack,
                amounts: Amounts {
                    allocated_bytes: *allocated_bytes,
                    live_bytes: *live_bytes,
                    ..Amounts::default()
                },
                freed_bytes: None,
                live_bytes_ci95: [live_bytes - 3, live_bytes + 4],
                oldest_age_s: None,
                history: Vec::new(),
            });
        }
        profile
    }

    fn live(sum: Sum) -> u64 {
        sum.amounts.live_bytes
    }

    #[test]
    fn a_stack_counts_once_for_a_line_however_deep_it_recurs() {
        let walk = [("leaf", 1), ("walk", 5), ("walk", 5), ("walk", 6), ("main", 9)];
        let profile = profile(&[(&walk, 300, 100), (&[("walk", 7), ("main", 9)], 30, 10)]);
        let all = tally(&profile, &|name| name == "walk");
        assert_eq!(all.len(), 1);
        let function = &all[0];
        assert_eq!((live(function.own), live(function.cumulative)), (10, 110));
        assert_eq!(function.cumulative.freed_bytes, 220);
        let lines: Vec<_> =
            function.lines.iter().map(|l| (l.line, live(l.own), live(l.cumulative))).collect();
        assert_eq!(lines, [(5, 0, 100), (6, 0, 100), (7, 10, 10)]);
    }

    #[test]
    fn intervals_add_up_as_independent_ones_do() {
        let profile = profile(&[(&[("f", 1), ("main", 9)], 50, 50), (&[("f", 2)], 50, 50)]);
        let all = tally(&profile, &|_| true);
        assert_eq!(all[0].function, "f");
        assert_eq!(all[0].cumulative.live_bytes_ci95, [100 - 4, 100 + 6]);
        assert_eq!(all[1].cumulative.live_bytes_ci95, [47, 54]);
    }
}
