//! A Go program that outlive has started itself: what of its runtime is not so yet before its first instruction.
//!
//! In: its memory, looked at while it begins. Out: the rate of its sampler once that is settled, and whether its heap is what outlive
//! takes it for. The runtime decides while it starts whether there is a sampler: the rate is 0 before its `init` (runtime/mprof.go, Go
//! 1.19 and 1.20), or after `schedinit` where the linker says so (runtime/proc.go, since 1.21). A program sets another rate
//! before all else, if ever.

use super::{GoHeap, NotFollowed};
use crate::golang::GoError;
use crate::ledger::GoBook;

/// At so many samples the program has chosen its rate.
const FIRST_SAMPLES: u32 = 64;

/// The runtime has started with so many goroutines: the first one, `forcegchelper` of its `init`, then those of `gcenable`, sweeper and
/// scavenger (`main` in runtime/proc.go, Go 1.19 to 1.27).
const GOROUTINES_OF_RUNTIME: usize = 4;

/// What is not known yet.
pub(super) struct Beginning {
    /// The rate to set when the sampler is turned off.
    wanted_rate: Option<u64>,
    samples: u32,
    is_proven: bool,
    is_off: bool,
}

impl Beginning {
    /// Of a program that has run no instruction of its own.
    pub(super) fn new(wanted_rate: Option<u64>) -> Self {
        Self { wanted_rate, samples: 0, is_proven: false, is_off: false }
    }

    /// Whether its sampler has been turned off.
    pub(super) fn is_off(&self) -> bool {
        self.is_off
    }

    /// What a reader must know, in words.
    pub(super) fn notice(&self) -> Option<String> {
        if self.is_off {
            return Some(format!(
                "{}: nothing is known of its allocations; `outlive run --enable-go-profiling` turns it on",
                NotFollowed::ProfilerOff
            ));
        }
        (self.samples == 0).then(|| {
            "its Go runtime told of no sample: it has allocated little, or its profiler is off, as the linker turns it off in programs that never read the profile"
                .to_owned()
        })
    }
}

impl GoHeap {
    /// Looks at a program that begins; does nothing for others.
    pub fn look_at_beginning(&mut self) {
        if self.beginning.is_none() {
            return;
        }
        self.prove();
        match self.process.sampling_rate() {
            Ok(0) if self.has_started() => self.sampler_is_off(),
            Ok(rate) if rate != 0 => {
                if let Some(beginning) = &mut self.beginning {
                    beginning.is_off = false;
                }
                if rate != self.rate {
                    self.set_rate(rate);
                }
            }
            _ => {}
        }
    }

    fn has_started(&self) -> bool {
        let goroutines = self.process.goroutines();
        goroutines.is_ok_and(|found| found.list.len() >= GOROUTINES_OF_RUNTIME)
    }

    fn sampler_is_off(&mut self) {
        let wanted = self.beginning.as_ref().and_then(|beginning| beginning.wanted_rate);
        match (wanted, &mut self.beginning) {
            (Some(rate), _) => {
                self.set_rate(rate);
                if let Err(error) = self.force() {
                    self.notices.push(format!("its profiler cannot be turned on: {error}"));
                }
                // Only the program itself turns it off from here on.
                self.beginning = None;
            }
            (None, Some(beginning)) => beginning.is_off = true,
            (None, None) => {}
        }
    }

    /// The same at a sample.
    pub(super) fn look_at_sample(&mut self) {
        self.look_at_beginning();
        if let Some(beginning) = &mut self.beginning {
            beginning.samples += 1;
            if beginning.samples >= FIRST_SAMPLES {
                self.beginning = None;
            }
        }
    }

    fn prove(&mut self) {
        let Some(beginning) = self.beginning.as_mut().filter(|beginning| !beginning.is_proven)
        else {
            return;
        };
        if !matches!(self.process.has_no_heap(), Ok(false)) {
            return;
        }
        match self.process.specials() {
            // It may have ended.
            Err(GoError::Memory(_)) => {}
            Ok(_) => beginning.is_proven = true,
            Err(error) => {
                beginning.is_proven = true;
                self.notices.push(format!(
                    "its heap is not what outlive takes it for, so do not trust what is said of it: {error}"
                ));
            }
        }
    }

    /// Starts the book anew with the rate that is in force now. What was sampled before is inherited.
    fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
        self.book = GoBook::new(rate, self.book.start_ns());
        if let Err(error) = self.inherit() {
            self.notices.push(format!("what it sampled at its very start is not known: {error}"));
        }
    }
}
