//! The tracers that are compared, each started on a process that waits.
//!
//! In: a PID. Out: a tracer that is ready, and when it is stopped, evidence that it did trace.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::evidence::{self, Evidence};
use crate::listen::Listener;
use crate::traps::Traps;

const PATIENCE: Duration = Duration::from_mins(1);

/// How a program is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracing {
    /// Not at all.
    Untraced,
    /// Trapped where outlive would trap it, and nothing done about it.
    Traps,
    /// By outlive as it attaches when asked for nothing else.
    Usual,
    /// By outlive, one allocation every 512 KiB on average.
    Sampled,
    /// By outlive, one allocation every 4 KiB on average.
    SampledOften,
    /// By outlive, every allocation.
    Exact,
    /// By memleak, every allocation.
    Memleak,
    /// By heaptrack's library inside the program, every allocation.
    Heaptrack,
    /// By valgrind's massif, which runs the program.
    Massif,
}

impl Tracing {
    /// All that are compared, in the order of the table.
    pub(crate) const ALL: [Self; 7] = [
        Self::Untraced,
        Self::Traps,
        Self::Sampled,
        Self::Exact,
        Self::Memleak,
        Self::Heaptrack,
        Self::Massif,
    ];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::Traps => "bare traps",
            Self::Usual => "outlive",
            Self::Sampled => "outlive, sampled (512 KiB)",
            Self::SampledOften => "outlive, sampled (4 KiB)",
            Self::Exact => "outlive, exact",
            Self::Memleak => "memleak (libbpf-tools)",
            Self::Heaptrack => "heaptrack (preloaded)",
            Self::Massif => "massif (valgrind)",
        }
    }
}

/// Where the tracers are, and a directory for what they write.
pub(crate) struct Tracers {
    /// The binary of outlive.
    pub(crate) outlive: PathBuf,
    /// The binary of memleak, if there is one.
    pub(crate) memleak: Option<PathBuf>,
    /// A root directory with heaptrack and valgrind as Debian packs them, if there is one.
    pub(crate) launchers: Option<PathBuf>,
    /// A directory for what is compiled and written.
    pub(crate) work: PathBuf,
}

impl Tracers {
    /// Whether there is what this takes.
    pub(crate) fn have(&self, tracing: Tracing) -> bool {
        match tracing {
            Tracing::Memleak => self.memleak.is_some(),
            Tracing::Heaptrack | Tracing::Massif => self.launchers.is_some(),
            _ => true,
        }
    }

    /// What has to run the program; empty when it runs by itself and a tracer attaches to it.
    pub(crate) fn launcher(&self, tracing: Tracing) -> Result<Vec<OsString>> {
        let words = match (tracing, &self.launchers) {
            (Tracing::Heaptrack, Some(root)) => heaptrack(root, &self.written_inside())?,
            (Tracing::Massif, Some(root)) => massif(root, &self.written_inside()),
            _ => Vec::new(),
        };
        Ok(words)
    }

    /// What a tracer inside the program writes.
    fn written_inside(&self) -> PathBuf {
        self.work.join("written-inside")
    }

    /// Traces a process; returns when the probes are in place.
    pub(crate) fn start(&self, tracing: Tracing, pid: u32) -> Result<Running> {
        let running = match (tracing, &self.memleak) {
            (Tracing::Untraced, _) => Ok(Running::Nothing),
            (Tracing::Traps, _) => Traps::set(pid).map(Running::Traps),
            (Tracing::Usual, _) => self.outlive(pid, &[]),
            (Tracing::Exact, _) => self.outlive(pid, &["--exact"]),
            (Tracing::Sampled, _) => {
                self.outlive(pid, &["--sample", "512KiB", "--max-overhead", "none"])
            }
            (Tracing::SampledOften, _) => {
                self.outlive(pid, &["--sample", "4KiB", "--max-overhead", "none"])
            }
            (Tracing::Memleak, Some(program)) => self.memleak(program, pid),
            (Tracing::Memleak, None) => bail!("there is no memleak"),
            (Tracing::Heaptrack, _) => Ok(Running::Heaptrack(self.written_inside())),
            (Tracing::Massif, _) => Ok(Running::Massif(self.written_inside())),
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

/// heaptrack's own script does the same, and has what the library writes read by another program.
fn heaptrack(root: &Path, written: &Path) -> Result<Vec<OsString>> {
    let library = root.join("usr/lib/heaptrack/libheaptrack_preload.so");
    library.metadata().context("the package of heaptrack has no library to preload")?;
    // Libraries that it needs, and the host need not have.
    let others = root.join("usr/lib/x86_64-linux-gnu");
    let set = |name: &str, value: &Path| {
        let mut word = OsString::from(name);
        word.push("=");
        word.push(value);
        word
    };
    Ok(vec![
        OsString::from("env"),
        set("LD_PRELOAD", &library),
        set("LD_LIBRARY_PATH", &others),
        set("DUMP_HEAPTRACK_OUTPUT", written),
    ])
}

fn massif(root: &Path, written: &Path) -> Vec<OsString> {
    let mut libraries = OsString::from("VALGRIND_LIB=");
    libraries.push(root.join("usr/libexec/valgrind"));
    let mut output = OsString::from("--massif-out-file=");
    output.push(written);
    let program = root.join("usr/bin/valgrind.bin").into_os_string();
    vec!["env".into(), libraries, program, "--quiet".into(), "--tool=massif".into(), output]
}

/// A tracer at work.
pub(crate) enum Running {
    /// None is.
    Nothing,
    /// Traps.
    Traps(Traps),
    /// outlive.
    Outlive { child: Child, listener: Listener, report: PathBuf },
    /// memleak.
    Memleak { child: Child, listener: Listener },
    /// heaptrack, and what it writes.
    Heaptrack(PathBuf),
    /// massif, and what it writes.
    Massif(PathBuf),
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
        Ok((evidence::last_report(&reports)?, highest))
    }

    /// Stops it, the program having ended, and checks that it did its work on at least so many allocations
    /// ([`crate::evidence`]).
    pub(crate) fn stop(self, least: u64) -> Result<Evidence> {
        match self {
            Self::Nothing => Ok(Evidence::default()),
            Self::Traps(traps) => traps.evidence(least),
            Self::Outlive { .. } => evidence::of_outlive(&self.report()?.0, least),
            Self::Memleak { mut child, listener } => {
                interrupt(&mut child)?;
                evidence::of_memleak(&listener.everything(), least)
            }
            Self::Heaptrack(written) => {
                let evidence = evidence::of_heaptrack(&written, least);
                fs::remove_file(&written).context("cannot remove what heaptrack wrote")?;
                evidence
            }
            Self::Massif(written) => {
                let text = fs::read_to_string(&written).context("massif has written nothing")?;
                fs::remove_file(&written).context("cannot remove what massif wrote")?;
                evidence::of_massif(&text, least)
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
