//! The tracers that are compared, each started on a process that waits.
//!
//! In: a PID. Out: a tracer that is ready, and when it is stopped, evidence that it did trace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::listen::Listener;

const PATIENCE: Duration = Duration::from_mins(1);

/// How a program is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracing {
    /// Not at all.
    Untraced,
    /// By outlive, every allocation.
    Exact,
    /// By outlive, one allocation every 512 KiB on average.
    Sampled,
    /// By memleak, every allocation.
    Memleak,
}

impl Tracing {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 4] = [Self::Untraced, Self::Sampled, Self::Exact, Self::Memleak];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::Sampled => "outlive, sampled (512 KiB)",
            Self::Exact => "outlive, exact",
            Self::Memleak => "memleak (libbpf-tools)",
        }
    }
}

/// Where the tracers are, and a directory for what they write.
pub(crate) struct Tracers {
    /// The binary of outlive.
    pub(crate) outlive: PathBuf,
    /// The binary of memleak, if there is one.
    pub(crate) memleak: Option<PathBuf>,
    /// A directory for what is compiled and written.
    pub(crate) work: PathBuf,
}

/// What a tracer says about its own work, once it is known to have traced the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Evidence {
    /// Events lost, if the tracer tells.
    pub(crate) lost_events: Option<u64>,
}

impl Tracers {
    /// Whether there is what this takes.
    pub(crate) fn have(&self, tracing: Tracing) -> bool {
        tracing != Tracing::Memleak || self.memleak.is_some()
    }

    /// Traces a process; returns when the probes are in place.
    pub(crate) fn start(&self, tracing: Tracing, pid: u32) -> Result<Running> {
        let running = match (tracing, &self.memleak) {
            (Tracing::Untraced, _) => Ok(Running::Nothing),
            (Tracing::Exact, _) => self.outlive(pid, &["--exact"]),
            (Tracing::Sampled, _) => self.outlive(pid, &["--sample", "512KiB"]),
            (Tracing::Memleak, Some(program)) => self.memleak(program, pid),
            (Tracing::Memleak, None) => bail!("there is no memleak"),
        };
        running.with_context(|| format!("{} does not start", tracing.name()))
    }

    fn outlive(&self, pid: u32, selection: &[&str]) -> Result<Running> {
        let report = self.work.join("report.json");
        let mut command = Command::new(&self.outlive);
        command.args(["attach", &pid.to_string(), "-f", "json", "--force", "-o"]).arg(&report);
        let mut child = command.args(selection).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut listener = Listener::new(stderr);
        listener.await_words("outlive: tracing", PATIENCE)?;
        Ok(Running::Outlive { child, listener, report })
    }

    fn memleak(&self, program: &Path, pid: u32) -> Result<Running> {
        // A terminal, since memleak holds back that it is ready while its output is anything else.
        let terminal = openpty(None, None).context("there is no terminal to be had")?;
        let complaints = File::create(self.work.join("memleak.log")).context("cannot write")?;
        let mut command = Command::new(program);
        // It reports at the end only: reports are no part of what is compared.
        command.args(["-p", &pid.to_string(), "100000"]);
        command.stdin(Stdio::null()).stdout(terminal.slave).stderr(complaints);
        let child = command.spawn()?;
        // The command holds the other end of the terminal, which would never end.
        drop(command);
        let mut listener = Listener::new(File::from(terminal.master));
        listener.await_words("Tracing outstanding", PATIENCE)?;
        Ok(Running::Memleak { child, listener })
    }
}

/// A tracer at work.
pub(crate) enum Running {
    /// None is.
    Nothing,
    /// outlive.
    Outlive { child: Child, listener: Listener, report: PathBuf },
    /// memleak.
    Memleak { child: Child, listener: Listener },
}

impl Running {
    /// outlive's process.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Outlive { child, .. } => Some(child.id()),
            _ => None,
        }
    }

    /// Stops outlive. Gives its last report, and the most memory that was resident, bytes.
    pub(crate) fn report(self) -> Result<(Value, u64)> {
        let Self::Outlive { mut child, listener, report } = self else {
            bail!("outlive does not run")
        };
        let interrupted = kill(nix_pid(&child)?, Signal::SIGINT);
        interrupted.context("cannot interrupt outlive")?;
        let mut highest = 0;
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait for outlive")? {
                break status;
            }
            // Once it is ending it has no memory any more.
            highest = highest.max(memory_bytes(child.id(), "VmHWM").unwrap_or(0));
            std::thread::sleep(Duration::from_millis(1));
        };
        ensure!(status.success(), "outlive failed: {}", listener.everything().trim());
        let reports = fs::read_to_string(&report).context("there is no report")?;
        Ok((last_report(&reports)?, highest))
    }

    /// Stops it and checks that it did its work.
    ///
    /// `least` is what the workload alone is sure to keep allocated at its end. It must be far above what the shell
    /// does that becomes the workload: a tracer that lost its target at the exec has seen that, too.
    pub(crate) fn stop(self, least: u64) -> Result<Evidence> {
        match self {
            Self::Nothing => Ok(Evidence::default()),
            Self::Outlive { .. } => outlive_evidence(&self.report()?.0, least),
            Self::Memleak { mut child, listener } => {
                interrupt(&mut child)?;
                memleak_evidence(&listener.everything(), least)
            }
        }
    }
}

/// Memory of a process by its name in `/proc/PID/status`, bytes.
pub(crate) fn memory_bytes(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("it has ended")?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("process {pid} has no {name}"))? * 1024)
}

/// Ends a tracer as Ctrl-C would. One that ended with its target is only waited for.
fn interrupt(child: &mut Child) -> Result<bool> {
    kill(nix_pid(child)?, Signal::SIGINT).context("cannot interrupt the tracer")?;
    Ok(child.wait().context("cannot wait for the tracer")?.success())
}

fn nix_pid(child: &Child) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(child.id()).context("not a PID")?))
}

fn last_report(reports: &str) -> Result<Value> {
    let report = reports.lines().last().context("the report is empty")?;
    serde_json::from_str(report).context("the report is not JSON")
}

fn outlive_evidence(report: &Value, least: u64) -> Result<Evidence> {
    let hits = report["cost"]["allocate_hits"].as_u64().context("the report tells no hits")?;
    ensure!(hits >= least, "outlive's probes ran {hits} times, not even {least}");
    let lost_events =
        report["loss"]["lost_events"].as_u64().context("the report tells no losses")?;
    Ok(Evidence { lost_events: Some(lost_events) })
}

/// memleak tells only what is outstanding, for the ten largest stacks: `N bytes in N allocations from stack`.
fn memleak_evidence(said: &str, least: u64) -> Result<Evidence> {
    let stacks =
        said.lines().filter_map(|line| line.trim().strip_suffix(" allocations from stack"));
    let counts = stacks.filter_map(|stack| stack.rsplit(' ').next()?.parse::<u64>().ok());
    let outstanding: u64 = counts.sum();
    ensure!(
        outstanding >= least,
        "memleak saw {outstanding} outstanding allocations, not even {least}: {}",
        said.trim()
    );
    Ok(Evidence::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracer_that_saw_nothing_is_no_measurement() {
        let evidence = |text: &str| outlive_evidence(&last_report(text)?, 7);
        let report = |hits: u32| {
            format!(r#"{{"cost":{{"allocate_hits":{hits}}},"loss":{{"lost_events":3}}}}"#)
        };
        assert_eq!(evidence(&report(7)).expect("seen").lost_events, Some(3));
        assert!(evidence(&report(6)).is_err());
        assert!(evidence(r#"{"cost":{},"loss":{"lost_events":3}}"#).is_err());
        assert!(evidence("").is_err());
        let stacks = "100 bytes in 5 allocations from stack\r\n\t0 [<1>] main\r\n\
            60 bytes in 2 allocations from stack\r\n";
        assert!(memleak_evidence(stacks, 7).is_ok());
        assert!(memleak_evidence(stacks, 8).is_err());
        assert!(memleak_evidence("Top 0 stacks with outstanding allocations:", 7).is_err());
    }
}
