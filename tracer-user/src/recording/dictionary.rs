//! What a recording keeps once: strings, frames, stacks, sites.
//!
//! In: a site of a report. Out: its id, the same for the same site for as long as the file lives.

use foldhash::HashMap;
use rusqlite::{Connection, params};

use super::RecordingError;
use crate::report::model::Site;
use crate::symbolise::Frame;

/// A frame, its texts as ids of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FrameRow {
    pub(super) function: i64,
    pub(super) file: Option<i64>,
    pub(super) line: Option<u32>,
    pub(super) module: Option<i64>,
    pub(super) build_id: Option<i64>,
    pub(super) address: i64,
    pub(super) inlined: bool,
}

/// What makes a site the same site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SiteKey {
    series: i64,
    kind: String,
    backing: String,
    type_name: Option<i64>,
    stack_end: String,
    stack: i64,
    /// Sites of one report that differ only in the allocator's own frames are counted from 0.
    twin: i64,
}

/// Everything that has an id already. Each snapshot asks for every frame of every site: the hash is a fast one.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    strings: HashMap<String, i64>,
    frames: HashMap<FrameRow, i64>,
    /// By the ids of their frames.
    stacks: HashMap<Vec<i64>, i64>,
    sites: HashMap<SiteKey, i64>,
}

impl Dictionary {
    /// Reads what the file has.
    pub(super) fn load(connection: &Connection) -> Result<Self, RecordingError> {
        let mut stacks = connection.prepare("SELECT frames, id FROM stacks")?;
        let stacks =
            stacks.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let stacks = stacks.map(|row| {
            let (frames, id) = row?;
            Ok::<_, RecordingError>((frame_ids(&frames)?, id))
        });
        let mut sites = connection
            .prepare("SELECT series, kind, backing, type, stack_end, stack, twin, id FROM sites")?;
        let sites = sites.query_map([], |row| {
            let site = SiteKey {
                series: row.get(0)?,
                kind: row.get(1)?,
                backing: row.get(2)?,
                type_name: row.get(3)?,
                stack_end: row.get(4)?,
                stack: row.get(5)?,
                twin: row.get(6)?,
            };
            Ok((site, row.get(7)?))
        })?;
        Ok(Self {
            strings: strings(connection)?,
            frames: frames(connection)?,
            stacks: stacks.collect::<Result<_, _>>()?,
            sites: sites.collect::<Result<_, _>>()?,
        })
    }

    /// The id of a text.
    pub(super) fn string(
        &mut self,
        connection: &Connection,
        text: &str,
    ) -> Result<i64, RecordingError> {
        if let Some(id) = self.strings.get(text) {
            return Ok(*id);
        }
        let id = add(connection, "INSERT INTO strings (text) VALUES (?)", params![text])?;
        self.strings.insert(text.to_owned(), id);
        Ok(id)
    }

    fn string_if_any(
        &mut self,
        connection: &Connection,
        text: Option<&str>,
    ) -> Result<Option<i64>, RecordingError> {
        text.map(|text| self.string(connection, text)).transpose()
    }

    fn frame(&mut self, connection: &Connection, frame: &Frame) -> Result<i64, RecordingError> {
        let row = FrameRow {
            function: self.string(connection, &frame.function)?,
            file: self.string_if_any(connection, frame.file.as_deref())?,
            line: frame.line,
            module: self.string_if_any(connection, frame.module.as_deref())?,
            build_id: self.string_if_any(connection, frame.build_id.as_deref())?,
            address: frame.offset as i64,
            inlined: frame.inlined,
        };
        if let Some(id) = self.frames.get(&row) {
            return Ok(*id);
        }
        let insert = "INSERT INTO frames (function, file, line, module, build_id, address, inlined) \
            VALUES (?, ?, ?, ?, ?, ?, ?)";
        let FrameRow { function, file, line, module, build_id, address, inlined } = row;
        let values = params![function, file, line, module, build_id, address, inlined];
        let id = add(connection, insert, values)?;
        self.frames.insert(row, id);
        Ok(id)
    }

    fn stack(&mut self, connection: &Connection, frames: &[Frame]) -> Result<i64, RecordingError> {
        let ids = frames.iter().map(|frame| self.frame(connection, frame));
        let ids = ids.collect::<Result<Vec<i64>, RecordingError>>()?;
        if let Some(id) = self.stacks.get(&ids) {
            return Ok(*id);
        }
        let text = serde_json::to_string(&ids).map_err(|error| RecordingError::Io(error.into()))?;
        let id = add(connection, "INSERT INTO stacks (frames) VALUES (?)", params![text])?;
        self.stacks.insert(ids, id);
        Ok(id)
    }

    /// What makes a site of a series the same site: the first of its kind in its report.
    pub(super) fn key(
        &mut self,
        connection: &Connection,
        series: i64,
        site: &Site,
    ) -> Result<SiteKey, RecordingError> {
        Ok(SiteKey {
            series,
            kind: site.kind.to_owned(),
            backing: site.backing.unwrap_or_default().to_owned(),
            type_name: self.string_if_any(connection, site.type_name.as_deref())?,
            stack_end: site.stack_end.to_owned(),
            stack: self.stack(connection, &site.frames)?,
            twin: 0,
        })
    }

    /// The id of a site.
    pub(super) fn site(
        &mut self,
        connection: &Connection,
        key: SiteKey,
        twin: i64,
    ) -> Result<i64, RecordingError> {
        let key = SiteKey { twin, ..key };
        if let Some(id) = self.sites.get(&key) {
            return Ok(*id);
        }
        let insert = "INSERT INTO sites (series, kind, backing, type, stack_end, stack, twin) \
            VALUES (?, ?, ?, ?, ?, ?, ?)";
        let SiteKey { series, kind, backing, type_name, stack_end, stack, twin } = &key;
        let values = params![series, kind, backing, type_name, stack_end, stack, twin];
        let id = add(connection, insert, values)?;
        self.sites.insert(key, id);
        Ok(id)
    }
}

/// All texts, with their ids.
pub(super) fn strings<C: FromIterator<(String, i64)>>(
    connection: &Connection,
) -> Result<C, RecordingError> {
    let mut strings = connection.prepare("SELECT text, id FROM strings")?;
    let strings = strings.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(strings.collect::<Result<_, _>>()?)
}

/// All frames, with their ids.
pub(super) fn frames<C: FromIterator<(FrameRow, i64)>>(
    connection: &Connection,
) -> Result<C, RecordingError> {
    let mut frames = connection.prepare(
        "SELECT function, file, line, module, build_id, address, inlined, id FROM frames",
    )?;
    let frames = frames.query_map([], |row| {
        let frame = FrameRow {
            function: row.get(0)?,
            file: row.get(1)?,
            line: row.get(2)?,
            module: row.get(3)?,
            build_id: row.get(4)?,
            address: row.get(5)?,
            inlined: row.get(6)?,
        };
        Ok((frame, row.get(7)?))
    })?;
    Ok(frames.collect::<Result<_, _>>()?)
}

/// The frames of a stack, from the text that is kept of it.
pub(super) fn frame_ids(text: &str) -> Result<Vec<i64>, RecordingError> {
    serde_json::from_str(text).map_err(|_| RecordingError::Damaged("a stack is no list of frames"))
}

fn add(
    connection: &Connection,
    insert: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<i64, RecordingError> {
    connection.prepare_cached(insert)?.execute(values)?;
    Ok(connection.last_insert_rowid())
}
