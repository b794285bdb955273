//! The parts of bpf(2) that aya 0.14 lacks: loading a program with any attach type, and uprobe multi links.
//!
//! Layouts follow `union bpf_attr` (include/uapi/linux/bpf.h, kernel 6.18); only fields used are named, the rest is
//! zero, which the kernel takes as absent.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use aya_obj::generated::bpf_insn;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_BTF_LOAD: libc::c_long = 18;
const BPF_LINK_CREATE: libc::c_long = 28;

const PROG_TYPE_KPROBE: u32 = 2;
/// Flag of a multi link: probe the return instead of the entry.
const UPROBE_MULTI_RETURN: u32 = 1;

/// How a program is attached (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum AttachType {
    /// One probe through a perf event.
    PerfEvent = 0,
    /// Many probes by one link (kernel 6.6).
    UprobeMulti = 48,
    /// Many probes by one link; one program runs at entry and at return (kernel 6.13).
    UprobeSession = 57,
}

#[repr(C)]
#[derive(Default)]
struct BtfLoad {
    btf: u64,
    log: u64,
    btf_bytes: u32,
    log_bytes: u32,
    log_level: u32,
    log_true_bytes: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
    btf_fd: u32,
    func_info_record_bytes: u32,
    func_info: u64,
    func_info_count: u32,
    line_info_record_bytes: u32,
    line_info: u64,
    line_info_count: u32,
    attach_btf_id: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_counter_offsets: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    fd: u32,
    info_bytes: u32,
    info: u64,
}

/// Start of `struct bpf_prog_info`, up to the field used.
#[repr(C)]
struct ProgInfo {
    before: [u8; 216],
    verified_instructions: u32,
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes are a live, writable structure of the size passed; each caller keeps what its pointers
    // lead to alive across the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just returned this descriptor to us, nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads type information for programs.
pub fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attributes =
        BtfLoad { btf: btf.as_ptr() as u64, btf_bytes: btf.len() as u32, ..BtfLoad::default() };
    bpf(BPF_BTF_LOAD, &mut attributes).map(own)
}

/// A program to load.
pub struct Program<'a> {
    /// Name shown by tools; cut at 15 characters.
    pub name: &'a str,
    /// Relocated instructions.
    pub instructions: &'a [bpf_insn],
    /// How it will be attached.
    pub attach_type: AttachType,
    /// Type information from [`load_btf`], and its function records.
    pub btf: Option<(BorrowedFd<'a>, FunctionRecords<'a>)>,
}

/// Which type each subprogram has (`struct bpf_func_info`), needed for loop callbacks.
pub struct FunctionRecords<'a> {
    /// The records, one after the other.
    pub bytes: &'a [u8],
    /// Bytes of one record.
    pub record_bytes: usize,
    /// Number of records.
    pub count: usize,
}

/// Why a program was not loaded: the error and what the verifier said.
#[derive(Debug)]
pub struct LoadError {
    /// The system call's error.
    pub error: io::Error,
    /// The verifier's log; empty if it did not run.
    pub log: String,
}

/// Loads a uprobe program. On failure it is loaded once more to get the verifier's log.
pub fn load_program(program: &Program<'_>) -> Result<OwnedFd, LoadError> {
    let first = load_with_log(program, &mut []);
    first.or_else(|error| {
        if !matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL | libc::E2BIG)) {
            return Err(LoadError { error, log: String::new() });
        }
        let mut log = vec![0_u8; 1 << 24];
        load_with_log(program, &mut log).map_err(|error| {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            LoadError { error, log: String::from_utf8_lossy(&log[..end]).into_owned() }
        })
    })
}

fn load_with_log(program: &Program<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    const LICENSE: &CStr = c"Dual MIT/GPL";
    let mut attributes = ProgLoad {
        prog_type: PROG_TYPE_KPROBE,
        instruction_count: program.instructions.len() as u32,
        instructions: program.instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        expected_attach_type: program.attach_type as u32,
        ..ProgLoad::default()
    };
    for (to, from) in attributes.name.iter_mut().take(15).zip(program.name.bytes()) {
        *to = from;
    }
    if !log.is_empty() {
        attributes.log_level = 1;
        attributes.log_bytes = log.len() as u32;
        attributes.log = log.as_mut_ptr() as u64;
    }
    if let Some((btf, records)) = &program.btf {
        attributes.btf_fd = btf.as_raw_fd() as u32;
        attributes.func_info = records.bytes.as_ptr() as u64;
        attributes.func_info_record_bytes = records.record_bytes as u32;
        attributes.func_info_count = records.count as u32;
    }
    bpf(BPF_PROG_LOAD, &mut attributes).map(own)
}

/// Instructions the verifier walked through for a loaded program; `None` on kernels that do not tell (before 5.16).
pub fn verified_instructions(program: BorrowedFd<'_>) -> Option<u32> {
    let mut info = ProgInfo { before: [0; 216], verified_instructions: 0 };
    let mut attributes = InfoByFd {
        fd: program.as_raw_fd() as u32,
        info_bytes: size_of::<ProgInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes).ok()?;
    (attributes.info_bytes as usize >= size_of::<ProgInfo>()).then_some(info.verified_instructions)
}

/// Many probes in one file.
pub struct MultiLink<'a> {
    /// The file.
    pub path: &'a CStr,
    /// Positions in it, bytes.
    pub offsets: &'a [u64],
    /// The program's cookie at each.
    pub cookies: &'a [u64],
    /// Position in the file of a counter that the kernel raises for each, 0 for none; empty when none has one.
    pub semaphores: &'a [u64],
    /// Only in this process; 0 for all.
    pub pid: u32,
    /// At the return instead of the entry.
    pub at_return: bool,
}

/// Attaches a program loaded with [`AttachType::UprobeMulti`] or [`AttachType::UprobeSession`]. Closing the result
/// detaches it.
pub fn link_uprobes(
    program: impl AsFd,
    attach_type: AttachType,
    link: &MultiLink<'_>,
) -> io::Result<OwnedFd> {
    let count = link.offsets.len();
    let semaphores = link.semaphores.len();
    if count != link.cookies.len() || (semaphores != count && semaphores != 0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut attributes = LinkCreate {
        prog_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: attach_type as u32,
        path: link.path.as_ptr() as u64,
        offsets: link.offsets.as_ptr() as u64,
        ref_counter_offsets: if semaphores == 0 { 0 } else { link.semaphores.as_ptr() as u64 },
        cookies: link.cookies.as_ptr() as u64,
        count: count as u32,
        multi_flags: if link.at_return { UPROBE_MULTI_RETURN } else { 0 },
        pid: link.pid,
        ..LinkCreate::default()
    };
    bpf(BPF_LINK_CREATE, &mut attributes).map(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(std::mem::offset_of!(ProgLoad, name), 48);
        assert_eq!(std::mem::offset_of!(ProgLoad, expected_attach_type), 68);
        assert_eq!(std::mem::offset_of!(ProgLoad, func_info), 80);
        assert_eq!(std::mem::offset_of!(LinkCreate, path), 16);
        assert_eq!(std::mem::offset_of!(LinkCreate, ref_counter_offsets), 32);
        assert_eq!(std::mem::offset_of!(LinkCreate, cookies), 40);
        assert_eq!(std::mem::offset_of!(LinkCreate, pid), 56);
        assert_eq!(
            std::mem::offset_of!(ProgInfo, verified_instructions),
            std::mem::offset_of!(aya_obj::generated::bpf_prog_info, verified_insns)
        );
    }
}
