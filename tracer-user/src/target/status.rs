//! `/proc/PID/status` and `/proc/PID/stat`, parsed: who a process is.

/// `PF_KTHREAD` of the flags in `/proc/PID/stat`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What the two files say. What they do not say is 0 or false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Thread group: the PID of the process that a thread is of.
    pub(super) tgid: u32,
    /// PID in the innermost namespace.
    pub(super) namespaced_pid: u32,
    /// Real user.
    pub(super) uid: u32,
    /// Ended, and waiting for its parent to take notice.
    pub(super) is_zombie: bool,
    /// Part of the kernel.
    pub(super) is_kernel_thread: bool,
    /// Start, clock ticks since boot.
    pub(super) start_ticks: u64,
    /// Resident set, bytes.
    pub(super) rss_bytes: u64,
}

impl Status {
    pub(crate) fn parse(status: &str, stat: &str) -> Self {
        let (flags, start_ticks) = parse_stat(stat);
        let mut result =
            Self { is_kernel_thread: flags & KERNEL_THREAD != 0, start_ticks, ..Self::default() };
        for line in status.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let mut words = value.split_ascii_whitespace();
            match key {
                "Tgid" => result.tgid = number(words.next()),
                "NSpid" => result.namespaced_pid = number(words.next_back()),
                "Uid" => result.uid = number(words.next()),
                "State" => result.is_zombie = matches!(words.next(), Some("Z" | "X")),
                "VmRSS" => result.rss_bytes = number::<u64>(words.next()).saturating_mul(1024),
                _ => {}
            }
        }
        result
    }
}

fn number<T: std::str::FromStr + Default>(word: Option<&str>) -> T {
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Flags (field 9) and start (field 22). The name, field 2, may hold anything, so fields count from its closing bracket.
fn parse_stat(stat: &str) -> (u64, u64) {
    let after_name = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
    let mut fields = after_name.split_ascii_whitespace();
    let flags = number(fields.nth(6));
    (flags, number(fields.nth(12)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcat)\nState:\tS (sleeping)\nTgid:\t4242\nPid:\t4243\nUid:\t1000\t0\t0\t0\n\
        NSpid:\t4243\t7\nVmRSS:\t    1200 kB\n";
    const STAT: &str =
        "4243 (c) at) S 1 2 3 4 5 2129984 7 8 9 10 11 12 13 14 15 16 17 18 987654 20";

    #[test]
    fn takes_the_fields_despite_a_name_with_brackets() {
        let status = Status::parse(STATUS, STAT);
        assert_eq!(
            status,
            Status {
                tgid: 4242,
                namespaced_pid: 7,
                uid: 1000,
                is_zombie: false,
                is_kernel_thread: true,
                start_ticks: 987_654,
                rss_bytes: 1200 * 1024,
            }
        );
        assert!(Status::parse("State:\tZ (zombie)", STAT).is_zombie);
    }

    #[test]
    fn nonsense_gives_nothing() {
        assert_eq!(Status::parse("", ""), Status::default());
        assert_eq!(
            Status::parse("Tgid:\nUid\nNSpid: x\nVmRSS: 99999999999999999999 kB", ") S").tgid,
            0
        );
    }
}
