//! Turning on the profiler of a Go runtime that was linked without it.
//!
//! In: the address of `runtime.MemProfileRate`, the variable by which a program sets its own rate. Out: a [`ForcedRate`], which sets it
//! back when it is dropped. The only thing that outlive ever writes into a process, and only when it is told to; a rate that is not 0
//! is never changed, since the program scales its own profile by it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::target::VirtAddr;
use crate::target::proc_dir::ProcDir;

/// The rates that hold: they are set back also when outlive is ended at once.
static FORCED: Mutex<Vec<Weak<ForcedWord>>> = Mutex::new(Vec::new());

/// A rate that holds until this is dropped.
#[derive(Debug)]
pub struct ForcedRate {
    _word: Arc<ForcedWord>,
}

/// Sets all rates back.
pub fn set_all_back() {
    let forced = std::mem::take(&mut *FORCED.lock().unwrap_or_else(PoisonError::into_inner));
    forced.iter().filter_map(Weak::upgrade).for_each(|word| word.set_back());
}

#[derive(Debug)]
struct ForcedWord {
    memory: File,
    place: VirtAddr,
    rate: u64,
}

impl ForcedRate {
    /// Sets the rate of a runtime that has none.
    pub(super) fn set(process: &Arc<ProcDir>, place: VirtAddr, rate: u64) -> io::Result<Self> {
        let memory = OpenOptions::new().read(true).write(true).open(process.path("mem"))?;
        let word = Arc::new(ForcedWord { memory, place, rate });
        // First known, then set.
        let mut all = FORCED.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&word));
        drop(all);
        word.replace(0, rate)?;
        Ok(Self { _word: word })
    }
}

impl ForcedWord {
    fn set_back(&self) {
        // A process that has ended needs nothing any more.
        if let Err(error) = self.replace(self.rate, 0) {
            tracing::debug!("the sampling rate stays: {error}");
        }
    }

    /// Writes a value where another one is; nothing where there is not.
    fn replace(&self, expected: u64, value: u64) -> io::Result<()> {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, self.place.0)?;
        if u64::from_le_bytes(word) != expected {
            return Err(io::Error::other("the program sets its own sampling rate"));
        }
        self.memory.write_all_at(&value.to_le_bytes(), self.place.0)
    }
}

impl Drop for ForcedWord {
    fn drop(&mut self) {
        self.set_back();
    }
}
