//! One probe by a perf event: the only kind before uprobe multi links (kernel 6.6).
//!
//! In: a program loaded with [`crate::sys::bpf::AttachType::PerfEvent`], a place in a file. Out: a descriptor that detaches
//! when it is closed. Needs no perf link (5.15), so it works on every kernel that has ring buffers (5.8).

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::{fs, io};

use aya_obj::generated::{PERF_FLAG_FD_CLOEXEC, perf_event_attr};

/// Where the kernel tells about its events of this kind (`sysfs-bus-event_source-devices-format` of its documentation).
const UPROBE: &str = "/sys/bus/event_source/devices/uprobe";
/// `PERF_EVENT_IOC_ENABLE` (`include/uapi/linux/perf_event.h`).
const ENABLE: libc::Ioctl = 0x2400;
/// `PERF_EVENT_IOC_SET_BPF`.
const SET_BPF: libc::Ioctl = 0x4004_2408;

/// Where the position of the counter is in `config` (`PERF_UPROBE_REF_CTR_OFFSET_SHIFT`, kernel/events/core.c).
const SEMAPHORE_SHIFT: u32 = 32;

/// One probe in a file.
pub struct Probe<'a> {
    /// The file.
    pub path: &'a CStr,
    /// Position in it, bytes.
    pub offset: u64,
    /// Position in the file of a counter that the kernel raises while the probe is there (kernel 4.20); 0 for none.
    pub semaphore: u32,
    /// Only in this process.
    pub pid: u32,
    /// At the return instead of the entry.
    pub at_return: bool,
}

/// Attaches a program.
pub fn attach(program: BorrowedFd<'_>, probe: &Probe<'_>) -> io::Result<OwnedFd> {
    let event = open(probe)?;
    control(&event, SET_BPF, program.as_raw_fd())?;
    control(&event, ENABLE, 0)?;
    Ok(event)
}

/// Has a probe counted and nothing else: what any probe costs at least.
pub fn count(probe: &Probe<'_>) -> io::Result<OwnedFd> {
    let event = open(probe)?;
    control(&event, ENABLE, 0)?;
    Ok(event)
}

fn open(probe: &Probe<'_>) -> io::Result<OwnedFd> {
    let kind = read_number(&format!("{UPROBE}/type"), "")?;
    let at_return_bit = read_number(&format!("{UPROBE}/format/retprobe"), "config:")?;
    // SAFETY: a structure of integers, for which zero is the kernel's word for "not set".
    let mut attributes: perf_event_attr = unsafe { std::mem::zeroed() };
    attributes.size = size_of::<perf_event_attr>() as u32;
    attributes.type_ = kind;
    attributes.config =
        u64::from(probe.at_return) << at_return_bit | u64::from(probe.semaphore) << SEMAPHORE_SHIFT;
    attributes.__bindgen_anon_3.config1 = probe.path.as_ptr() as u64;
    attributes.__bindgen_anon_4.config2 = probe.offset;
    // SAFETY: the attributes and the path they lead to live across the call; the rest are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            libc::c_long::from(probe.pid),
            -1 as libc::c_long,
            -1 as libc::c_long,
            libc::c_long::from(PERF_FLAG_FD_CLOEXEC),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to this process, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn read_number(path: &str, before: &str) -> io::Result<u32> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    let number = text.trim().strip_prefix(before).and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{path} says {:?}", text.trim())))
}

fn control(event: &OwnedFd, request: libc::Ioctl, argument: RawFd) -> io::Result<()> {
    // SAFETY: both requests take a number and touch no memory of this process.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
