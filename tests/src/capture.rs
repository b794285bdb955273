//! The output of a program, read by a thread, kept whole, and awaited without polling.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::patience::deadline;

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    ended: bool,
}

/// A pipe's content so far.
#[derive(Clone, Default)]
pub struct Capture {
    shared: Arc<(Mutex<Output>, Condvar)>,
}

/// Why what was awaited did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The writer closed its end first.
    Ended,
    /// The limit has passed.
    TimedOut,
}

impl Capture {
    /// Reads the pipe to its end in a thread of its own.
    pub fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let capture = Self::default();
        let shared = Arc::clone(&capture.shared);
        thread::spawn(move || {
            let (output, changed) = &*shared;
            let mut buffer = [0; 16_384];
            loop {
                let count = pipe.read(&mut buffer).unwrap_or(0);
                let mut output = output.lock().unwrap();
                output.bytes.extend_from_slice(&buffer[..count]);
                output.ended = count == 0;
                changed.notify_all();
                if output.ended {
                    return;
                }
            }
        });
        capture
    }

    /// All that was written until now.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.0.lock().unwrap().bytes).into_owned()
    }

    /// Waits until `find` finds something in the text.
    pub fn await_match<T>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Missing> {
        let (output, changed) = &*self.shared;
        let deadline = deadline(limit);
        let mut output = output.lock().unwrap();
        loop {
            if let Some(found) = find(&String::from_utf8_lossy(&output.bytes)) {
                return Ok(found);
            }
            if output.ended {
                return Err(Missing::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missing::TimedOut);
            }
            output = changed.wait_timeout(output, left).unwrap().0;
        }
    }

    /// Waits until the writer has closed its end.
    pub fn await_end(&self, limit: Duration) -> Result<String, Missing> {
        match self.await_match::<()>(limit, |_| None) {
            Err(Missing::TimedOut) => Err(Missing::TimedOut),
            Ok(()) | Err(Missing::Ended) => Ok(self.text()),
        }
    }

    /// Waits for the first line that starts at byte `from` or later; gives it and where the next one starts.
    pub fn await_line(&self, limit: Duration, from: usize) -> Result<(String, usize), Missing> {
        self.await_match(limit, |text| {
            let rest = text.get(from..)?;
            let length = rest.find('\n')?;
            Some((rest[..length].to_owned(), from + length + 1))
        })
    }
}
