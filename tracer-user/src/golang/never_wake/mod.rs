//! Goroutines that can never run again: each waits for channels, and nothing that can still run leads to any of them.
//!
//! In: a process. Out: [`NeverWake`]. The walk begins where the runtime's collector begins, but for the stacks of goroutines that wait for
//! channels. One of these lives when one of its channels is reached; then its stack is walked too, until no more come to life. Whatever
//! waits for something else (locks, timers, files, ...) lives.
//!
//! The process runs on, and may carry an address from a place that is not read yet to one that was read. A reading is exact when nothing ran
//! meanwhile: because the process was at rest, or because it was held, which is done only when it is asked for. Otherwise it is
//! looked at several times, and what was found every time and has not run since before the last collection is told: that is not proven.

mod blocked;
pub(super) mod threads;

use std::collections::{HashMap, HashSet};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use self::blocked::{Blocked, blocked};
use super::GoError;
use super::goroutines::{Goroutine, Goroutines};
use super::heap::spans::Spans;
use super::heap::walk::Walk;
use super::roots::{self, Places};
use crate::target::VirtAddr;
use crate::target::hold::{Hold, Registers};
use crate::target::rest::Rest;
use crate::units::Span;

/// Pauses before readings: time for those that wait for a moment only.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_millis(500),
];
/// Most rounds in which goroutines come to life one after the other.
const MAX_ROUNDS: usize = 10_000;

/// How sure it is that goroutines can never run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing ran while the process was read: it is proven.
    AtRest,
    /// It was held for so long while it was read: it is proven.
    Held(Duration),
    /// Found in each of so many readings of a process that ran: it is not proven.
    Readings(usize),
}

/// Goroutines that can never run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeverWake {
    /// Their numbers.
    pub ids: HashSet<u64>,
    /// How sure that is.
    pub evidence: Evidence,
    /// Why the process was not held for as long as was needed, although it was allowed.
    pub not_held: Option<String>,
}

type Found = HashMap<u64, Blocked>;

/// Finds them. With `hold` a process that runs may be held for so long, if any are found.
pub fn find(places: &Places<'_>, hold: Option<Duration>) -> Result<NeverWake, GoError> {
    if places.has_plugins {
        return Err(GoError::refused("it has loaded plugins, whose variables are not known"));
    }
    if places.finalizers.is_empty() {
        let reason = "the code of its runtime does not show where finalizers wait to be run";
        return Err(GoError::refused(reason));
    }
    let mut not_held = None;
    let mut found: Option<Found> = None;
    for (number, pause) in PAUSES.iter().enumerate() {
        thread::sleep(*pause);
        let before = Rest::of(places.process);
        let mut reading = read(places, None)?;
        let told = |found: &Found, evidence, not_held| {
            let ids = found.keys().copied().collect();
            Ok(NeverWake { ids, evidence, not_held })
        };
        if before.is_some() && before == Rest::of(places.process) {
            return told(&reading, Evidence::AtRest, not_held);
        }
        if let Some(limit) = hold.filter(|_| number == 0 && !reading.is_empty()) {
            match read_held(places, limit) {
                Ok((exact, lasted)) => return told(&exact, Evidence::Held(lasted), None),
                Err(error) => not_held = Some(error.to_string()),
            }
        }
        // Who began to wait only now is often woken soon.
        reading.retain(|_, blocked| blocked.is_seen_by_collector);
        let both = match found {
            None => reading,
            Some(earlier) => same(earlier, &reading),
        };
        if both.is_empty() || number + 1 == PAUSES.len() {
            return told(&both, Evidence::Readings(number + 1), not_held);
        }
        found = Some(both);
    }
    Err(GoError::refused("it was not read"))
}

/// Reads while the process is held, and tells for how long it was.
fn read_held(places: &Places<'_>, limit: Duration) -> Result<(Found, Duration), GoError> {
    let hold = Hold::of(places.process, limit).map_err(|error| {
        GoError::refused(format!("not all of its threads stand still: {error}"))
    })?;
    let found = read(places, Some((&hold, hold.since + limit)));
    let lasted = hold.since.elapsed();
    drop(hold);
    match found {
        Err(GoError::Memory(error)) if error.kind() == io::ErrorKind::TimedOut => {
            let reason = format!("its heap is not walked within {}", Span { duration: limit });
            Err(GoError::refused(reason))
        }
        found => Ok((found?, lasted)),
    }
}

/// Those that are in both, and have not run in between.
fn same(mut one: Found, other: &Found) -> Found {
    one.retain(|id, blocked| other.get(id) == Some(blocked));
    one
}

/// Those that were not reached in one walk. In a process that runs, what leads to them is looked at twice: an address may have moved to where
/// was looked already.
fn read(places: &Places<'_>, held: Option<(&Hold, Instant)>) -> Result<Found, GoError> {
    let spans = Spans::read(places.memory, places.heap, &places.layout.heap)?;
    let mut walk = Walk::new(places.memory, &spans);
    let registers = held.map_or(Ok(Vec::new()), |(hold, _)| hold.registers())?;
    let reading = Reading { places, spans: &spans, registers };
    if let Some((_, deadline)) = held {
        walk.end_by(deadline);
    }
    let mut found = reading.sweep(&mut walk)?;
    if held.is_none() {
        found = same(found, &reading.sweep(&mut walk)?);
    }
    if walk.unread_bytes() > 0 {
        let reason = format!("{} bytes of its heap could not be read", walk.unread_bytes());
        return Err(GoError::refused(reason));
    }
    Ok(found)
}

/// What a reading begins with.
struct Reading<'r> {
    places: &'r Places<'r>,
    spans: &'r Spans,
    /// Of the threads, when they are held.
    registers: Vec<Registers>,
}

impl Reading<'_> {
    /// Reaches what lives, and gives the goroutines that do not.
    fn sweep(&self, walk: &mut Walk<'_>) -> Result<Found, GoError> {
        let Goroutines { list, descriptions, .. } = roots::goroutines(self.places)?;
        let mut asleep = blocked(self.places.memory, &list, &self.places.layout.waiter)?;
        // What a goroutine waits for is in its description, which everything leads to.
        for description in &descriptions {
            walk.close(*description);
        }
        let system_stacks = threads::system_stacks(self.places, walk)?;
        roots::reach_processors(self.places, walk)?;
        roots::reach(self.places, walk)?;
        threads::reach(self.places, &self.registers, &list, &system_stacks, walk)?;
        for goroutine in list.iter().filter(|goroutine| !asleep.contains_key(&goroutine.id)) {
            self.reach_goroutine(goroutine, walk)?;
        }
        walk.run()?;
        let by_id: HashMap<u64, &Goroutine> = list.iter().map(|one| (one.id, one)).collect();
        for _ in 0..MAX_ROUNDS {
            let woken: Vec<u64> = asleep
                .iter()
                .filter(|(_, blocked)| blocked.channels.iter().any(|at| may_be_used(*at, walk)))
                .map(|(id, _)| *id)
                .collect();
            if woken.is_empty() {
                return Ok(asleep);
            }
            for id in woken {
                asleep.remove(&id);
                if let Some(goroutine) = by_id.get(&id) {
                    self.reach_goroutine(goroutine, walk)?;
                }
            }
            walk.run()?;
        }
        let reason = "its goroutines wait for each other in longer chains than outlive follows";
        Err(GoError::refused(reason))
    }

    /// Reaches what a goroutine that lives leads to.
    fn reach_goroutine(&self, goroutine: &Goroutine, walk: &mut Walk<'_>) -> Result<(), GoError> {
        let stack = threads::used_stack(goroutine, &self.registers);
        roots::reach_goroutine(self.places, self.spans, goroutine, stack, walk)
    }
}

/// Whether somebody who can run may use a channel. One that is not in the heap is not followed, so it may be.
fn may_be_used(channel: VirtAddr, walk: &Walk<'_>) -> bool {
    walk.is_reached(channel).unwrap_or(true)
}
