//! Writing a recording.
//!
//! In: reports of processes, in the order of their time. Out: a snapshot of each in the file, whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::codec::pack;
use super::columns::{self, NONE, REASON, RETAINED_BY, Row, VERDICT};
use super::dictionary::{Dictionary, SiteKey};
use super::lock::WriteLock;
use super::segment::Segment;
use super::{RecordingError, schema, thinning};
use crate::report::model::{Report, Site};

/// Snapshots in a segment: what is read at most to have one of them.
const SEGMENT_SNAPSHOTS: usize = 60;
/// How long another program may hold the file, such as sqlite3 with a transaction of its own.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that is about to be recorded.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Its program.
    pub exe: String,
    /// Its container, if any.
    pub container_id: Option<String>,
    /// Its name.
    pub comm: String,
    /// Its id.
    pub pid: u32,
    /// What no other process has: the host's boot, the PID, and the time of its start.
    pub process: String,
}

/// A process that is being recorded, by the id of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recorded(i64);

/// Live bytes and count, allocated bytes and count, frees.
type Latest = [i64; 5];

/// What is known of a run while it is written.
#[derive(Debug, Default)]
struct Run {
    series: i64,
    segment: Segment,
    segment_id: i64,
    /// Snapshots that could not be written since the last one that was.
    missed: i64,
    /// What the table of sites says of each.
    latest: HashMap<i64, Latest>,
}

/// A recording that is written to.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    dictionary: Dictionary,
    runs: BTreeMap<Recorded, Run>,
    // After the connection: see WriteLock.
    _lock: WriteLock,
}

impl Store {
    /// Opens a recording, to go on with it, or begins one.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let lock = WriteLock::take(path)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        schema::prepare(&connection)?;
        let dictionary = Dictionary::load(&connection)?;
        Ok(Self { connection, dictionary, runs: BTreeMap::new(), _lock: lock })
    }

    /// Begins a run of a process. The same program in the same container goes on with its series; another process of it is a restart.
    pub fn begin(&mut self, traced: &Traced, at_ms: i64) -> Result<Recorded, RecordingError> {
        let taken: Vec<i64> = self.runs.values().map(|run| run.series).collect();
        let transaction = self.connection.transaction()?;
        let series = series(&transaction, traced, &taken)?;
        let before: Option<String> = transaction
            .query_row(
                "SELECT process FROM runs WHERE series = ? ORDER BY id DESC LIMIT 1",
                [series],
                |row| row.get(0),
            )
            .optional()?;
        let is_restart = before.is_some_and(|before| before != traced.process);
        transaction.execute(
            "INSERT INTO runs (series, pid, process, traced_from_ms, is_restart) VALUES (?, ?, ?, ?, ?)",
            params![series, traced.pid, traced.process, at_ms, is_restart],
        )?;
        let run = Recorded(transaction.last_insert_rowid());
        transaction.commit()?;
        self.runs.insert(run, Run { series, ..Run::default() });
        Ok(run)
    }

    /// Adds a snapshot. One that cannot be written is missed, and counted in the next that can.
    pub fn add(
        &mut self,
        recorded: Recorded,
        report: &Report,
        at_ms: i64,
    ) -> Result<(), RecordingError> {
        let Self { connection, dictionary, runs, .. } = self;
        let Some(run) = runs.get_mut(&recorded) else { return Ok(()) };
        match write(connection, dictionary, run, recorded, report, at_ms) {
            Ok(after) => *run = after,
            Err(error) => {
                run.missed += 1;
                // Ids of what was rolled back are no ids any more.
                self.dictionary = Dictionary::load(&self.connection)?;
                return Err(error);
            }
        }
        let begins_segment = self.runs.get(&recorded).is_some_and(|run| run.segment.snapshots == 1);
        if begins_segment {
            let in_use: Vec<i64> = self.runs.values().map(|run| run.segment_id).collect();
            thinning::thin(&mut self.connection, at_ms, &in_use)?;
        }
        Ok(())
    }

    /// The database, for tests that make it fail.
    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ends a run: its process has ended.
    pub fn end(&mut self, recorded: Recorded) -> Result<(), RecordingError> {
        self.runs.remove(&recorded);
        self.connection.execute("UPDATE runs SET ended = 1 WHERE id = ?", [recorded.0])?;
        Ok(())
    }
}

/// The series of a program in a container: the first that is not `taken` by another process of it.
fn series(
    transaction: &Transaction<'_>,
    traced: &Traced,
    taken: &[i64],
) -> Result<i64, RecordingError> {
    let container = traced.container_id.as_deref().unwrap_or_default();
    let mut known = transaction
        .prepare("SELECT id FROM series WHERE exe = ? AND container_id = ? ORDER BY ordinal")?;
    let known = known.query_map([traced.exe.as_str(), container], |row| row.get(0))?;
    let known = known.collect::<Result<Vec<i64>, _>>()?;
    if let Some(free) = known.iter().find(|id| !taken.contains(id)) {
        return Ok(*free);
    }
    transaction.execute(
        "INSERT INTO series (exe, container_id, ordinal, comm) VALUES (?, ?, ?, ?)",
        params![traced.exe, container, known.len() as i64, traced.comm],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// Writes a snapshot in one transaction. Gives what the run is after it.
fn write(
    connection: &mut Connection,
    dictionary: &mut Dictionary,
    run: &Run,
    recorded: Recorded,
    report: &Report,
    at_ms: i64,
) -> Result<Run, RecordingError> {
    let transaction = connection.transaction()?;
    let rows = rows(&transaction, dictionary, run.series, &report.sites)?;
    let goes_on = (1..SEGMENT_SNAPSHOTS).contains(&run.segment.snapshots);
    let mut segment = if goes_on { run.segment.clone() } else { Segment::default() };
    let sites = segment.encode(&rows)?;
    let insert = "INSERT INTO snapshots (run, segment, at_ms, spacing_ms, missed_before, live_bytes, \
        live_count, allocated_bytes, allocated_count, freed_count, rss_bytes, lost_events, report, sites) \
        VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let totals = &report.totals;
    transaction.prepare_cached(insert)?.execute(params![
        recorded.0,
        run.segment_id,
        at_ms,
        run.missed,
        totals.live_bytes as i64,
        totals.live_count as i64,
        totals.allocated_bytes as i64,
        totals.allocated_count as i64,
        totals.freed_count as i64,
        report.memory.rss_bytes as i64,
        report.loss.lost_events as i64,
        pack(&without_sites(report)?)?,
        sites,
    ])?;
    let id = transaction.last_insert_rowid();
    if !goes_on {
        transaction.execute("UPDATE snapshots SET segment = id WHERE id = ?", [id])?;
    }
    let latest = update_sites(&transaction, &run.latest, &rows)?;
    transaction.commit()?;
    let segment_id = if goes_on { run.segment_id } else { id };
    Ok(Run { series: run.series, segment, segment_id, missed: 0, latest })
}

/// The report as JSON, without its sites, which are most of it: they are not copied for that.
fn without_sites(report: &Report) -> Result<Vec<u8>, RecordingError> {
    let report = Report {
        schema: report.schema,
        file: report.file.clone(),
        target: report.target.clone(),
        window: report.window.clone(),
        sampling: report.sampling.clone(),
        totals: report.totals.clone(),
        loss: report.loss.clone(),
        memory: report.memory.clone(),
        cost: report.cost.clone(),
        sites: Vec::new(),
        sites_omitted: report.sites_omitted,
        mappings: report.mappings.clone(),
        timeline: None,
    };
    serde_json::to_vec(&report).map_err(|error| RecordingError::Io(error.into()))
}

fn rows(
    transaction: &Transaction<'_>,
    dictionary: &mut Dictionary,
    series: i64,
    sites: &[Site],
) -> Result<Vec<(i64, Row)>, RecordingError> {
    let mut twins: HashMap<SiteKey, i64> = HashMap::new();
    let mut rows = Vec::with_capacity(sites.len());
    for site in sites {
        let key = dictionary.key(transaction, series, site)?;
        let twin = twins.entry(key.clone()).or_default();
        let id = dictionary.site(transaction, key, *twin)?;
        *twin += 1;
        let mut row = columns::row(site);
        row[VERDICT] = dictionary.string(transaction, site.verdict)?;
        row[REASON] = dictionary.string(transaction, &site.verdict_reason)?;
        row[RETAINED_BY] = match &site.retained_by {
            Some(text) => dictionary.string(transaction, text)?,
            None => NONE,
        };
        rows.push((id, row));
    }
    Ok(rows)
}

/// Brings the table of sites up to date, where that changes anything.
fn update_sites(
    transaction: &Transaction<'_>,
    before: &HashMap<i64, Latest>,
    rows: &[(i64, Row)],
) -> Result<HashMap<i64, Latest>, RecordingError> {
    let mut latest: HashMap<i64, Latest> =
        rows.iter().map(|(id, row)| (*id, [row[1], row[4], row[5], row[6], row[7]])).collect();
    for (id, [_, _, allocated_bytes, allocated_count, freed_count]) in before {
        latest.entry(*id).or_insert([0, 0, *allocated_bytes, *allocated_count, *freed_count]);
    }
    let mut update = transaction.prepare_cached(
        "UPDATE sites SET live_bytes = ?2, live_count = ?3, allocated_bytes = ?4, allocated_count = ?5, \
         freed_count = ?6 WHERE id = ?1",
    )?;
    for (id, values) in latest.iter().filter(|(id, values)| before.get(*id) != Some(*values)) {
        let [live_bytes, live_count, allocated_bytes, allocated_count, freed_count] = values;
        update.execute([
            id,
            live_bytes,
            live_count,
            allocated_bytes,
            allocated_count,
            freed_count,
        ])?;
    }
    Ok(latest)
}
