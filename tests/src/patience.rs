//! Bounded waits for a condition.

use std::time::{Duration, Instant};

/// How long a step of a test may take on a busy machine. Reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Pause between two looks at a condition that nothing announces.
const PAUSE: Duration = Duration::from_millis(2);

/// How much slower this machine is than the tests expect, as a factor; emulated ones are.
const SLOWNESS: &str = "OUTLIVE_TESTS_SLOWNESS";

/// When a wait that begins now has to end.
pub fn deadline(limit: Duration) -> Instant {
    let slowness = std::env::var(SLOWNESS).ok().and_then(|factor| factor.parse::<u32>().ok());
    Instant::now() + limit * slowness.unwrap_or(1)
}

/// Looks at a condition until it gives a value; `None` when the limit has passed.
pub fn await_condition<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = deadline(limit);
    loop {
        if let Some(value) = look() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}
