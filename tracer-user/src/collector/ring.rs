//! Reading the ring buffer.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;

use crate::collector::event::{Event, decode};
use crate::sys::readiness;

/// The ring buffer, ready to be awaited.
pub struct Ring {
    buffer: AsyncFd<RingBuf<MapData>>,
    /// Records that could not be decoded.
    pub undecodable: u64,
}

impl Ring {
    /// Takes the ring buffer's map. Must be called inside a tokio runtime.
    pub fn new(buffer: RingBuf<MapData>) -> io::Result<Self> {
        Ok(Self { buffer: readiness::watch(buffer)?, undecodable: 0 })
    }

    /// Waits until there is something to read.
    pub async fn ready(&self) -> io::Result<()> {
        self.buffer.readable().await?.clear_ready();
        Ok(())
    }

    /// Hands over at most `limit` records; true when there may be more.
    pub fn drain(&mut self, limit: usize, mut take: impl FnMut(Event)) -> bool {
        for _ in 0..limit {
            let Some(record) = self.buffer.get_mut().next() else { return false };
            match decode(&record) {
                Some(event) => take(event),
                None => self.undecodable += 1,
            }
        }
        true
    }
}
