//! Which kinds of link this kernel has: probed by asking for one, never guessed from its version.

use std::os::fd::AsFd as _;

use aya_obj::generated::bpf_insn;

use crate::sys::bpf::{self, AttachType, MultiLink};

/// How probes are attached. Later ones are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A perf event and a program for each probe; detaching takes about 0.1 s each.
    Single,
    /// One link for many probes; every return is trapped (kernel 6.6).
    Multi,
    /// One link for entry and return; an entry decides whether its return is trapped (kernel 6.13).
    Session,
}

impl LinkKind {
    /// The name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Multi => "multi",
            Self::Session => "session",
        }
    }

    /// The kernel's attach type of an allocating function's program.
    pub const fn attach_type(self) -> AttachType {
        match self {
            Self::Single => AttachType::PerfEvent,
            Self::Multi => AttachType::UprobeMulti,
            Self::Session => AttachType::UprobeSession,
        }
    }
}

/// The best kind of link this kernel offers to this process.
pub fn best_link_kind() -> LinkKind {
    [LinkKind::Session, LinkKind::Multi]
        .into_iter()
        .find(|kind| has_link_kind(*kind))
        .unwrap_or(LinkKind::Single)
}

/// Whether the kernel has this kind of link.
///
/// It is asked for a link in `/`, which is no regular file: a kernel that knows the kind says so (`EBADF`), one that
/// does not finds the request invalid (`EINVAL`).
pub fn has_link_kind(kind: LinkKind) -> bool {
    if kind == LinkKind::Single {
        return true;
    }
    let program = bpf::Program {
        name: "outlive_feature",
        instructions: &return_zero(),
        attach_type: kind.attach_type(),
        btf: None,
    };
    let Ok(program) = bpf::load_program(&program) else { return false };
    let link = MultiLink {
        path: c"/",
        offsets: &[0],
        cookies: &[0],
        semaphores: &[],
        pid: 0,
        at_return: false,
    };
    match bpf::link_uprobes(program.as_fd(), kind.attach_type(), &link) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() == Some(libc::EBADF),
    }
}

/// Whether the kernel has `bpf_loop` (5.17).
///
/// A call of it without arguments is refused either way: for the arguments (`EACCES`) when there is such a helper.
pub fn has_loop() -> bool {
    const LOOP: i32 = 181;
    let program = bpf::Program {
        name: "outlive_feature",
        instructions: &[instruction(CALL, LOOP), instruction(EXIT, 0)],
        attach_type: AttachType::PerfEvent,
        btf: None,
    };
    bpf::load_program(&program)
        .is_err_and(|refused| refused.error.raw_os_error() == Some(libc::EACCES))
}

const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const MOVE_NUMBER: u8 = 0xb7;

/// `r0 = 0; exit`
fn return_zero() -> [bpf_insn; 2] {
    [instruction(MOVE_NUMBER, 0), instruction(EXIT, 0)]
}

fn instruction(code: u8, imm: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off: 0,
        imm,
    }
}
