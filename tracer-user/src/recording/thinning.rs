//! Old snapshots are thinned out: of those older than a day one each ten minutes stays, of those older than a week one each hour.
//!
//! In: a recording, the time. Out: fewer snapshots. All counts of a report are sums since tracing began, so none is lost with them.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::RecordingError;
use super::segment::Segment;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// Ages from which on snapshots are so far apart.
const TIERS: [(i64, i64); 2] = [(DAY_MS, 10 * MINUTE_MS), (7 * DAY_MS, 60 * MINUTE_MS)];
/// Segments thinned at a time: more than are written meanwhile, and little work.
const AT_A_TIME: usize = 4;

/// A snapshot of a segment that is being thinned.
struct Old {
    id: i64,
    at_ms: i64,
    missed_before: i64,
    sites: Vec<u8>,
}

/// Thins some of what is due, except the segments that are still written to.
pub(super) fn thin(
    connection: &mut Connection,
    now_ms: i64,
    in_use: &[i64],
) -> Result<(), RecordingError> {
    for (age_ms, spacing_ms) in TIERS {
        for _ in 0..AT_A_TIME {
            let transaction = connection.transaction()?;
            let due = due(&transaction, now_ms - age_ms, spacing_ms, in_use)?;
            let Some(segment) = due else { break };
            thin_segment(&transaction, segment, spacing_ms)?;
            transaction.commit()?;
        }
    }
    Ok(())
}

fn due(
    transaction: &Transaction<'_>,
    before_ms: i64,
    spacing_ms: i64,
    in_use: &[i64],
) -> Result<Option<i64>, RecordingError> {
    let in_use: Vec<String> = in_use.iter().map(i64::to_string).collect();
    let query = format!(
        "SELECT segment FROM snapshots WHERE spacing_ms < ?1 AND segment NOT IN ({}) \
         GROUP BY segment HAVING max(at_ms) < ?2 LIMIT 1",
        in_use.join(",")
    );
    let found = transaction.query_row(&query, [spacing_ms, before_ms], |row| row.get(0));
    Ok(found.optional()?)
}

/// Keeps the last snapshot of each stretch of time.
fn thin_segment(
    transaction: &Transaction<'_>,
    segment: i64,
    spacing_ms: i64,
) -> Result<(), RecordingError> {
    let old = snapshots(transaction, segment)?;
    let (mut reader, mut writer) = (Segment::default(), Segment::default());
    let (mut first_kept, mut missed) = (None, 0);
    for (place, snapshot) in old.iter().enumerate() {
        reader.decode(&snapshot.sites)?;
        missed += snapshot.missed_before;
        let stretch = |snapshot: &Old| snapshot.at_ms.div_euclid(spacing_ms);
        let is_last = old.get(place + 1).is_none_or(|next| stretch(next) != stretch(snapshot));
        if !is_last {
            transaction.execute("DELETE FROM snapshots WHERE id = ?", [snapshot.id])?;
            continue;
        }
        let rows: Vec<_> = reader.present().map(|(site, row)| (site, *row)).collect();
        let sites = writer.encode(&rows)?;
        let kept_segment = *first_kept.get_or_insert(snapshot.id);
        transaction.execute(
            "UPDATE snapshots SET segment = ?, spacing_ms = ?, missed_before = ?, sites = ? WHERE id = ?",
            params![kept_segment, spacing_ms, std::mem::take(&mut missed), sites, snapshot.id],
        )?;
    }
    Ok(())
}

fn snapshots(transaction: &Transaction<'_>, segment: i64) -> Result<Vec<Old>, RecordingError> {
    let mut query = transaction.prepare_cached(
        "SELECT id, at_ms, missed_before, sites FROM snapshots WHERE segment = ? ORDER BY id",
    )?;
    let snapshots = query.query_map([segment], |row| {
        Ok(Old {
            id: row.get(0)?,
            at_ms: row.get(1)?,
            missed_before: row.get(2)?,
            sites: row.get(3)?,
        })
    })?;
    Ok(snapshots.collect::<Result<_, _>>()?)
}
