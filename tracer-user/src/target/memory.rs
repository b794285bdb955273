//! A process's memory as the kernel accounts it: what is resident, and the limit of its control group.
//!
//! In: `/proc/PID/status` and `/proc/PID/cgroup`, `/proc/self/mountinfo`, the limits of the groups. Out: a [`ProcessMemory`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::proc_dir::ProcDir;
use super::status::Status;

/// cgroup v1 writes "no limit" as the largest multiple of the page size below 2^63; no machine has a thousandth of it.
const NO_LIMIT_BYTES: u64 = 1 << 53;

/// Memory of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident set, bytes.
    pub rss_bytes: u64,
    /// The smallest limit of its control group and of the groups that one is in, bytes.
    pub limit_bytes: Option<u64>,
}

impl ProcessMemory {
    /// Reads both. Fails when the process has ended.
    pub fn read(process: &ProcDir) -> io::Result<Self> {
        let status = Status::parse(&process.read_text("status")?, "");
        let cgroup = process.read_text("cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let limit_bytes = limit(&cgroup, &mounts, &|path| fs::read_to_string(path).ok());
        Ok(Self { rss_bytes: status.rss_bytes, limit_bytes })
    }
}

/// The two kinds of hierarchy. Hybrid systems have both, and the memory controller in one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    fn limit_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }
}

pub(crate) fn limit(
    cgroup: &str,
    mounts: &str,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Option<u64> {
    let groups = cgroup.lines().filter_map(parse_group);
    groups.filter_map(|(version, group)| limit_of_group(version, group, mounts, read)).min()
}

/// The smallest limit from a group up to the root of its hierarchy.
fn limit_of_group(
    version: Version,
    group: &str,
    mounts: &str,
    read: &dyn Fn(&Path) -> Option<String>,
) -> Option<u64> {
    let (root, mount_point) = mounts.lines().find_map(|line| parse_mount(line, version))?;
    let below = Path::new(group).strip_prefix(&root).ok()?;
    // A group outside of this process's own control group namespace is written with `..`, and cannot be reached.
    if below.components().any(|part| part.as_os_str() == "..") {
        return None;
    }
    let limits = below.ancestors().filter_map(|group| {
        let text = read(&mount_point.join(group).join(version.limit_file()))?;
        text.trim().parse::<u64>().ok().filter(|limit| *limit < NO_LIMIT_BYTES)
    });
    limits.min()
}

/// `id:controllers:path` of the hierarchy that may account memory.
fn parse_group(line: &str) -> Option<(Version, &str)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    if controllers.is_empty() {
        return Some((Version::V2, path));
    }
    controllers.split(',').any(|name| name == "memory").then_some((Version::V1, path))
}

/// Root and mount point of the hierarchy, when the line of `mountinfo` is the mount of it.
fn parse_mount(line: &str, version: Version) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let matches = match (version, kind.next()?) {
        (Version::V2, "cgroup2") => true,
        (Version::V1, "cgroup") => kind.nth(1)?.split(',').any(|option| option == "memory"),
        _ => false,
    };
    let mut fields = mount.split(' ').skip(3);
    matches.then_some((fields.next()?.into(), fields.next()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Pid;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn files<'a>(files: &'a [(&str, &str)]) -> impl Fn(&Path) -> Option<String> + 'a {
        |path| files.iter().find(|f| Path::new(f.0) == path).map(|f| f.1.to_owned())
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let read = files(&[
            ("/sys/fs/cgroup/pod/app/memory.max", "max\n"),
            ("/sys/fs/cgroup/pod/memory.max", "2147483648\n"),
        ]);
        assert_eq!(limit("0::/pod/app\n", mounts, &read), Some(2 << 30));
        assert_eq!(limit("0::/other\n", mounts, &read), None);
        assert_eq!(limit("0::/../pod\n", mounts, &read), None);
    }

    #[test]
    fn hybrid_systems_have_it_in_the_first_version() {
        let read = files(&[
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(limit("4:memory:/a\n1:cpu:/\n0::/\n", HYBRID, &read), Some(1 << 20));
        assert_eq!(limit("4:memory:/\n0::/\n", HYBRID, &read), None);
    }

    #[test]
    fn a_mount_of_a_part_shows_only_that_part() {
        let mounts = "30 25 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let read = files(&[("/sys/fs/cgroup/memory.max", "4096")]);
        assert_eq!(limit("0::/docker/x\n", mounts, &read), Some(4096));
        assert_eq!(limit("0::/docker/y\n", mounts, &read), None);
    }

    #[test]
    fn this_process_is_resident() {
        let own = ProcDir::open(Pid(std::process::id())).expect("own process");
        assert!(ProcessMemory::read(&own).expect("alive").rss_bytes > 1 << 20);
    }
}
