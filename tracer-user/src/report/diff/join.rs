//! Which site of one profile is which of another.
//!
//! In: two profiles, perhaps of different builds of a program. Out: pairs, some with one side only. Two sites are one when the same
//! functions call at the same lines. What is left over, when the code is not known to be the same, is joined by functions alone: a line
//! moves when something is written above it. Of several such sites in the same functions the first goes with the first, by their lines.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{difference, shown_place};
use crate::report::profile::{Amounts, Profile, ProfileSite};
use crate::symbolise::Frame;

/// What tells that a site of both profiles is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Joined {
    /// Functions and lines, in files of the same build.
    BuildId,
    /// Functions and lines.
    Line,
    /// Functions alone.
    Function,
}

/// Sites of one profile that have the same functions and lines.
#[derive(Clone, Debug)]
pub(super) struct Side<'p> {
    kind: &'static str,
    frames: Vec<&'p Frame>,
    pub(super) amounts: Amounts,
    ci95: [u64; 2],
}

/// A site in both profiles, or in one.
#[derive(Clone, Debug)]
pub(super) struct Pair<'p> {
    pub(super) before: Option<Side<'p>>,
    pub(super) after: Option<Side<'p>>,
    pub(super) joined_by: Option<Joined>,
}

/// A part of a stack by which sites are joined.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place<'p> {
    build_id: Option<&'p str>,
    function: &'p str,
    line: Option<u32>,
}

type Key<'p> = (&'static str, Vec<Place<'p>>);

/// Joins the sites of two profiles; in the order of their stacks.
pub(super) fn joined<'p>(before: &'p Profile, after: &'p Profile) -> Vec<Pair<'p>> {
    let mut left = sides(before);
    let mut right = sides(after);
    let mut pairs = Vec::new();
    for level in [Joined::BuildId, Joined::Line, Joined::Function] {
        let (befores, afters) = (by_key(left, level), by_key(right, level));
        (left, right) = (Vec::new(), Vec::new());
        pair_up(befores, afters, level, &mut pairs, &mut left, &mut right);
    }
    let alone = |before, after| Pair { before, after, joined_by: None };
    pairs.extend(left.into_iter().map(|side| alone(Some(side), None)));
    pairs.extend(right.into_iter().map(|side| alone(None, Some(side))));
    pairs
}

type Groups<'p> = BTreeMap<Key<'p>, Vec<Side<'p>>>;

fn pair_up<'p>(
    befores: Groups<'p>,
    mut afters: Groups<'p>,
    level: Joined,
    pairs: &mut Vec<Pair<'p>>,
    left: &mut Vec<Side<'p>>,
    right: &mut Vec<Side<'p>>,
) {
    for (key, befores) in befores {
        let mut later = afters.remove(&key).unwrap_or_default().into_iter();
        for before in befores {
            match later.next() {
                Some(after) if level == Joined::BuildId || !before.is_of_same_code(&after) => {
                    // Where nothing is known of builds, lines it is.
                    let known = before.frames.iter().any(|frame| frame.build_id.is_some());
                    let by = if level == Joined::BuildId && !known { Joined::Line } else { level };
                    pairs.push(Pair {
                        before: Some(before),
                        after: Some(after),
                        joined_by: Some(by),
                    });
                }
                Some(after) => {
                    left.push(before);
                    right.push(after);
                }
                None => left.push(before),
            }
        }
        right.extend(later);
    }
    right.extend(afters.into_values().flatten());
}

/// The sites of a profile, those alike but for their process or their address put together.
fn sides(profile: &Profile) -> Vec<Side<'_>> {
    let mut known: HashMap<Key<'_>, usize> = HashMap::new();
    let mut sides: Vec<Side<'_>> = Vec::new();
    for site in &profile.sites {
        let side = Side::of(profile, site);
        let next = sides.len();
        let index = *known.entry(side.key(Joined::BuildId)).or_insert(next);
        match sides.get_mut(index) {
            Some(same) => same.add(&side),
            None => sides.push(side),
        }
    }
    sides
}

/// Sides by what joins them at a level; those alike in the order of their lines.
fn by_key(sides: Vec<Side<'_>>, level: Joined) -> Groups<'_> {
    let mut groups = Groups::new();
    for side in sides {
        groups.entry(side.key(level)).or_default().push(side);
    }
    for group in groups.values_mut() {
        group.sort_by(|a, b| a.lines().cmp(b.lines()));
    }
    groups
}

impl<'p> Side<'p> {
    fn of(profile: &'p Profile, site: &'p ProfileSite) -> Self {
        Self {
            kind: site.kind,
            frames: profile.stack(site).collect(),
            amounts: site.amounts,
            ci95: site.live_bytes_ci95,
        }
    }

    fn add(&mut self, other: &Self) {
        let half = |a: u64, b: u64| (a as f64).hypot(b as f64) as u64;
        let below = half(self.below(), other.below());
        let above = half(self.above(), other.above());
        self.amounts = self.amounts.plus(other.amounts);
        let live = self.amounts.live_bytes;
        self.ci95 = [live.saturating_sub(below), live.saturating_add(above)];
    }

    fn below(&self) -> u64 {
        self.amounts.live_bytes.saturating_sub(self.ci95[0])
    }

    fn above(&self) -> u64 {
        self.ci95[1].saturating_sub(self.amounts.live_bytes)
    }

    fn key(&self, level: Joined) -> Key<'p> {
        let place = |frame: &&'p Frame| Place {
            build_id: frame.build_id.as_deref().filter(|_| level == Joined::BuildId),
            function: frame.function.as_str(),
            line: frame.line.filter(|_| level != Joined::Function),
        };
        (self.kind, self.frames.iter().map(place).collect())
    }

    fn lines(&self) -> impl Iterator<Item = Option<u32>> + '_ {
        self.frames.iter().map(|frame| frame.line)
    }

    /// Whether every function is known to be of the same build: then another line is another site.
    fn is_of_same_code(&self, other: &Self) -> bool {
        let build_ids = |side: &Self| {
            side.frames.iter().map(|frame| frame.build_id.clone()).collect::<Option<Vec<_>>>()
        };
        build_ids(self).is_some_and(|own| build_ids(other) == Some(own))
    }
}

impl<'p> Pair<'p> {
    fn side(&self) -> Option<&Side<'p>> {
        self.after.as_ref().or(self.before.as_ref())
    }

    pub(super) fn kind(&self) -> &'static str {
        self.side().map_or("allocation", |side| side.kind)
    }

    pub(super) fn frames(&self) -> Vec<&'p Frame> {
        self.side().map(|side| side.frames.clone()).unwrap_or_default()
    }

    /// What puts pairs in order that are alike otherwise.
    pub(super) fn names(&self) -> Vec<(&'p str, Option<u32>)> {
        let names = self.frames().into_iter().map(|frame| (frame.function.as_str(), frame.line));
        names.collect()
    }

    pub(super) fn place(&self) -> String {
        let frames: Vec<Frame> = self.frames().into_iter().cloned().collect();
        shown_place(&frames)
    }

    /// Live bytes now.
    pub(super) fn live_bytes(&self) -> u64 {
        self.after.as_ref().map_or(0, |side| side.amounts.live_bytes)
    }

    /// Live bytes before.
    pub(super) fn live_bytes_before(&self) -> u64 {
        self.before.as_ref().map_or(0, |side| side.amounts.live_bytes)
    }

    fn change(&self, of: impl Fn(&Amounts) -> u64) -> i64 {
        let value = |side: &Option<Side<'_>>| side.as_ref().map_or(0, |side| of(&side.amounts));
        difference(value(&self.after), value(&self.before))
    }

    pub(super) fn growth_bytes(&self) -> i64 {
        self.change(|amounts| amounts.live_bytes)
    }

    pub(super) fn growth_count(&self) -> i64 {
        self.change(|amounts| amounts.live_count)
    }

    /// The samples of both are taken for independent: widths add up as squares.
    pub(super) fn growth_bytes_ci95(&self) -> [i64; 2] {
        let widths = |side: &Option<Side<'_>>| {
            let side = side.as_ref();
            (side.map_or(0, Side::below) as f64, side.map_or(0, Side::above) as f64)
        };
        let (before, after) = (widths(&self.before), widths(&self.after));
        let growth = self.growth_bytes();
        let below = after.0.hypot(before.1) as i64;
        let above = after.1.hypot(before.0) as i64;
        [growth.saturating_sub(below), growth.saturating_add(above)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile with sites of one caller and one leaf: build id, line of the leaf, live bytes.
    fn profile(sites: &[(Option<&str>, u32, u64)]) -> Profile {
        let mut profile = Profile::default();
        for (build_id, line, live_bytes) in sites {
            let frame = |function: &str, line: u32| Frame {
                function: function.to_owned(),
                file: Some("main.go".to_owned()),
                line: Some(line),
                module: Some("/svc".to_owned()),
                build_id: build_id.map(str::to_owned),
                offset: u64::from(line),
                inlined: false,
            };
            let stack = [frame("leaf", *line), frame("main", 100)];
            let stack = stack.iter().map(|frame| profile.frames.intern(frame)).collect();
            profile.sites.push(ProfileSite {
                process: 0,
                kind: "allocation",
                stack,
                amounts: Amounts { live_bytes: *live_bytes, live_count: 1, ..Amounts::default() },
                freed_bytes: None,
                live_bytes_ci95: [*live_bytes; 2],
                oldest_age_s: None,
                history: Vec::new(),
            });
        }
        profile
    }

    fn growths(before: &Profile, after: &Profile) -> Vec<(i64, Option<Joined>)> {
        let pairs = joined(before, after);
        let mut growths: Vec<_> =
            pairs.iter().map(|pair| (pair.growth_bytes(), pair.joined_by)).collect();
        growths.sort_by_key(|growth| growth.0);
        growths
    }

    #[test]
    fn lines_of_the_same_build_are_sites_of_their_own() {
        let before = profile(&[(Some("aa"), 10, 100), (Some("aa"), 20, 5)]);
        let after = profile(&[(Some("aa"), 10, 300), (Some("aa"), 30, 7)]);
        let expected = [(-5, None), (7, None), (200, Some(Joined::BuildId))];
        assert_eq!(growths(&before, &after), expected);
    }

    #[test]
    fn another_build_joins_by_line_and_moved_lines_by_function() {
        let before = profile(&[(Some("aa"), 10, 100), (Some("aa"), 20, 5)]);
        let after = profile(&[(Some("bb"), 10, 300), (Some("bb"), 23, 7)]);
        let expected = [(2, Some(Joined::Function)), (200, Some(Joined::Line))];
        assert_eq!(growths(&before, &after), expected);
    }

    #[test]
    fn sites_of_one_function_stay_in_order_when_all_lines_move() {
        let before = profile(&[(None, 20, 1000), (None, 10, 1)]);
        let after = profile(&[(None, 11, 2), (None, 21, 1500)]);
        let expected = [(1, Some(Joined::Function)), (500, Some(Joined::Function))];
        assert_eq!(growths(&before, &after), expected);
    }

    #[test]
    fn sites_alike_but_for_their_address_are_one() {
        let profile = profile(&[(Some("aa"), 10, 100), (Some("aa"), 10, 50)]);
        assert_eq!(sides(&profile).len(), 1);
        assert_eq!(growths(&Profile::default(), &profile), [(150, None)]);
        assert_eq!(growths(&profile, &Profile::default()), [(-150, None)]);
    }
}
