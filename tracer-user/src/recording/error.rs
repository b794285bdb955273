//! Why a recording cannot be written or read.

use std::io;

use rusqlite::ErrorCode;

/// What went wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// There is no room for more.
    #[error("there is no room left on the disk")]
    Full,
    /// Another process writes to it.
    #[error("another process is writing to it")]
    Locked,
    /// It is some other file.
    #[error("it is not a recording")]
    NotARecording,
    /// A version of outlive that this one does not know wrote it.
    #[error("its format is {0}, and this version of outlive reads up to {1}")]
    Newer(i64, i64),
    /// Something in it makes no sense.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// The file itself cannot be opened, read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// SQLite says so.
    #[error("{0}")]
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for RecordingError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::NotADatabase) => Self::NotARecording,
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged("SQLite cannot follow its pages"),
            _ => Self::Database(error),
        }
    }
}
