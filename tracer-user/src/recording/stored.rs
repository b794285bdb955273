//! What a recording keeps once, as its readers want it.
//!
//! In: the file. Out: sites, their frames in words.

use foldhash::HashMap;
use rusqlite::Connection;

use super::RecordingError;
use super::dictionary::{self, FrameRow};
use crate::symbolise::Frame;

/// All texts and frames. A report asks for most of them, and for many of them a thousand times: they are read in one go.
pub(super) struct Stored<'c> {
    connection: &'c Connection,
    texts: HashMap<i64, String>,
    frames: HashMap<i64, FrameRow>,
}

/// A site without its numbers, as far as the file tells.
pub(super) struct StoredSite {
    pub(super) kind: String,
    pub(super) backing: String,
    pub(super) type_name: Option<String>,
    pub(super) stack_end: String,
    pub(super) frames: Vec<Frame>,
}

impl<'c> Stored<'c> {
    /// Reads what the file has.
    pub(super) fn read(connection: &'c Connection) -> Result<Self, RecordingError> {
        let texts: Vec<(String, i64)> = dictionary::strings(connection)?;
        let frames: Vec<(FrameRow, i64)> = dictionary::frames(connection)?;
        Ok(Self {
            connection,
            texts: texts.into_iter().map(|(text, id)| (id, text)).collect(),
            frames: frames.into_iter().map(|(frame, id)| (id, frame)).collect(),
        })
    }

    /// The text with an id.
    pub(super) fn text(&self, id: i64) -> Result<String, RecordingError> {
        self.texts.get(&id).cloned().ok_or(RecordingError::Damaged("a text is not there"))
    }

    fn text_if_any(&self, id: Option<i64>) -> Result<Option<String>, RecordingError> {
        id.map(|id| self.text(id)).transpose()
    }

    /// The site with an id.
    pub(super) fn site(&self, id: i64) -> Result<StoredSite, RecordingError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT kind, backing, type, stack_end, frames \
             FROM sites JOIN stacks ON stacks.id = sites.stack WHERE sites.id = ?",
        )?;
        let (mut stored, type_name, frames) = statement.query_row([id], |row| {
            let stored = StoredSite {
                kind: row.get(0)?,
                backing: row.get(1)?,
                type_name: None,
                stack_end: row.get(3)?,
                frames: Vec::new(),
            };
            Ok((stored, row.get(2)?, row.get::<_, String>(4)?))
        })?;
        stored.type_name = self.text_if_any(type_name)?;
        let frames = dictionary::frame_ids(&frames)?.into_iter().map(|id| self.frame(id));
        stored.frames = frames.collect::<Result<_, _>>()?;
        Ok(stored)
    }

    fn frame(&self, id: i64) -> Result<Frame, RecordingError> {
        let row = self.frames.get(&id).ok_or(RecordingError::Damaged("a frame is not there"))?;
        Ok(Frame {
            function: self.text(row.function)?,
            file: self.text_if_any(row.file)?,
            line: row.line,
            module: self.text_if_any(row.module)?,
            build_id: self.text_if_any(row.build_id)?,
            offset: row.address as u64,
            inlined: row.inlined,
        })
    }
}
