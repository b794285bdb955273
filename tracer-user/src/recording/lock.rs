//! One writer at a time.
//!
//! In: the path of a recording. Out: a lock (flock) that ends with its holder, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::RecordingError;

/// The lock of a recording that is written to. It must outlive the database connection: closing a file drops the locks that SQLite
/// holds on it in this process (`fcntl`).
#[derive(Debug)]
pub(super) struct WriteLock {
    _file: File,
}

impl WriteLock {
    /// Takes it; creates the file when there is none.
    pub(super) fn take(path: &Path) -> Result<Self, RecordingError> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(RecordingError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}
