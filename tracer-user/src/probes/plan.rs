//! What to attach where: pure, so that it is tested without a kernel.
//!
//! In: a module's segments, code and hooks. Out: one [`Site`] for each function, with the row of the kernel's function
//! table that explains its arguments.

use tracer_common::function::{FunctionInfo, Shape};

use crate::allocators::Hook;
use crate::probes::placement::place;
use crate::target::FileOffset;

/// A place to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Name of the function.
    pub name: String,
    /// What it does.
    pub shape: Shape,
    /// Position of the probed instruction in the file.
    pub offset: FileOffset,
    /// The kernel must single-step the instruction.
    pub single_stepped: bool,
    /// Explains the arguments to the kernel program.
    pub info: FunctionInfo,
}

/// The executable segment of a file that holds a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSegment {
    /// ELF address of its start.
    pub address: u64,
    /// Position of its start in the file.
    pub offset: u64,
    /// Length in the file, bytes.
    pub size_bytes: u64,
}

/// Longest stretch of code looked at for a place.
pub const CODE_BYTES: u64 = 256;

/// Plans one function. `read` gives up to so many bytes of the file from a position. `None` when the function does not
/// lie in any executable segment.
pub fn site(
    hook: &Hook,
    segments: &[TextSegment],
    read: impl FnOnce(FileOffset, u64) -> Vec<u8>,
) -> Option<Site> {
    let address = hook.address.0;
    let segment = segments
        .iter()
        .find(|text| address >= text.address && address - text.address < text.size_bytes)?;
    let before = address - segment.address;
    let start = FileOffset(segment.offset.checked_add(before)?);
    let left = segment.size_bytes - before;
    let wanted = if hook.size_bytes == 0 { CODE_BYTES } else { hook.size_bytes.min(CODE_BYTES) };
    let placement = place(&read(start, wanted.min(left)), address);
    let body_bytes = hook.size_bytes.max(placement.offset);
    Some(Site {
        name: hook.name.clone(),
        shape: hook.shape,
        offset: FileOffset(start.0 + placement.offset),
        single_stepped: placement.single_stepped,
        info: FunctionInfo {
            shape: hook.shape as u32,
            reserved: 0,
            text_before: before + placement.offset,
            text_after: left.saturating_sub(placement.offset),
            body_before: placement.offset,
            body_after: body_bytes - placement.offset,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::ElfAddr;

    const TEXT: TextSegment = TextSegment { address: 0x2000, offset: 0x1000, size_bytes: 0x500 };

    fn hook(address: u64) -> Hook {
        Hook {
            name: "free".into(),
            shape: Shape::Release,
            address: ElfAddr(address),
            size_bytes: 64,
        }
    }

    #[test]
    fn a_function_is_found_in_its_segment() {
        let free = [0x48, 0x85, 0xff, 0x74, 0x20];
        let site = site(&hook(0x2100), &[TEXT], |offset, bytes| {
            assert_eq!((offset, bytes), (FileOffset(0x1100), 64));
            free.to_vec()
        })
        .expect("planned");
        assert_eq!(site.offset, FileOffset(0x1103));
        assert_eq!(site.info.text_before, 0x103);
        assert_eq!(site.info.text_after, 0x400 - 3);
        assert_eq!((site.info.body_before, site.info.body_after), (3, 61));
    }

    #[test]
    fn a_function_outside_every_segment_is_left_out() {
        assert_eq!(site(&hook(0x2500), &[TEXT], |_, _| Vec::new()), None);
        assert_eq!(site(&hook(0x1fff), &[TEXT], |_, _| Vec::new()), None);
    }
}
