//! What this host offers: asked of the kernel by using it, not guessed from its version.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::rights::Rights;
use super::{Examination, Finding};
use crate::probes::features::{LinkKind, has_link_kind, has_loop};
use crate::probes::object::{KernelObject, KernelOptions};
use crate::probes::verify::verified_instructions;

pub(super) fn examine() -> Examination {
    let rights = Rights::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let mut findings = vec![kernel(), rights.finding(), ring_buffer()];
    findings.extend(links(rights));
    findings.push(walks(rights));
    let (programs, finding) = match verified_instructions() {
        Ok(programs) => {
            let finding = accepted(&programs.values().copied().collect::<Vec<_>>());
            (programs, finding)
        }
        Err(fault) => (BTreeMap::new(), Finding::problem("programs", fault.why, fault.remedy)),
    };
    findings.push(finding);
    findings.extend([btf(), tracefs(), lockdown(), paranoid(), locked_memory()]);
    Examination { findings, programs }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Finding::ok("kernel", format!("Linux {}, {}", release.trim(), std::env::consts::ARCH))
}

/// The maps of a run, the ring buffer among them, made and thrown away.
fn ring_buffer() -> Finding {
    let options = KernelOptions { sample_mean_bytes: 0, ring_bytes: 1 << 16, live_capacity: 1024 };
    match KernelObject::open(&options) {
        Ok(_) => Finding::ok("ring buffer", "maps and a ring buffer can be created"),
        Err(fault) => Finding::problem("ring buffer", fault.why, fault.remedy),
    }
}

fn links(rights: Rights) -> [Finding; 2] {
    if !rights.are_complete() {
        // The kernel refuses the question, which says nothing of what it offers.
        return ["session links", "multi links"].map(|name| {
            Finding::warning(name, "not known: asking needs rights", "run outlive with sudo")
        });
    }
    let session = if has_link_kind(LinkKind::Session) {
        Finding::ok("session links", "offered: a call that is not sampled costs its entry only")
    } else {
        Finding::warning(
            "session links",
            "not offered: every return of an allocating function is trapped too",
            "use Linux 6.13 or newer for less overhead",
        )
    };
    let multi = if has_link_kind(LinkKind::Multi) {
        Finding::ok("multi links", "offered: all probes of a file are attached at once")
    } else if rights.allows_perf_probes() {
        Finding::warning(
            "multi links",
            "not offered: probes are attached one by one, as perf events",
            "use Linux 6.6 or newer to attach and detach faster",
        )
    } else {
        Finding::problem(
            "multi links",
            "not offered, and perf events, which stand in for them, need CAP_SYS_ADMIN",
            "run outlive with sudo, or use Linux 6.6 or newer",
        )
    };
    [session, multi]
}

fn walks(rights: Rights) -> Finding {
    let name = "stack walks";
    if !rights.are_complete() {
        return Finding::warning(name, "not known: asking needs rights", "run outlive with sudo");
    }
    let how = if has_loop() { "bpf_loop" } else { "an ordinary loop, without bpf_loop" };
    Finding::ok(name, format!("by unwind tables, in {how}"))
}

fn accepted(counts: &[u32]) -> Finding {
    // Kernels before 5.16 do not tell how many instructions they walked.
    let detail = match counts.iter().max() {
        Some(most) => format!(
            "the verifier accepts all {}; it walks {most} instructions at most",
            counts.len()
        ),
        None => "the verifier accepts all".to_owned(),
    };
    Finding::ok("programs", detail)
}

fn btf() -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        return Finding::ok("kernel BTF", format!("{path} is there"));
    }
    Finding::warning(
        "kernel BTF",
        format!("there is no {path}; programs that watch processes may not load"),
        "use a kernel with CONFIG_DEBUG_INFO_BTF, as distributions have",
    )
}

fn tracefs() -> Finding {
    let mounted = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .find(|path| Path::new(path).join("events").exists());
    match mounted {
        Some(path) => Finding::ok("tracefs", format!("mounted at {path}")),
        None => Finding::warning(
            "tracefs",
            "not mounted: --follow-fork needs it, nothing else does",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

/// The mode in force is in brackets: `none [integrity] confidentiality`.
fn lockdown() -> Finding {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    lockdown_finding(modes.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0)))
}

fn lockdown_finding(mode: Option<&str>) -> Finding {
    match mode {
        None => Finding::ok("lockdown", "the kernel has none, or does not show it"),
        Some("confidentiality") => Finding::warning(
            "lockdown",
            "confidentiality: the kernel may refuse programs that read memory",
            "start the kernel with lockdown=integrity if programs are refused",
        ),
        Some(mode) => Finding::ok("lockdown", format!("{mode}: no hindrance")),
    }
}

fn paranoid() -> Finding {
    let name = "perf_event_paranoid";
    match fs::read_to_string(Path::new("/proc/sys/kernel").join(name)) {
        Ok(value) => {
            let value = value.trim();
            Finding::ok(
                name,
                format!("{value}: no hindrance with the capabilities that tracing needs"),
            )
        }
        Err(_) => Finding::warning(
            name,
            "the kernel has no perf events",
            "use a kernel with CONFIG_PERF_EVENTS if probes are attached one by one",
        ),
    }
}

fn locked_memory() -> Finding {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = soft.and_then(|rest| rest.split_whitespace().next()).unwrap_or("unknown");
    // The limit counts only where maps are not charged to the control group (before 5.11); the ring buffer tells which.
    Finding::ok(
        "locked memory",
        format!("limit {soft} bytes; see ring buffer for whether it is enough"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn this_host_has_a_finding_on_everything() {
        let examination = examine();
        let names: Vec<_> = examination.findings.iter().map(|f| f.name).collect();
        for name in ["kernel", "rights", "ring buffer", "session links", "multi links", "programs"]
        {
            assert!(names.contains(&name), "{names:?}");
        }
        for finding in examination.findings {
            assert_eq!(finding.level == Level::Ok, finding.remedy.is_none(), "{finding:?}");
            assert!(!finding.detail.is_empty());
        }
    }

    #[test]
    fn only_the_strictest_lockdown_is_a_warning() {
        assert_eq!(lockdown_finding(None).level, Level::Ok);
        assert_eq!(lockdown_finding(Some("integrity")).level, Level::Ok);
        assert_eq!(lockdown_finding(Some("confidentiality")).level, Level::Warning);
    }
}
