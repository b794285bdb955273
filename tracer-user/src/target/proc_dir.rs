//! `/proc/PID`, held open: what is read through it is of that process, never of a later one with the same number.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::Pid;

/// Most bytes read of one file there. `maps` of a process with 65,530 mappings, the kernel's limit, has about 10 MB.
const MAX_BYTES: u64 = 64 << 20;

/// The directory of one process.
#[derive(Debug)]
pub struct ProcDir {
    dir: File,
    pid: Pid,
}

impl ProcDir {
    /// Opens the directory; `NotFound` when there is no such process, or it is hidden from this user.
    pub fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self { dir: File::open(format!("/proc/{pid}"))?, pid })
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A path that leads to a file of the directory while this is held; it leads nowhere once the process has ended.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        Path::new("/proc/self/fd").join(self.dir.as_raw_fd().to_string()).join(name)
    }

    /// Reads a file of the directory.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(name))?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a text file of the directory; what is not UTF-8 is replaced.
    pub fn read_text(&self, name: &str) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read(name)?).into_owned())
    }

    /// Where a symbolic link of the directory says it leads.
    pub fn read_link(&self, name: &str) -> io::Result<PathBuf> {
        fs::read_link(self.path(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_own_process_and_no_ended_one() {
        let own = ProcDir::open(Pid(std::process::id())).expect("own directory");
        assert!(own.read_text("status").expect("status").starts_with("Name:"));
        let mut child = std::process::Command::new("/bin/true").spawn().expect("a child");
        let dir = ProcDir::open(Pid(child.id())).expect("not reaped yet");
        child.wait().expect("ends");
        assert!(dir.read("status").is_err());
    }
}
