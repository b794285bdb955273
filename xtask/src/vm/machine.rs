//! A virtual machine by emulation: no KVM is needed, and a kernel boots in seconds.
//!
//! In: a kernel, a root file system. Out: what its console said, kept in `target/vm/KERNEL/console.log`. A machine that does not
//! end is killed after a time limit.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::kernels::Kernel;
use super::outcome::suite;
use crate::failure::OrFail as _;
use crate::{process, progress, workspace};

const EMULATOR: &str = "qemu-system-x86_64";
/// Several times what a kernel with the slowest kind of link takes on two processors.
const LIMIT: Duration = Duration::from_mins(40);
/// Silence of a machine that hangs: no test of a slow machine waits longer for anything.
const SILENCE: Duration = Duration::from_mins(6);
/// Lines shown of a machine that did not end as it should.
const TAIL: usize = 25;

/// What a machine said.
pub(crate) struct Console {
    pub(crate) text: String,
    pub(crate) log: PathBuf,
    /// How it ended.
    pub(crate) ending: String,
    pub(crate) taken: Duration,
}

impl Console {
    /// Its last lines.
    pub(crate) fn tail(&self) -> impl Iterator<Item = &str> {
        let count = self.text.lines().count();
        self.text.lines().skip(count.saturating_sub(TAIL))
    }
}

/// Installs the emulator and what packs its files, when they are missing.
pub(crate) fn install() -> Result<()> {
    let missing: Vec<&str> = [(EMULATOR, "qemu-system-x86"), ("cpio", "cpio")]
        .into_iter()
        .filter(|(program, _)| !process::found(program))
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let _shown = progress::step(&format!("installing {}", missing.join(" ")));
    let what = "the emulator cannot be installed";
    let remedy = format!("install {} by hand", missing.join(" and "));
    process::output(Command::new("apt-get").arg("update")).or_fail(what, &remedy)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(missing);
    process::output(install.env("DEBIAN_FRONTEND", "noninteractive")).or_fail(what, &remedy)?;
    Ok(())
}

/// Runs a machine to its end.
pub(crate) fn run(kernel: &Kernel, vmlinuz: &Path, image: &Path) -> Result<Console> {
    let log = workspace::virtual_machines().join(kernel.name).join("console.log");
    let mut file = File::create(&log).context("cannot write the console's log")?;
    let start = Instant::now();
    let mut child = command(vmlinuz, image).spawn().context("cannot run the emulator")?;
    let lines = read_lines(&mut child)?;
    let mut text = String::new();
    let ending = loop {
        let left = LIMIT.saturating_sub(start.elapsed()).min(SILENCE);
        match lines.recv_timeout(left) {
            Ok(line) => {
                if let Some(name) = suite(&line) {
                    progress::say(&format!("suite {name}, Linux {}", kernel.name));
                }
                writeln!(file, "{line}").context("cannot write the console's log")?;
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => {
                child.kill().context("cannot end the emulator")?;
                child.wait().context("cannot wait for the emulator")?;
                break format!("it said nothing for {} s, and was ended", left.as_secs());
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().context("cannot wait for the emulator")?;
                break format!("the emulator ended with {status}");
            }
        }
    };
    fs::metadata(&log).context("the console's log is gone")?;
    Ok(Console { text, log, ending, taken: start.elapsed() })
}

fn command(vmlinuz: &Path, image: &Path) -> Command {
    let mut command = Command::new(EMULATOR);
    // Emulators have spoilt flags after cmpxchg16b (QEMU 7.2), which ended in double faults of the kernel.
    command.args(["-accel", "tcg", "-cpu", "max,cx16=off", "-m", "2048", "-smp", "2"]);
    command.args(["-nographic", "-no-reboot", "-nic", "none"]);
    command.arg("-kernel").arg(vmlinuz).arg("-initrd").arg(image);
    // A panic ends the machine, and so does a reboot.
    command.args(["-append", "console=ttyS0 loglevel=1 panic=-1 rdinit=/init"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn read_lines(child: &mut Child) -> Result<Receiver<String>> {
    let mut output = BufReader::new(child.stdout.take().context("the emulator has no output")?);
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    Ok(receiver)
}
