//! What grew between two profiles, by call site.
//!
//! In: two [`Profile`]s. Out: a [`Diff`], and it as text or JSON; folded stacks with two numbers, and their flame graph. Sites are joined
//! by `join`.

mod join;
pub mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use super::export::flamegraph::draw;
use super::export::folded;
use super::profile::{Amounts, Profile};
use super::stacks::{own_frame, place};
use crate::report::diff::join::{Joined, Pair, joined};
use crate::symbolise::Frame;
use crate::units::{Size, human_size};

/// The name and version of the contract. Additions are allowed, removals and changes of meaning are not.
pub const SCHEMA: &str = "outlive-diff/1";

/// What changed between two profiles.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The earlier profile.
    pub before: Side,
    /// The later profile.
    pub after: Side,
    /// Live bytes now, less those before.
    pub growth_bytes: i64,
    /// The same of blocks.
    pub growth_count: i64,
    /// The sum over the sites that grew.
    pub grown_bytes: u64,
    /// The sum over the sites that shrank.
    pub shrunk_bytes: u64,
    /// Sites, those that grew most first.
    pub sites: Vec<DiffSite>,
    /// Sites that changed but are beyond `--top`.
    pub sites_omitted: usize,
    /// Sites that hold as much as before.
    pub sites_unchanged: usize,
    /// The site that grew most, whatever is shown.
    #[serde(skip)]
    most: Option<(i64, String)>,
}

/// One of the two profiles.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// The file.
    pub file: String,
    /// The instant, RFC 3339; `null` when the file does not tell.
    pub at: Option<String>,
    /// Mean bytes between samples; 0 when everything was recorded, or it is not known.
    pub mean_bytes: u64,
    /// Live bytes of all sites.
    pub live_bytes: u64,
    /// Live blocks of all sites.
    pub live_count: u64,
    /// What a reader of the profile must know.
    pub notices: Vec<String>,
}

/// A call site in both profiles, or in one.
#[derive(Clone, Debug, Serialize)]
pub struct DiffSite {
    /// Place in the order, from 1.
    pub rank: usize,
    /// `allocation` or `mapping`.
    pub kind: &'static str,
    /// Live bytes now, less those before.
    pub growth_bytes: i64,
    /// Its 95 % interval; both ends equal the value when it is exact, or nothing is known of it.
    pub growth_bytes_ci95: [i64; 2],
    /// Live blocks now, less those before.
    pub growth_count: i64,
    /// What the site held; `null` when it was not there.
    pub before: Option<Amounts>,
    /// What the site holds; `null` when it is not there any more.
    pub after: Option<Amounts>,
    /// What tells that both are one site: `build-id`: functions and lines of the same build; `line`: functions and lines;
    /// `function`: functions, since lines have moved. `null` when it is in one profile only.
    pub joined_by: Option<Joined>,
    /// Leaf first: of the later profile, when the site is in it.
    pub frames: Vec<Frame>,
}

/// Compares two profiles, with the names of their files, and keeps so many sites.
pub fn compare(before: &Profile, after: &Profile, files: [String; 2], top: usize) -> Diff {
    let mut pairs = joined(before, after);
    pairs.sort_by(|a, b| {
        let by_size = b.live_bytes().cmp(&a.live_bytes());
        b.growth_bytes()
            .cmp(&a.growth_bytes())
            .then(by_size)
            .then_with(|| a.names().cmp(&b.names()))
    });
    let sum = |sign: i64| {
        let changes = pairs.iter().map(|pair| pair.growth_bytes().saturating_mul(sign));
        changes.filter(|change| *change > 0).fold(0_u64, |sum, c| sum.saturating_add(c as u64))
    };
    let (grown_bytes, shrunk_bytes) = (sum(1), sum(-1));
    let most = pairs.first().map(|pair| (pair.growth_bytes(), pair.place()));
    let all = pairs.len();
    pairs.retain(|pair| pair.growth_bytes() != 0 || pair.growth_count() != 0);
    let changed = pairs.len();
    let shown = pairs.iter().take(top).enumerate();
    let [before_file, after_file] = files;
    let (before, after) = (side(before, before_file), side(after, after_file));
    Diff {
        schema: SCHEMA,
        growth_bytes: difference(after.live_bytes, before.live_bytes),
        growth_count: difference(after.live_count, before.live_count),
        before,
        after,
        grown_bytes,
        shrunk_bytes,
        sites: shown.map(|(index, pair)| section(index + 1, pair)).collect(),
        sites_omitted: changed.saturating_sub(top),
        sites_unchanged: all - changed,
        most,
    }
}

/// One document, with a line feed at the end.
pub fn json(diff: &Diff) -> String {
    // Plain data to memory: it cannot fail.
    serde_json::to_string(diff).unwrap_or_default() + "\n"
}

/// A stack a line with what it held and what it holds, `root;caller;leaf 4096 8192`: what tools for flame graphs take for a difference.
pub fn folded(before: &Profile, after: &Profile) -> String {
    let mut stacks: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for pair in joined(before, after) {
        let names = pair.frames().into_iter().rev().map(|frame| folded::name(&frame.function));
        let (held, holds) = stacks.entry(folded::line(names)).or_default();
        *held = held.saturating_add(pair.live_bytes_before());
        *holds = holds.saturating_add(pair.live_bytes());
    }
    stacks.retain(|stack, (held, holds)| !stack.is_empty() && held.max(holds) > &mut 0);
    let lines = stacks.iter().map(|(stack, (held, holds))| format!("{stack} {held} {holds}\n"));
    lines.collect::<Vec<_>>().concat()
}

/// The flame graph of the later profile, red where it grew, blue where it shrank.
pub fn flamegraph(before: &Profile, after: &Profile) -> Vec<u8> {
    draw(&folded(before, after), "growth of live bytes", "bytes")
}

impl Diff {
    /// What grew by more than so much, in words; nothing when nothing did.
    pub fn growth_above(&self, limit: Size) -> Option<String> {
        let exceeds = |growth: i64| u64::try_from(growth).is_ok_and(|growth| growth > limit.bytes);
        let above = |growth: i64| format!("{}, more than {limit}", human_size(growth as f64));
        if exceeds(self.growth_bytes) {
            return Some(format!("live bytes grew by {}", above(self.growth_bytes)));
        }
        let (growth, place) = self.most.as_ref()?;
        exceeds(*growth).then(|| format!("{place} grew by {}", above(*growth)))
    }
}

fn side(profile: &Profile, file: String) -> Side {
    let Amounts { live_bytes, live_count, .. } = profile.totals();
    Side {
        file,
        at: profile.time(),
        mean_bytes: profile.mean_bytes,
        live_bytes,
        live_count,
        notices: profile.notices.clone(),
    }
}

fn section(rank: usize, pair: &Pair<'_>) -> DiffSite {
    DiffSite {
        rank,
        kind: pair.kind(),
        growth_bytes: pair.growth_bytes(),
        growth_bytes_ci95: pair.growth_bytes_ci95(),
        growth_count: pair.growth_count(),
        before: pair.before.as_ref().map(|site| site.amounts),
        after: pair.after.as_ref().map(|site| site.amounts),
        joined_by: pair.joined_by,
        frames: pair.frames().into_iter().cloned().collect(),
    }
}

/// The function and line that a person calls a site by.
fn shown_place(frames: &[Frame]) -> String {
    own_frame(frames).map_or_else(
        || "a site without a stack".to_owned(),
        |frame| format!("{} {}", frame.function, place(frame)).trim_end().to_owned(),
    )
}

fn difference(after: u64, before: u64) -> i64 {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    signed(after).saturating_sub(signed(before))
}
