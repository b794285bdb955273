//! Reading a recording.
//!
//! In: the file. Out: what it holds, and the report of any of its moments.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::codec::unpack;
use super::columns::{NONE, REASON, RETAINED_BY, Row, VERDICT, fill};
use super::segment::Segment;
use super::stored::Stored;
use super::{RecordingError, schema};
use crate::report::model::{Report, Site};
use crate::report::words;

/// How long a writer may hold the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program in a container, through all its restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesInfo {
    /// Its id in the file.
    pub id: i64,
    /// The program.
    pub exe: String,
    /// Its name.
    pub comm: String,
    /// The PIDs that it had, in their order.
    pub pids: Vec<u32>,
    /// Snapshots of it.
    pub snapshots: u64,
}

/// A snapshot, without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its id in the file.
    pub id: i64,
    /// When it was, milliseconds since 1970.
    pub at_ms: i64,
    /// Snapshots before it that could not be written.
    pub missed_before: i64,
    /// Live bytes of all sites.
    pub live_bytes: u64,
}

/// A recording that is read.
#[derive(Debug)]
pub struct Recording {
    pub(super) connection: Connection,
}

impl Recording {
    /// Opens it. A writer may be at work.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        // SQLite would say only that it cannot.
        drop(std::fs::File::open(path)?);
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(PATIENCE)?;
        schema::check(&connection)?;
        Ok(Self { connection })
    }

    /// Whether a file looks like a database, whatever is in it.
    pub fn is_one(start: &[u8]) -> bool {
        start.starts_with(b"SQLite format 3\0")
    }

    /// All series, the one recorded last first.
    pub fn series(&self) -> Result<Vec<SeriesInfo>, RecordingError> {
        let mut query = self.connection.prepare(
            "SELECT series.id, exe, comm, (SELECT json_group_array(pid) FROM \
               (SELECT pid FROM runs WHERE series = series.id ORDER BY id)), count(snapshots.id) \
             FROM series JOIN runs ON runs.series = series.id LEFT JOIN snapshots ON snapshots.run = runs.id \
             GROUP BY series.id ORDER BY max(snapshots.id) DESC",
        )?;
        let series = query.query_map([], |row| {
            let pids: String = row.get(3)?;
            Ok(SeriesInfo {
                id: row.get(0)?,
                exe: row.get(1)?,
                comm: row.get(2)?,
                pids: serde_json::from_str(&pids).unwrap_or_default(),
                snapshots: row.get::<_, i64>(4)? as u64,
            })
        })?;
        Ok(series.collect::<Result<_, _>>()?)
    }

    /// The snapshots of a series, in their order.
    pub fn moments(&self, series: i64) -> Result<Vec<Moment>, RecordingError> {
        let mut query = self.connection.prepare(
            "SELECT snapshots.id, at_ms, missed_before, live_bytes FROM snapshots \
             JOIN runs ON runs.id = run WHERE series = ? ORDER BY snapshots.id",
        )?;
        let moments = query.query_map([series], |row| {
            Ok(Moment {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                missed_before: row.get(2)?,
                live_bytes: row.get::<_, i64>(3)? as u64,
            })
        })?;
        Ok(moments.collect::<Result<_, _>>()?)
    }

    /// The last snapshot of a series at or before a time; the last of all without one.
    pub fn moment_at(
        &self,
        series: i64,
        at_ms: Option<i64>,
    ) -> Result<Option<Moment>, RecordingError> {
        let moments = self.moments(series)?;
        let wanted = |moment: &&Moment| at_ms.is_none_or(|at_ms| moment.at_ms <= at_ms);
        Ok(moments.iter().rev().find(wanted).copied())
    }

    /// The report of a snapshot, with all its sites, the largest first.
    pub fn report(&self, moment: Moment) -> Result<Report, RecordingError> {
        Ok(self.report_and_ids(moment)?.0)
    }

    /// The same, and the ids of its sites.
    pub(super) fn report_and_ids(
        &self,
        moment: Moment,
    ) -> Result<(Report, Vec<i64>), RecordingError> {
        let found = self.connection.query_row(
            "SELECT segment, report FROM snapshots WHERE id = ?",
            [moment.id],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
        );
        let found = found.optional()?;
        let (segment, report) = found.ok_or(RecordingError::Damaged("a snapshot has gone"))?;
        let mut report: Report = serde_json::from_slice(&unpack(&report)?)
            .map_err(|_| RecordingError::Damaged("a report cannot be read"))?;
        let segment = self.segment(segment, moment.id)?;
        let stored = Stored::read(&self.connection)?;
        let sites = segment.present().map(|(id, row)| Ok((site(&stored, id, row)?, id)));
        let mut sites = sites.collect::<Result<Vec<_>, RecordingError>>()?;
        sites.sort_by_key(|(site, _)| {
            std::cmp::Reverse((site.kind == "allocation", site.live_bytes))
        });
        for (place, (site, _)) in sites.iter_mut().enumerate() {
            site.rank = place + 1;
        }
        let (sites, ids) = sites.into_iter().unzip();
        report.sites = sites;
        Ok((report, ids))
    }

    /// A segment, up to a snapshot.
    fn segment(&self, segment: i64, last: i64) -> Result<Segment, RecordingError> {
        let mut query = self.connection.prepare_cached(
            "SELECT sites FROM snapshots WHERE segment = ? AND id <= ? ORDER BY id",
        )?;
        let mut rows = query.query([segment, last])?;
        let mut segment = Segment::default();
        while let Some(row) = rows.next()? {
            segment.decode(&row.get::<_, Vec<u8>>(0)?)?;
        }
        Ok(segment)
    }
}

/// A site, with its numbers.
fn site(stored: &Stored<'_>, id: i64, row: &Row) -> Result<Site, RecordingError> {
    let of_file = stored.site(id)?;
    let word = |text: &str| {
        words::find(text).ok_or(RecordingError::Damaged("a word is none of the contract's"))
    };
    let text = |place: usize| stored.text(row[place]);
    let mut site = Site {
        kind: word(&of_file.kind)?,
        backing: (!of_file.backing.is_empty()).then(|| word(&of_file.backing)).transpose()?,
        type_name: of_file.type_name,
        stack_end: word(&of_file.stack_end)?,
        frames: of_file.frames,
        verdict: word(&text(VERDICT)?)?,
        verdict_reason: text(REASON)?,
        retained_by: (row[RETAINED_BY] != NONE).then(|| text(RETAINED_BY)).transpose()?,
        ..Site::default()
    };
    fill(&mut site, row);
    Ok(site)
}
