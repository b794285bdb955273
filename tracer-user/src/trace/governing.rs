//! Keeps what tracing costs each process within `--max-overhead`: the governor's decisions, carried out and told.

use std::ops::ControlFlow;

use tracer_common::process::ProcessControl;
use tracer_common::sampling::doubled;

use crate::fault::Fault;
use crate::governor::{Decision, slowdown};
use crate::probes::attach::release;
use crate::sys::usage::monotonic_ns;
use crate::target::Pid;
use crate::trace::process::Governing;
use crate::trace::progress::{Listener, Progress};
use crate::trace::session::Session;
use crate::units::{human_age, human_percent, human_size};

/// What was done.
struct Measure<'a> {
    kind: Governing,
    at_ns: u64,
    what: &'a str,
    remedy: &'a str,
}

impl Session {
    /// Judges every process for which there is enough to judge by. Gives those that have no probes any more, for their last
    /// report; says break when the listener has heard enough.
    pub(super) fn govern(
        &mut self,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<(), Vec<Pid>>, Fault> {
        let mut given_up = Vec::new();
        let running: Vec<Pid> = self.processes.keys().copied().collect();
        for pid in running {
            let Some((decision, why)) = self.judge(pid) else { continue };
            let flow = match decision {
                Decision::Keep => ControlFlow::Continue(()),
                Decision::Raise { doublings } => self.raise(pid, doublings, &why, listener)?,
                Decision::DropFrees => self.drop_frees(pid, &why, listener)?,
                Decision::Detach => {
                    given_up.push(pid);
                    self.give_up(pid, &why, listener)?
                }
            };
            if flow.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(given_up))
    }

    /// What to do with a process, and why. Its clocks are read in any case: they are gone when it ends.
    fn judge(&mut self, pid: Pid) -> Option<(Decision, String)> {
        let hits = self.kernel.hits(pid);
        let process = self.processes.get_mut(&pid)?;
        let remedies = process.remedies(self.options.selection.mean_bytes() != 0);
        let interval = process.spending.to_judge(hits)?;
        let governor = process.spending.governor.as_mut()?;
        let decision = governor.decide(&interval, &self.costs, remedies);
        let why = format!(
            "tracing slowed it by about {}, {} are allowed (--max-overhead)",
            human_percent(slowdown(&interval, &self.costs)?),
            human_percent(governor.limit()),
        );
        tracing::debug!("{pid}: {why}: {decision:?} after {interval:?}");
        Some((decision, why))
    }

    /// Samples less.
    fn raise(
        &mut self,
        pid: Pid,
        doublings: u32,
        why: &str,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        let first_bytes = self.options.selection.mean_bytes();
        let mean = human_size(doubled(first_bytes, doublings) as f64);
        let change = |control: ProcessControl| ProcessControl { doublings, ..control };
        self.change(pid, change)?;
        let what =
            format!("the sampling mean is {mean} instead of {}", human_size(first_bytes as f64));
        let measure = Measure {
            kind: Governing::Raised,
            at_ns: monotonic_ns(),
            what: &what,
            remedy: "estimates stay unbiased, their intervals widen",
        };
        self.tell(pid, &measure, why, listener)
    }

    /// Goes on without the probes of releasing functions.
    fn drop_frees(
        &mut self,
        pid: Pid,
        why: &str,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        self.drain();
        self.change(pid, |control| ProcessControl { without_frees: 1, ..control })?;
        let at_ns = monotonic_ns();
        if let Some(process) = self.processes.get_mut(&pid) {
            process.ledger.forget_frees_from(at_ns);
            process.hooks.drop_frees();
        }
        self.kernel.forget_live(pid);
        let measure = Measure {
            kind: Governing::WithoutFrees,
            at_ns,
            what: "frees are not seen any more",
            remedy: "what is live is told as it was then, and does not show a leak; a larger --max-overhead keeps frees in sight",
        };
        self.tell(pid, &measure, why, listener)
    }

    /// Takes all probes off.
    fn give_up(
        &mut self,
        pid: Pid,
        why: &str,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        self.drain();
        let at_ns = monotonic_ns();
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(ControlFlow::Continue(()));
        };
        let is_sampled = self.options.selection.mean_bytes() != 0;
        let has_probed_allocators = process.remedies(is_sampled).drop_frees;
        release(process.detach(&mut self.kernel));
        let remedy = match (has_probed_allocators, is_sampled) {
            _ if process.exact.is_some() => {
                "its runtime's own samples cost little (leave out --exact); or allow more with --max-overhead, or any with --max-overhead none"
            }
            (false, _) => {
                "what it samples and tells of itself costs more than that; allow more with --max-overhead"
            }
            (true, false) => {
                "sampling costs less (--sample 512KiB in place of --exact); or allow more with --max-overhead"
            }
            (true, true) => {
                "the bare probes cost more than that; allow more with --max-overhead, or trace when it has less to do"
            }
        };
        let what = "its probes were taken off";
        let measure = Measure { kind: Governing::Detached, at_ns, what, remedy };
        self.tell(pid, &measure, why, listener)
    }

    fn change(
        &mut self,
        pid: Pid,
        change: impl FnOnce(ProcessControl) -> ProcessControl,
    ) -> Result<(), Fault> {
        let hits = self.kernel.hits(pid);
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        process.spending.control = change(process.spending.control);
        process.spending.restart_judging(hits);
        self.kernel.control(pid, process.spending.control)
    }

    /// Says what was done, now and in the report.
    fn tell(
        &mut self,
        pid: Pid,
        measure: &Measure<'_>,
        why: &str,
        listener: &mut Listener<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        let Some(process) = self.processes.get_mut(&pid) else {
            return Ok(ControlFlow::Continue(()));
        };
        let Measure { kind, at_ns, what, remedy } = *measure;
        let after_s = at_ns.saturating_sub(process.started_ns) as f64 / 1e9;
        let text = format!("from {} on {what}: {why}; {remedy}", human_age(after_s));
        process.governed.insert(kind, text.clone());
        listener(Progress::Governed { target: &process.target, what: &text })
    }
}
