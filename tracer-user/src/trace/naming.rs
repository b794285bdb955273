//! Naming the stacks of a report, while events go on being read and signals are heard.
//!
//! In: a process and the stacks that its report shows. Out: their names in the symboliser, and what was named.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::target::{CodeLocation, ModuleId, Pid};
use crate::trace::progress::{Listener, Progress, UserSignal};
use crate::trace::session::Session;
use crate::trace::stacks::KnownStack;

/// The longest that events wait for names.
const POLL: Duration = Duration::from_millis(10);
/// How long a last report waits for servers with debug information; any other waits for none.
const FETCH_PATIENCE: Duration = Duration::from_secs(30);

/// How long names are looked up when the user has asked for the end meanwhile.
const GRACE: Duration = Duration::from_millis(300);

/// The signals of a run.
pub(super) struct Signals<'a> {
    /// What comes.
    pub(super) receiver: UnboundedReceiver<UserSignal>,
    /// Takes what is for the traced program.
    pub(super) hand_on: &'a mut (dyn FnMut(i32) + Send),
    /// When the user asked for the end, while a report was made.
    asked: Option<Instant>,
}

impl<'a> Signals<'a> {
    pub(super) fn new(
        receiver: UnboundedReceiver<UserSignal>,
        hand_on: &'a mut (dyn FnMut(i32) + Send),
    ) -> Self {
        Self { receiver, hand_on, asked: None }
    }

    /// Whether the user asked for the end while a report was made.
    pub(super) fn ask_for_end(&self) -> bool {
        self.asked.is_some()
    }

    fn hear(&mut self) {
        while let Ok(signal) = self.receiver.try_recv() {
            match signal {
                UserSignal::HandOn(signal) => (self.hand_on)(signal),
                UserSignal::Finish => {
                    self.asked.get_or_insert_with(Instant::now);
                }
            }
        }
    }
}

/// How long to wait for names: until the user asks for the end, and a moment longer.
pub(super) struct Patience<'p, 's> {
    /// Servers are waited for until then; if the next report will have what they send, not at all.
    servers: Option<Instant>,
    signals: &'p mut Signals<'s>,
}

impl<'p, 's> Patience<'p, 's> {
    /// That of a report after which others come.
    pub(super) fn between(signals: &'p mut Signals<'s>) -> Self {
        Self { servers: None, signals }
    }

    /// That of a last report. To ask for the end of the run was not to ask for the end of this.
    pub(super) fn last(signals: &'p mut Signals<'s>) -> Self {
        signals.asked = None;
        Self { servers: Some(Instant::now() + FETCH_PATIENCE), signals }
    }

    fn is_over_for_servers(&self) -> bool {
        let is_awaited = self.servers.is_some_and(|until| Instant::now() < until);
        !is_awaited || self.signals.ask_for_end()
    }

    fn is_over(&self) -> bool {
        self.signals.asked.is_some_and(|asked| asked.elapsed() >= GRACE)
    }
}

/// What was named for a report.
#[derive(Default)]
pub(super) struct Named {
    /// The stacks as they were then: events go on changing what is known of them.
    pub(super) stacks: HashMap<u64, KnownStack>,
    /// The modules they are in, and the program's.
    pub(super) modules: BTreeSet<ModuleId>,
    /// The program's.
    pub(super) program: Option<ModuleId>,
    /// Addresses that the user did not want to wait for.
    pub(super) given_up: usize,
}

impl Session {
    /// Names these stacks of a process.
    pub(super) async fn name_stacks(
        &mut self,
        pid: Pid,
        stack_ids: &[u64],
        patience: &mut Patience<'_, '_>,
        listener: &mut Listener<'_>,
    ) -> Result<Named, Fault> {
        let mut named = self.want_names(pid, stack_ids);
        let total = self.symboliser.missing();
        while self.symboliser.advance(POLL) {
            self.drain_batch();
            patience.signals.hear();
            if patience.is_over() {
                named.given_up = self.symboliser.give_up();
                break;
            }
            if self.symboliser.is_fetching() && patience.is_over_for_servers() {
                self.symboliser.stop_waiting();
            }
            let done = total.saturating_sub(self.symboliser.missing());
            let fetching = self.symboliser.is_fetching();
            if listener(Progress::Naming { done, total, fetching })?.is_break() {
                break;
            }
            // Signals are heard here.
            tokio::task::yield_now().await;
        }
        Ok(named)
    }

    fn want_names(&mut self, pid: Pid, stack_ids: &[u64]) -> Named {
        let Self { processes, modules, symboliser, stacks, .. } = self;
        let mut named = Named::default();
        let Some(process) = processes.get(&pid) else { return named };
        let program = process.target.exe_file.try_clone();
        named.program =
            program.and_then(|file| modules.add_open_file(&process.target.exe, file)).ok();
        named.modules.extend(named.program);
        for (id, known) in stack_ids.iter().filter_map(|id| Some((*id, stacks.get(*id)?))) {
            symboliser.want_stack(&known.locations, modules);
            named.modules.extend(known.locations.iter().filter_map(|location| match location {
                CodeLocation::InModule(id, _) => Some(*id),
                CodeLocation::Unknown(_) => None,
            }));
            named.stacks.insert(id, known.clone());
        }
        named.program.iter().for_each(|id| symboliser.want_module(*id, modules));
        named
    }
}
