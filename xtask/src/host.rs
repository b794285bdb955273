//! What the host offers: rights, the trace file system, a C compiler.
//!
//! In: `/proc` and `PATH`. Out: yes or no, or a failure that says how to get it.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::failure::{OrFail as _, failure};
use crate::process;

const TRACEFS: &str = "/sys/kernel/tracing";

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| effective_user(&status) == Some(0))
}

/// Refuses to go on for anyone but root.
pub(crate) fn require_root(what: &str, command: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let remedy = format!("run it as root: sudo -E env \"PATH=$PATH\" {command}");
    Err(failure(what, "loading kernel programs takes root's rights", &remedy))
}

/// Mounts the trace file system when it is not.
pub(crate) fn mount_tracefs() -> Result<()> {
    let what = "the trace file system cannot be mounted";
    let remedy = format!("run `mount -t tracefs tracefs {TRACEFS}` and see what it says");
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts");
    if is_tracefs_mounted(&mounts.or_fail(what, &remedy)?) {
        return Ok(());
    }
    let mount = &mut Command::new("mount");
    process::output(mount.args(["-t", "tracefs", "tracefs", TRACEFS])).or_fail(what, &remedy)?;
    Ok(())
}

/// Refuses to go on without a C compiler.
pub(crate) fn require_c_compiler(user: &str) -> Result<()> {
    if process::found("cc") {
        return Ok(());
    }
    let remedy = "install one: `apt-get install gcc libc6-dev` (Debian, Ubuntu) or `dnf install gcc` (Fedora)";
    Err(failure(&format!("{user} takes a C compiler"), "there is no `cc` in PATH", remedy))
}

fn effective_user(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

fn is_tracefs_mounted(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(TRACEFS) && fields.next() == Some("tracefs")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(0));
        assert_eq!(effective_user("Name:\tx\n"), None);
    }

    #[test]
    fn the_mount_point_and_its_type_count() {
        assert!(is_tracefs_mounted("tracefs /sys/kernel/tracing tracefs rw 0 0\n"));
        assert!(!is_tracefs_mounted("x /sys/kernel/tracing autofs rw 0 0\n"));
        assert!(!is_tracefs_mounted("tracefs /sys/kernel/debug/tracing tracefs rw 0 0\n"));
    }
}
