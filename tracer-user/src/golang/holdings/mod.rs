//! What the heap of a Go process holds now, by type and by what holds it: for programs whose runtime keeps no profile.
//!
//! In: where everything that lives begins. Out: [`Holdings`]. The heap is walked from variables first, then from goroutines, then from what the
//! runtime itself has; each object belongs to the one root from which all ways of the first of these kinds come, or to several. Nothing is
//! probed, stopped or written. Words are taken for addresses whatever their type, so that an object that a stale word points to counts
//! as held. What no way leads to is garbage that is not collected yet: it is only counted.

mod contents;
mod variables;

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

pub(super) use self::contents::Types;
pub use self::contents::{Amount, Contents};
use self::variables::Literals;
pub use self::variables::VariableNames;
use super::GoError;
use super::goroutines::{Goroutine, Goroutines};
use super::heap::globals;
use super::heap::owners::Owner;
use super::heap::spans::Spans;
use super::heap::walk::Walk;
use super::never_wake::threads;
use super::roots::{self, Places};
use crate::target::VirtAddr;
use crate::target::rest::Rest;

/// Most slots that are told apart by who has them: a gigabyte for their owners.
const MAX_SLOTS: u64 = 1 << 28;
/// Most roots of a kind that are told apart; the others count as several.
const MAX_ROOTS: usize = 1 << 18;
/// Longest time that a walk takes.
const LIMIT: Duration = Duration::from_mins(1);
/// Variables of the runtime: they hold what the program holds, too.
const RUNTIME_PREFIXES: [&str; 2] = ["runtime.", "internal/runtime/"];

/// What holds objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A variable, by its symbol, or else by its place.
    Variable(String),
    /// Several variables.
    Variables,
    /// Goroutines that one `go` statement started with one function.
    Goroutines {
        /// The return address of the `go` statement.
        created_at: VirtAddr,
        /// The first instruction of their function.
        start: VirtAddr,
    },
    /// Goroutines of several `go` statements.
    SeveralGoroutines,
    /// The runtime: its variables, goroutines, processors, finalizers.
    Runtime,
}

/// What the heap holds.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// By what holds it, and by what it is.
    pub held: BTreeMap<(Holder, Contents), Amount>,
    /// What some way leads to.
    pub live: Amount,
    /// All that is allocated, with garbage that is not swept yet.
    pub allocated: Amount,
    /// Of `live`, what has no known type.
    pub untyped: Amount,
    /// Memory that could not be read: what only it leads to is not counted as live.
    pub unread_bytes: u64,
    /// Nothing ran while the heap was walked.
    pub was_at_rest: bool,
}

/// Walks the heap. `names` are those of variables, `types` of types.
pub(super) fn read(
    places: &Places<'_>,
    names: &VariableNames,
    types: &Types<'_>,
    is_system: &dyn Fn(&Goroutine) -> bool,
) -> Result<Holdings, GoError> {
    let before = Rest::of(places.process);
    let spans = Spans::read(places.memory, places.heap, &places.layout.heap)?;
    if spans.slots() > MAX_SLOTS {
        return Err(GoError::refused("its heap has more objects than outlive tells apart"));
    }
    let mut walk = Walk::with_owners(places.memory, &spans);
    walk.end_by(Instant::now() + LIMIT);
    let mut roots = Roots::default();
    let found = walk_all(places, &spans, names, is_system, &mut roots, &mut walk);
    found.map_err(|error| match error {
        GoError::Memory(error) if error.kind() == io::ErrorKind::TimedOut => {
            GoError::refused("its heap is not walked within a minute")
        }
        other => other,
    })?;
    let mut holdings = Holdings { unread_bytes: walk.unread_bytes(), ..Holdings::default() };
    contents::count(places.memory, &spans, &walk, types, &mut |owner, contents, amount| {
        holdings.allocated.add(amount);
        let Some(holder) = owner.and_then(|owner| roots.holder(owner)) else { return };
        holdings.live.add(amount);
        if !contents.is_typed() {
            holdings.untyped.add(amount);
        }
        holdings.held.entry((holder.clone(), contents)).or_default().add(amount);
    })?;
    holdings.was_at_rest = before.is_some() && before == Rest::of(places.process);
    Ok(holdings)
}

/// Goes all ways, one kind of root after the other.
fn walk_all(
    places: &Places<'_>,
    spans: &Spans,
    names: &VariableNames,
    is_system: &dyn Fn(&Goroutine) -> bool,
    roots: &mut Roots,
    walk: &mut Walk<'_>,
) -> Result<(), GoError> {
    let Goroutines { list, descriptions, .. } = roots::goroutines(places)?;
    // Everything leads to these, and they hold stale words.
    for closed in descriptions.iter().chain(&roots::processors(places)) {
        walk.close(*closed);
    }
    let _not_walked = threads::system_stacks(places, walk)?;
    let of_threads = threads::close(places, walk)?;
    roots.begin_kind(Holder::Variables);
    let mut of_runtime = Vec::new();
    let mut literals = Literals::default();
    for variables in places.variables {
        globals::for_each_address(places.memory, variables, |at, word| {
            names.note_literal(at, word, &mut literals);
        })?;
    }
    for variables in places.variables {
        globals::for_each_address(places.memory, variables, |at, word| {
            let name = names.at(at, &literals);
            if RUNTIME_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                of_runtime.push(word);
            } else if spans.find(VirtAddr(word)).is_some() {
                roots.begin(Holder::Variable(name.into_owned()), walk);
                walk.reach(word);
            }
        })?;
    }
    walk.run()?;
    roots.begin_kind(Holder::SeveralGoroutines);
    let (runtimes_own, programs_own): (Vec<_>, Vec<_>) =
        list.iter().partition(|one| is_system(one));
    for goroutine in programs_own {
        roots.begin(started(goroutine), walk);
        roots::reach_goroutine(places, spans, goroutine, goroutine.used_stack(), walk)?;
    }
    walk.run()?;
    roots.begin_kind(Holder::Runtime);
    roots.begin(Holder::Runtime, walk);
    for word in of_runtime {
        walk.reach(word);
    }
    for goroutine in runtimes_own {
        roots::reach_goroutine(places, spans, goroutine, goroutine.used_stack(), walk)?;
    }
    for record in &of_threads {
        walk.reach_words(record);
    }
    roots::reach_processors(places, walk)?;
    roots::reach_besides(places, walk)?;
    walk.run()?;
    Ok(())
}

fn started(goroutine: &Goroutine) -> Holder {
    Holder::Goroutines { created_at: goroutine.created_at, start: goroutine.start }
}

/// Numbers of holders.
#[derive(Default)]
struct Roots {
    /// The first is no one's.
    list: Vec<Holder>,
    numbers: BTreeMap<Holder, Owner>,
    several: u32,
}

impl Roots {
    /// Begins a kind of root, of which several are `several`.
    fn begin_kind(&mut self, several: Holder) {
        self.numbers.clear();
        self.list.push(several.clone());
        // A kind has at most `MAX_ROOTS`.
        self.several = self.list.len() as u32;
        self.numbers.insert(several, Owner(self.several));
    }

    /// What is reached from now on is held by this one.
    fn begin(&mut self, holder: Holder, walk: &mut Walk<'_>) {
        let several = Owner(self.several);
        let owner = match self.numbers.get(&holder) {
            Some(owner) => *owner,
            None if self.numbers.len() >= MAX_ROOTS => several,
            None => {
                self.list.push(holder.clone());
                let owner = Owner(self.list.len() as u32);
                self.numbers.insert(holder, owner);
                owner
            }
        };
        walk.begin(owner, several);
    }

    fn holder(&self, owner: Owner) -> Option<&Holder> {
        self.list.get(owner.0.checked_sub(1)? as usize)
    }
}
