//! The rights of this process: effective capabilities.

use super::Finding;

/// A capability's number and name (include/uapi/linux/capability.h).
type Capability = (u32, &'static str);

const SYS_PTRACE: Capability = (19, "CAP_SYS_PTRACE");
const SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
const PERFMON: Capability = (38, "CAP_PERFMON");
const BPF: Capability = (39, "CAP_BPF");

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    effective: u64,
    uid: u32,
}

impl Rights {
    /// Those of the process that the text of a `/proc/PID/status` is of.
    pub(super) fn parse(status: &str) -> Self {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let effective = field("CapEff:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        // Real, effective, saved, file system.
        let uid = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
        Self { effective: effective.unwrap_or(0), uid: uid.unwrap_or(u32::MAX) }
    }

    fn has(self, (number, _): Capability) -> bool {
        self.effective & (1 << number) != 0
    }

    /// What tracing needs and this process does not have. `CAP_SYS_ADMIN` stands for the two that were split off from it.
    fn missing(self) -> Vec<&'static str> {
        let admin = self.has(SYS_ADMIN);
        [(BPF, admin), (PERFMON, admin), (SYS_PTRACE, false)]
            .into_iter()
            .filter(|(capability, implied)| !implied && !self.has(*capability))
            .map(|((_, name), _)| name)
            .collect()
    }

    /// Whether nothing is missing.
    pub(super) fn are_complete(self) -> bool {
        self.missing().is_empty()
    }

    /// Whether perf events, the only kind of probe before kernel 6.6, may be used.
    pub(super) fn allows_perf_probes(self) -> bool {
        self.has(SYS_ADMIN)
    }

    /// The finding on them.
    pub(super) fn finding(self) -> Finding {
        let who = if self.uid == 0 { "root".to_owned() } else { format!("user {}", self.uid) };
        let missing = self.missing();
        if missing.is_empty() {
            return Finding::ok(
                "rights",
                format!("{who}, with all capabilities that tracing needs"),
            );
        }
        Finding::problem(
            "rights",
            format!("{who}, without {}", missing.join(", ")),
            "run outlive with sudo, or give it CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(set: &str) -> Rights {
        Rights::parse(&format!("Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t{set}\n"))
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(rights("000001ffffffffff").missing(), Vec::<&str>::new());
        assert_eq!(rights("0").missing(), ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]);
        // BPF, PERFMON, SYS_PTRACE
        let least = rights("000000c000080000");
        assert!(least.missing().is_empty() && !least.allows_perf_probes());
        // SYS_ADMIN alone
        assert_eq!(rights("200000").missing(), ["CAP_SYS_PTRACE"]);
    }

    #[test]
    fn nonsense_is_no_right() {
        assert_eq!(Rights::parse("").missing().len(), 3);
        assert!(rights("many").finding().is_problem());
    }
}
