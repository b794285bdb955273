//! Waiting until a descriptor can be read, inside the tokio runtime.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A type whose descriptor stays open and the same for as long as the value lives.
pub trait Watchable: AsRawFd {}

impl Watchable for RingBuf<MapData> {}
impl Watchable for OwnedFd {}

/// Registers a descriptor with the current tokio runtime.
pub fn watch<T: Watchable>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: a `Watchable` owns its descriptor, which stays open and the same until `inner` is dropped, and the
    // registration is dropped with it.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}
