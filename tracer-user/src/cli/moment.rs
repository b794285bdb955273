//! A file that is named on the command line, and the moment in it: `FILE`, `FILE@2026-11-20T10:00`, `FILE@-1h`.
//!
//! In: what the user wrote. Out: the path, and which snapshot of a recording is meant.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::fault::{Fault, Status};
use crate::recording::{Recording, RecordingError, SeriesInfo};
use crate::report::model::Report;

/// Bytes at the start of a file that tell what it is.
const START_BYTES: usize = 16;

/// Which snapshot is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// The last one.
    Last,
    /// The last one that is no younger, milliseconds since 1970.
    At(i64),
    /// The last one that is so much older than the very last.
    Before(Duration),
}

/// How much of a recording is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// The moment.
    Moment,
    /// Also what each site held until then.
    Course,
}

/// A recording, and the moment in it that is meant.
pub(super) struct RecordedMoment {
    path: PathBuf,
    when: When,
}

impl RecordedMoment {
    /// What the user means by a name; nothing when that is no recording.
    pub(super) fn find(name: &Path) -> Result<Option<Self>, Fault> {
        let (path, when) = if name.exists() {
            (name.to_owned(), When::Last)
        } else if let Some((path, when)) = divide(name) {
            (path, parse(&when).map_err(|why| not_understood(name, why))?)
        } else {
            return Ok(None);
        };
        let mut start = Vec::new();
        let is_read = File::open(&path)
            .and_then(|file| file.take(START_BYTES as u64).read_to_end(&mut start))
            .is_ok();
        if is_read && Recording::is_one(&start) {
            return Ok(Some(Self { path, when }));
        }
        match when {
            When::Last => Ok(None),
            _ => {
                Err(not_understood(name, "only a recording has moments to choose from".to_owned()))
            }
        }
    }

    /// The report of each program in it, all sites in it; the program recorded last first.
    pub(super) fn reports(&self, detail: Detail) -> Result<Vec<Report>, Fault> {
        let failed = |error: RecordingError| {
            let remedy = match error {
                RecordingError::Newer(..) => "use the version of outlive that wrote it",
                _ => "check the file with: sqlite3 FILE 'PRAGMA integrity_check'",
            };
            let what = format!("cannot report {}", self.path.display());
            Fault::new(Status::Failed, what, error.to_string(), remedy)
        };
        let recording = Recording::open(&self.path).map_err(failed)?;
        let mut reports = Vec::new();
        for series in recording.series().map_err(failed)? {
            let report = self.report(&recording, &series, detail).map_err(failed)?;
            reports.extend(report);
        }
        if reports.is_empty() {
            return Err(Fault::new(
                Status::Failed,
                format!("cannot report {}", self.path.display()),
                "it holds no snapshot of that time",
                "name a later time, or FILE alone for the last snapshot",
            ));
        }
        Ok(reports)
    }

    fn report(
        &self,
        recording: &Recording,
        series: &SeriesInfo,
        detail: Detail,
    ) -> Result<Option<Report>, RecordingError> {
        let last = recording.moment_at(series.id, None)?;
        let moment = match (self.when, last) {
            (When::At(at_ms), _) => recording.moment_at(series.id, Some(at_ms))?,
            (When::Before(time), Some(last)) => {
                let at_ms = last.at_ms.saturating_sub_unsigned(time.as_millis() as u64);
                recording.moment_at(series.id, Some(at_ms))?
            }
            (When::Last, last) | (_, last @ None) => last,
        };
        let Some(moment) = moment else { return Ok(None) };
        let mut report = match detail {
            Detail::Moment => recording.report(moment)?,
            Detail::Course => recording.report_with_course(series.id, moment)?,
        };
        if moment.missed_before > 0 {
            report.loss.notices.push(format!(
                "snapshots before this one that could not be written: {}",
                moment.missed_before
            ));
        }
        Ok(Some(report))
    }
}

/// `FILE@WHEN` at its last `@`.
fn divide(name: &Path) -> Option<(PathBuf, String)> {
    let bytes = name.as_os_str().as_bytes();
    let place = bytes.iter().rposition(|byte| *byte == b'@')?;
    let when = std::str::from_utf8(&bytes[place + 1..]).ok()?;
    Some((PathBuf::from(OsStr::from_bytes(&bytes[..place])), when.to_owned()))
}

/// `-1h`, or a date and a time of day in UTC, seconds and fractions as wanted.
fn parse(when: &str) -> Result<When, String> {
    const DATE: usize = "2026-11-20".len();
    const MINUTES: usize = "2026-11-20T10:00".len();
    if let Some(time) = when.strip_prefix('-') {
        let time = humantime::parse_duration(time);
        return time.map(When::Before).map_err(|error| format!("`{when}` is no time: {error}"));
    }
    let whole = match when.trim_end_matches('Z').len() {
        DATE => format!("{when}T00:00:00"),
        MINUTES => format!("{}:00", when.trim_end_matches('Z')),
        _ => when.to_owned(),
    };
    let time = humantime::parse_rfc3339_weak(&whole);
    let time = time.map_err(|error| format!("`{when}` is no time: {error}"))?;
    Ok(When::At(time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)))
}

fn not_understood(name: &Path, why: String) -> Fault {
    Fault::new(
        Status::Usage,
        format!("cannot report {}", name.display()),
        why,
        "name a file, or a moment of a recording: FILE@2026-11-20T10:00 (UTC), FILE@-1h",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_understood() {
        let ten = 1_795_255_200_000;
        for text in ["2026-11-21T10:00:00Z", "2026-11-21T10:00", "2026-11-21 10:00:00.000"] {
            assert_eq!(parse(text), Ok(When::At(ten)), "{text}");
        }
        assert_eq!(parse("2026-11-21"), Ok(When::At(ten - 10 * 3_600_000)));
        assert_eq!(parse("-1h 30m"), Ok(When::Before(Duration::from_mins(90))));
        for text in ["", "-", "-x", "yesterday", "2026-13-01", "10:00"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_at_sign_divides() {
        let divided = divide(Path::new("/a@b/svc.outlive@-1h"));
        assert_eq!(divided, Some((PathBuf::from("/a@b/svc.outlive"), "-1h".to_owned())));
        assert_eq!(divide(Path::new("svc.outlive")), None);
    }
}
