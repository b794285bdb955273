//! Call stacks and what each holds, every frame kept once.
//!
//! In: the reports of a run, of one process or of several; or a file that [`super::import`] reads. Out: a [`Profile`], which every export is
//! written from.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, UNIX_EPOCH};

use super::build::Sort;
use super::holdings;
use super::model::{Report, Site, TargetSection};
use super::timeline::Timeline;
use crate::symbolise::Frame;
use crate::units::human_size;

/// A frame of a [`Profile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(u32);

/// Distinct frames.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    list: Vec<Frame>,
    ids: HashMap<Frame, FrameId>,
}

impl Frames {
    /// The frame's number; a new one when it was not seen before.
    pub fn intern(&mut self, frame: &Frame) -> FrameId {
        if let Some(id) = self.ids.get(frame) {
            return *id;
        }
        // More frames than a u32 counts do not fit in memory.
        let id = FrameId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push(frame.clone());
        self.ids.insert(frame.clone(), id);
        id
    }

    /// The frame with a number that [`Frames::intern`] gave.
    pub fn get(&self, id: FrameId) -> &Frame {
        &self.list[id.0 as usize]
    }

    /// All of them, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (FrameId, &Frame)> {
        (0..).map(FrameId).zip(&self.list)
    }
}

/// Blocks and their bytes, allocated and live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Amounts {
    /// Blocks allocated.
    pub allocated_count: u64,
    /// Their bytes.
    pub allocated_bytes: u64,
    /// Blocks not freed.
    pub live_count: u64,
    /// Their bytes.
    pub live_bytes: u64,
}

impl Amounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            allocated_count: self.allocated_count.saturating_add(other.allocated_count),
            allocated_bytes: self.allocated_bytes.saturating_add(other.allocated_bytes),
            live_count: self.live_count.saturating_add(other.live_count),
            live_bytes: self.live_bytes.saturating_add(other.live_bytes),
        }
    }
}

/// A call stack and what it holds.
#[derive(Clone, Debug)]
pub struct ProfileSite {
    /// Which of [`Profile::processes`].
    pub process: usize,
    /// `allocation` or `mapping`.
    pub kind: &'static str,
    /// Leaf first; empty when it was not kept.
    pub stack: Vec<FrameId>,
    /// What it holds.
    pub amounts: Amounts,
    /// Bytes freed; `None` when only what was allocated and what is live of it tells.
    pub freed_bytes: Option<u64>,
    /// 95 % interval of the live bytes.
    pub live_bytes_ci95: [u64; 2],
    /// Age of the oldest live block, where that is known.
    pub oldest_age_s: Option<f64>,
    /// Its live bytes at the moments of its process's timeline; empty when it has no line.
    pub history: Vec<u64>,
}

impl ProfileSite {
    /// Bytes freed. Where nothing tells, what was allocated and is not live; `None` when more is live than was allocated, since
    /// some of it was there before.
    pub fn freed_bytes(&self) -> Option<u64> {
        let rest = self.amounts.allocated_bytes.checked_sub(self.amounts.live_bytes);
        self.freed_bytes.or(rest)
    }
}

/// Call stacks of one process or of several.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The processes.
    pub processes: Vec<TargetSection>,
    /// What each of them held before, by its place; where nothing is known of that, there is none.
    pub timelines: BTreeMap<usize, Timeline>,
    /// Their call sites, process by process.
    pub sites: Vec<ProfileSite>,
    /// The frames of all stacks.
    pub frames: Frames,
    /// The instant of what is live, nanoseconds since 1970; 0 when it is not known.
    pub end_ns: u64,
    /// The time observed, seconds; 0 for an instant.
    pub seconds: f64,
    /// How allocations were chosen: the contract's word.
    pub mode: &'static str,
    /// Mean bytes between samples; 0 when everything is recorded, or nothing is known of it.
    pub mean_bytes: u64,
    /// What a reader must know: where it is from, how it was sampled, what was lost.
    pub notices: Vec<String>,
}

impl Profile {
    /// Puts reports together.
    pub fn of(reports: &[Report]) -> Self {
        let mut profile = Self::default();
        for report in reports {
            profile.add(report);
        }
        profile
    }

    fn add(&mut self, report: &Report) {
        let process = self.processes.len();
        self.processes.push(report.target.clone());
        self.timelines.extend(report.timeline.clone().map(|timeline| (process, timeline)));
        for site in &report.sites {
            let path = site.held.as_ref().map(|held| holdings::path(site, held));
            let frames = site.raw_frames.as_ref().unwrap_or(&site.frames);
            let frames = path.as_ref().map_or(frames.as_slice(), |path| path.as_slice());
            let stack = frames.iter().map(|frame| self.frames.intern(frame)).collect();
            self.sites.push(ProfileSite {
                process,
                kind: if site.held.is_some() { "allocation" } else { site.kind },
                stack,
                amounts: amounts(site),
                freed_bytes: site.freed_bytes,
                live_bytes_ci95: site.live_bytes_ci95,
                oldest_age_s: site.oldest_age_s.filter(|_| site.live_count > 0),
                history: site.history.clone(),
            });
        }
        self.end_ns = self.end_ns.max(unix_ns(&report.window.end));
        self.seconds = self.seconds.max(report.window.seconds);
        self.mode = report.sampling.mode;
        self.mean_bytes = self.mean_bytes.max(report.sampling.mean_bytes);
        self.notices.extend(notices(report));
    }

    /// The frames of a site, leaf first.
    pub fn stack<'p>(
        &'p self,
        site: &'p ProfileSite,
    ) -> impl DoubleEndedIterator<Item = &'p Frame> + ExactSizeIterator {
        site.stack.iter().map(|id| self.frames.get(*id))
    }

    /// The sum of all sites.
    pub fn totals(&self) -> Amounts {
        self.sites.iter().fold(Amounts::default(), |sum, site| sum.plus(site.amounts))
    }

    /// Keeps the largest sites only; a notice tells how many there are besides.
    pub fn keep_top(&mut self, sort: Sort, top: usize) {
        let omitted = self.sites.len().saturating_sub(top);
        if omitted > 0 {
            self.sites = self.ordered(sort).into_iter().take(top).cloned().collect();
            self.notices.push(format!("{omitted} sites beyond --top are left out"));
        }
    }

    /// The sites, largest first; equal ones in the order they are in.
    pub fn ordered(&self, sort: Sort) -> Vec<&ProfileSite> {
        let key = |site: &ProfileSite| match sort {
            // Of an instant there is no growth.
            Sort::Live | Sort::Growth => site.amounts.live_bytes as f64,
            Sort::Count => site.amounts.live_count as f64,
            Sort::Age => site.oldest_age_s.unwrap_or(0.0),
            Sort::Allocated => site.amounts.allocated_bytes as f64,
        };
        let mut order: Vec<_> = self.sites.iter().collect();
        order.sort_by(|a, b| key(b).total_cmp(&key(a)));
        order
    }

    /// The instant of what is live, RFC 3339, if it is known.
    pub fn time(&self) -> Option<String> {
        let time = UNIX_EPOCH + Duration::from_nanos(self.end_ns);
        (self.end_ns > 0).then(|| humantime::format_rfc3339_millis(time).to_string())
    }

    /// What a person calls a process, where there are several.
    pub fn process_name(&self, site: &ProfileSite) -> Option<String> {
        let process = self.processes.get(site.process).filter(|_| self.processes.len() > 1)?;
        Some(format!("{} (PID {})", process.comm, process.pid))
    }
}

fn amounts(site: &Site) -> Amounts {
    Amounts {
        allocated_count: site.allocated_count,
        allocated_bytes: site.allocated_bytes,
        live_count: site.live_count,
        live_bytes: site.live_bytes,
    }
}

/// Milliseconds since 1970 of a report's time.
pub(super) fn unix_ms(time: &str) -> i64 {
    i64::try_from(unix_ns(time) / 1_000_000).unwrap_or(i64::MAX)
}

fn unix_ns(time: &str) -> u64 {
    let since = humantime::parse_rfc3339(time).ok().and_then(|time| {
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_nanos()).ok()
    });
    since.unwrap_or(0)
}

/// What the numbers are, and what they lack, a line each.
fn notices(report: &Report) -> Vec<String> {
    let target = &report.target;
    let sampling = match (report.sampling.mode, report.sampling.mean_bytes) {
        ("exact", _) => "every allocation recorded".to_owned(),
        (mode, 0) => format!("sampling: {mode}"),
        (mode, mean) => format!("sampling: {mode}, one in {} on average", human_size(mean as f64)),
    };
    let mut lines = vec![
        format!("outlive {} pid={} {}", env!("CARGO_PKG_VERSION"), target.pid, target.comm),
        sampling,
    ];
    if !report.is_instant() {
        lines.push(format!("traced for {} s", report.window.seconds));
    }
    lines.push(loss(report));
    let omitted = report.sites_omitted
        + report.mappings.as_ref().map_or(0, |mappings| mappings.sites_omitted);
    if omitted > 0 {
        lines.push(format!("{omitted} sites beyond --top are left out"));
    }
    lines.extend(report.loss.notices.iter().cloned());
    lines
}

fn loss(report: &Report) -> String {
    let loss = &report.loss;
    format!(
        "lost: {} events, {} allocations not followed, {} calls without a return, {} stacks incomplete",
        loss.lost_events, loss.untracked_allocations, loss.missed_returns, loss.incomplete_stacks
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;

    #[test]
    fn what_a_report_holds_is_in_its_profile() {
        let report = fixture::report(None, 10);
        let profile = Profile::of(std::slice::from_ref(&report));
        assert_eq!(profile.sites.len(), report.sites.len());
        let live: u64 = report.sites.iter().map(|site| site.live_bytes).sum();
        assert_eq!(profile.totals().live_bytes, live);
        for (site, kept) in report.sites.iter().zip(&profile.sites) {
            assert!(profile.stack(kept).eq(&site.frames));
        }
        assert_eq!(profile.end_ns, 1_800_000_030_250_000_000);
        assert!(profile.notices.iter().any(|notice| notice.starts_with("lost: 3 events")));
    }

    #[test]
    fn processes_are_named_where_there_are_several() {
        let report = fixture::report(None, 10);
        let one = Profile::of(std::slice::from_ref(&report));
        assert_eq!(one.process_name(&one.sites[0]), None);
        let two = Profile::of(&[report.clone(), report]);
        assert_eq!(two.process_name(&two.sites[4]).as_deref(), Some("svc (PID 4242)"));
        assert_eq!(two.totals().live_bytes, 2 * one.totals().live_bytes);
    }

    #[test]
    fn what_is_left_out_is_told() {
        let profile = Profile::of(&[fixture::report(None, 2)]);
        assert!(profile.notices.contains(&"2 sites beyond --top are left out".to_owned()));
    }
}
