//! The course of a program up to a moment of its recording.
//!
//! In: the file. Out: the report of that moment, with a timeline and, for its largest sites, what each held on the way.

use super::RecordingError;
use super::read::{Moment, Recording};
use super::segment::Segment;
use crate::report::model::Report;
use crate::report::timeline::{Break, Timeline, drawn, largest, sites_without_line, thinned_out};

/// A snapshot on the way.
struct Passed {
    id: i64,
    at_ms: i64,
    live_bytes: u64,
    segment: i64,
    run: i64,
    pid: u32,
    is_restart: bool,
}

impl Recording {
    /// The report of a moment of a series, with its course.
    pub fn report_with_course(
        &self,
        series: i64,
        moment: Moment,
    ) -> Result<Report, RecordingError> {
        // A recorder may thin out old snapshots meanwhile.
        let _one_state = self.connection.unchecked_transaction()?;
        let (mut report, ids) = self.report_and_ids(moment)?;
        let passed = self.passed(series, moment.id)?;
        let live_bytes: Vec<u64> = passed.iter().map(|passed| passed.live_bytes).collect();
        let drawn: Vec<&Passed> =
            drawn(&live_bytes).into_iter().map(|place| &passed[place]).collect();
        if drawn.len() < 2 {
            return Ok(report);
        }
        let places = largest(&report);
        let sites: Vec<i64> = places.iter().map(|place| ids[*place]).collect();
        let histories = self.histories(&drawn, &sites)?;
        for (place, history) in places.into_iter().zip(histories) {
            report.sites[place].history = history;
        }
        let notes =
            [thinned_out(drawn.len(), passed.len()), sites_without_line(report.sites.len())];
        report.timeline = Some(Timeline {
            at_ms: drawn.iter().map(|passed| passed.at_ms).collect(),
            live_bytes: drawn.iter().map(|passed| passed.live_bytes).collect(),
            breaks: breaks(&drawn),
            notes: notes.into_iter().flatten().collect(),
        });
        Ok(report)
    }

    fn passed(&self, series: i64, last: i64) -> Result<Vec<Passed>, RecordingError> {
        let mut query = self.connection.prepare(
            "SELECT snapshots.id, at_ms, live_bytes, segment, run, pid, is_restart FROM snapshots \
             JOIN runs ON runs.id = run WHERE series = ? AND snapshots.id <= ? ORDER BY snapshots.id",
        )?;
        let passed = query.query_map([series, last], |row| {
            Ok(Passed {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                live_bytes: row.get::<_, i64>(2)? as u64,
                segment: row.get(3)?,
                run: row.get(4)?,
                pid: row.get(5)?,
                is_restart: row.get(6)?,
            })
        })?;
        Ok(passed.collect::<Result<_, _>>()?)
    }

    /// What each of the sites held at each of the moments; nothing where it was not there.
    fn histories(&self, drawn: &[&Passed], sites: &[i64]) -> Result<Vec<Vec<u64>>, RecordingError> {
        let mut histories = vec![Vec::with_capacity(drawn.len()); sites.len()];
        let mut query = self
            .connection
            .prepare("SELECT id, sites FROM snapshots WHERE segment = ? AND id <= ? ORDER BY id")?;
        for of_segment in drawn.chunk_by(|a, b| a.segment == b.segment) {
            let mut wanted = of_segment.iter().peekable();
            let Some(last) = of_segment.last() else { continue };
            let mut rows = query.query([last.segment, last.id])?;
            let mut segment = Segment::default();
            while let Some(row) = rows.next()? {
                segment.decode(&row.get::<_, Vec<u8>>(1)?)?;
                let id: i64 = row.get(0)?;
                if wanted.next_if(|wanted| wanted.id == id).is_some() {
                    for (history, site) in histories.iter_mut().zip(sites) {
                        history.push(segment.live_bytes(*site));
                    }
                }
            }
            if wanted.next().is_some() {
                return Err(RecordingError::Damaged("a snapshot is not in its segment"));
            }
        }
        Ok(histories)
    }
}

fn breaks(drawn: &[&Passed]) -> Vec<Break> {
    let pairs = drawn.windows(2).enumerate().filter(|(_, pair)| pair[0].run != pair[1].run);
    pairs
        .map(|(place, pair)| {
            let (before, after) = (pair[0].pid, pair[1].pid);
            let why = if before != after || pair[1].is_restart {
                format!("the program was restarted: PID {before}, then {after}")
            } else {
                format!("recording began anew: PID {after}")
            };
            Break { first: place + 1, why }
        })
        .collect()
}
