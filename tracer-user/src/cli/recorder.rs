//! What happens to reports that are recorded: they are kept, and what cannot be kept is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::say::say;
use crate::fault::{Fault, Status};
use crate::recording::{Recorded, RecordingError, Store, Traced};
use crate::report::model::Report;
use crate::target::Target;
use crate::target::successor::boot_id;

/// Writes a recording.
pub(super) struct Recorder {
    path: PathBuf,
    store: Store,
    /// Processes by PID: who they are, and their runs once the file has them.
    processes: BTreeMap<u32, (Traced, Option<Recorded>)>,
    missed: Option<Missed>,
}

/// Snapshots that could not be written since the last one that was.
struct Missed {
    count: u64,
    /// What kept the last of them.
    error: RecordingError,
}

impl Recorder {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        let store = Store::open(path).map_err(|error| cannot_record(path, &error))?;
        Ok(Self { path: path.to_owned(), store, processes: BTreeMap::new(), missed: None })
    }

    /// A process whose reports will come.
    pub(super) fn expect(&mut self, target: &Target) {
        let pid = target.pid.0;
        let traced = Traced {
            exe: target.exe.display().to_string(),
            container_id: target.container_id.clone(),
            comm: target.comm.clone(),
            pid,
            process: format!("{}/{pid}/{}", boot_id(), target.start_ticks),
        };
        self.processes.insert(pid, (traced, None));
    }

    /// Keeps a report. What a disk without room costs is told, and is no failure: room may come.
    pub(super) fn keep(
        &mut self,
        report: &Report,
        at: SystemTime,
        has_ended: bool,
    ) -> Result<(), Fault> {
        let at_ms = at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
        match self.write(report, at_ms, has_ended) {
            Ok(()) => {
                if let Some(missed) = self.missed.take() {
                    say(format_args!(
                        "outlive: recording goes on; snapshots that could not be written: {}",
                        missed.count
                    ));
                }
            }
            Err(error @ (RecordingError::Full | RecordingError::Database(_))) => {
                let before = self.missed.take().map_or(0, |missed| missed.count);
                if before == 0 {
                    say(format_args!(
                        "outlive: a snapshot could not be written to {}: {error}; recording goes on when that changes",
                        self.path.display()
                    ));
                }
                self.missed = Some(Missed { count: before + 1, error });
            }
            Err(error) => return Err(cannot_record(&self.path, &error)),
        }
        Ok(())
    }

    /// When all is over. What the file cannot tell as missing before its next snapshot is a failure: there is no next one.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let Some(Missed { count, error }) = &self.missed else { return Ok(()) };
        let what = format!(
            "cannot write the last snapshots to {}: {count} are missing",
            self.path.display()
        );
        let remedy = "what was written before is whole; make room, or end what keeps the file busy, and record to it again";
        Err(Fault::new(Status::Failed, what, error.to_string(), remedy))
    }

    fn write(
        &mut self,
        report: &Report,
        at_ms: i64,
        has_ended: bool,
    ) -> Result<(), RecordingError> {
        let Some((traced, run)) = self.processes.get_mut(&report.target.pid) else {
            return Ok(());
        };
        let recorded = match *run {
            Some(recorded) => recorded,
            None => *run.insert(self.store.begin(traced, at_ms)?),
        };
        self.store.add(recorded, report, at_ms)?;
        if has_ended {
            self.store.end(recorded)?;
            self.processes.remove(&report.target.pid);
        }
        Ok(())
    }
}

fn cannot_record(path: &Path, error: &RecordingError) -> Fault {
    let remedy = match error {
        RecordingError::Full => "make room, or record to another disk",
        RecordingError::Locked => {
            "record to another file; one file takes all processes that one `outlive record` is given"
        }
        RecordingError::NotARecording => {
            "choose another name: outlive overwrites no file of another kind"
        }
        RecordingError::Newer(..) => "use the version of outlive that wrote it, or another file",
        RecordingError::Damaged(_) => {
            "record to another file, and keep this one for a look with sqlite3"
        }
        RecordingError::Io(_) | RecordingError::Database(_) => {
            "choose a file in a folder that exists and that you may write to"
        }
    };
    let what = format!("cannot record to {}", path.display());
    Fault::new(Status::Failed, what, error.to_string(), remedy)
}
