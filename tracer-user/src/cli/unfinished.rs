//! The file that was made for reports and holds none yet: whatever ends outlive before, it does not stay.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A file was made.
pub(super) fn begin(path: &Path) {
    set(Some(path.to_owned()));
}

/// It holds a whole report.
pub(super) fn finish() {
    set(None);
}

/// Removes it, unless it holds a report.
pub(super) fn remove() {
    if let Some(path) = set(None)
        && let Err(error) = std::fs::remove_file(&path)
    {
        tracing::debug!("{} stays without a report: {error}", path.display());
    }
}

fn set(path: Option<PathBuf>) -> Option<PathBuf> {
    std::mem::replace(&mut *UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner), path)
}
