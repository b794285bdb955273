//! The tables of a recording (`docs/recording.md`).

use rusqlite::Connection;

use super::RecordingError;

/// `outl`: what tells a recording from other databases (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x6f75_746c;
/// The version of the tables and of what is in the blobs (`PRAGMA user_version`).
const FORMAT: i64 = 1;

const TABLES: &str = "
CREATE TABLE strings (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE frames (
    id INTEGER PRIMARY KEY,
    function INTEGER NOT NULL REFERENCES strings,
    file INTEGER REFERENCES strings,
    line INTEGER,
    module INTEGER REFERENCES strings,
    build_id INTEGER REFERENCES strings,
    address INTEGER NOT NULL,
    inlined INTEGER NOT NULL
);
CREATE TABLE stacks (id INTEGER PRIMARY KEY, frames TEXT NOT NULL UNIQUE);
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    exe TEXT NOT NULL,
    container_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    comm TEXT NOT NULL,
    UNIQUE (exe, container_id, ordinal)
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL REFERENCES series,
    pid INTEGER NOT NULL,
    process TEXT NOT NULL,
    traced_from_ms INTEGER NOT NULL,
    is_restart INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE sites (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL REFERENCES series,
    kind TEXT NOT NULL,
    backing TEXT NOT NULL,
    type INTEGER REFERENCES strings,
    stack_end TEXT NOT NULL,
    stack INTEGER NOT NULL REFERENCES stacks,
    twin INTEGER NOT NULL,
    live_bytes INTEGER NOT NULL DEFAULT 0,
    live_count INTEGER NOT NULL DEFAULT 0,
    allocated_bytes INTEGER NOT NULL DEFAULT 0,
    allocated_count INTEGER NOT NULL DEFAULT 0,
    freed_count INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs,
    segment INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    spacing_ms INTEGER NOT NULL,
    missed_before INTEGER NOT NULL,
    live_bytes INTEGER NOT NULL,
    live_count INTEGER NOT NULL,
    allocated_bytes INTEGER NOT NULL,
    allocated_count INTEGER NOT NULL,
    freed_count INTEGER NOT NULL,
    rss_bytes INTEGER NOT NULL,
    lost_events INTEGER NOT NULL,
    report BLOB NOT NULL,
    sites BLOB NOT NULL
);
CREATE INDEX snapshots_by_time ON snapshots (run, at_ms);
CREATE INDEX snapshots_by_spacing ON snapshots (spacing_ms, segment, at_ms);
CREATE INDEX snapshots_by_segment ON snapshots (segment);
CREATE VIEW latest AS
    SELECT series.exe, series.container_id, sites.id AS site, sites.live_bytes, sites.live_count,
        sites.allocated_bytes, sites.allocated_count, sites.freed_count,
        (SELECT group_concat(strings.text, ' < ') FROM json_each(stacks.frames) AS part
            JOIN frames ON frames.id = part.value JOIN strings ON strings.id = frames.function) AS stack
    FROM sites JOIN series ON series.id = sites.series JOIN stacks ON stacks.id = sites.stack;
";

/// Makes an empty file a recording, or checks that it is one of this version.
pub(super) fn prepare(connection: &Connection) -> Result<(), RecordingError> {
    // Readers go on while it is written. A crash of outlive loses no snapshot that was written; one of the host may lose the last ones.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    let is_empty: bool =
        connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
    if !is_empty {
        return check(connection);
    }
    connection.execute_batch(&format!(
        "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; {TABLES} COMMIT;"
    ))?;
    Ok(())
}

/// Checks that it is a recording of a version that is known.
pub(super) fn check(connection: &Connection) -> Result<(), RecordingError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if number("application_id")? != APPLICATION_ID {
        return Err(RecordingError::NotARecording);
    }
    match number("user_version")? {
        1..=FORMAT => Ok(()),
        other => Err(RecordingError::Newer(other, FORMAT)),
    }
}
