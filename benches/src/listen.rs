//! Waiting for a program to say something.
//!
//! In: a stream of a running program. Out: what it said, as soon as it contains the words awaited.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A stream that is read as it comes, and what it said so far.
pub(crate) struct Listener {
    chunks: Receiver<Vec<u8>>,
    heard: String,
}

impl Listener {
    /// Reads `stream` until it ends, so that its program is never held up.
    pub(crate) fn new(mut stream: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end of a terminal is an error, that of a pipe is not.
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { chunks, heard: String::new() }
    }

    /// Waits until the program has said these words.
    pub(crate) fn await_words(&mut self, words: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !self.heard.contains(words) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.heard.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("it did not say `{words}` in {patience:?}, but: {}", self.heard.trim())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("it ended: {}", self.heard.trim()),
            }
        }
        Ok(())
    }

    /// All it said, now that it ended.
    pub(crate) fn everything(mut self) -> String {
        while let Ok(chunk) = self.chunks.recv() {
            self.heard.push_str(&String::from_utf8_lossy(&chunk));
        }
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_heard_and_silence_is_an_error() {
        let mut listener = Listener::new(&b"now ready, go"[..]);
        listener.await_words("ready", Duration::from_secs(5)).expect("heard");
        let error = listener.await_words("never", Duration::from_secs(5)).expect_err("it ended");
        assert!(error.to_string().contains("now ready"), "{error}");
        assert_eq!(listener.everything(), "now ready, go");
    }
}
