//! `outlive doctor`: can this host, and a process on it, be traced, how well, and what to do about it.
//!
//! In: the kernel, asked; `/proc`; a PID. Out: [`Finding`]s as text or JSON on standard output, and an exit status. Nothing is
//! attached to the process.

mod finding;
mod host;
mod process;
mod rights;

use std::collections::BTreeMap;
use std::io::{self, Write as _};

pub use finding::{Finding, Level};

use crate::fault::{Fault, Status};
use crate::target::{Pid, Target};

/// All that was found.
#[derive(Debug, Default)]
struct Examination {
    findings: Vec<Finding>,
    /// Instructions the verifier walked through, by program; none when they were not accepted.
    programs: BTreeMap<&'static str, u32>,
}

/// Examines the host and, given a PID, that process; prints what was found.
///
/// [`Status::Success`] when it can be traced; [`Status::NotAllowed`] when this host or these rights do not allow it,
/// [`Status::NoTarget`] when there is nothing in the process to trace. A process that cannot be looked at is a fault as for `attach`.
pub fn examine(pid: Option<u32>, json: bool) -> Result<Status, Fault> {
    let mut examination = host::examine();
    let host_allows = !examination.findings.iter().any(Finding::is_problem);
    let target = pid.map(|pid| Target::open(Pid(pid))).transpose();
    match &target {
        Ok(Some(target)) => examination.findings.extend(process::examine(target)),
        Ok(None) => {}
        Err(fault) => examination.findings.push(Finding::problem(
            "process",
            format!("{}: {}", fault.what, fault.why),
            fault.remedy.clone(),
        )),
    }
    print(&if json { finding::to_json(&examination) } else { finding::to_text(&examination) })?;
    target?;
    if !host_allows {
        return Ok(Status::NotAllowed);
    }
    let traceable = !examination.findings.iter().any(Finding::is_problem);
    Ok(if traceable { Status::Success } else { Status::NoTarget })
}

/// A reader that has gone away is no failure.
fn print(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Fault::new(
            Status::Failed,
            "cannot write the findings",
            error.to_string(),
            "check that there is room where standard output goes",
        )),
        _ => Ok(()),
    }
}
