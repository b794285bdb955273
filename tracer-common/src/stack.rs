//! Identity of call stacks, and why a stack ended where it did.

use crate::limits::{MAX_FRAMES, STACK_COPY_BYTES};

/// Why a stack has no further frame. Kept with each stack, so that an incomplete one is never taken for a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum StackEnd {
    /// The thread's outermost frame was reached.
    Root = 1,
    /// [`MAX_FRAMES`] frames were kept; there are more.
    TooDeep = 2,
    /// No unwind table, and the frame pointer does not lead further: code built without one, or a corrupt stack.
    FramePointerLost = 3,
    /// The stack's memory could not be read.
    Unreadable = 4,
}

impl StackEnd {
    /// The reason with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Root),
            2 => Some(Self::TooDeep),
            3 => Some(Self::FramePointerLost),
            4 => Some(Self::Unreadable),
            _ => None,
        }
    }
}

/// First value of a stack's hash.
pub const HASH_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// Adds one frame to a stack's hash. `memory` counts where the frame is an address in a process's memory, and only there:
/// stacks through files are the same in every process.
pub const fn hash_frame(hash: u64, frame: u64, memory: MemoryId) -> u64 {
    let hash = if frame_file(frame) == NO_FILE { mix(hash, memory.0) } else { hash };
    mix(hash, frame)
}

const fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Which memory an address is one of: a process's, between two changes of its mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryId(u64);

impl MemoryId {
    /// Of a process, by [`crate::target::TargetRow::code_version`].
    pub const fn new(tgid: u32, code_version: u32) -> Self {
        Self((tgid as u64) << 32 | code_version as u64)
    }
}

/// Files are numbered from 1; this number marks a frame that lies in none: it is an address in the process's memory.
pub const NO_FILE: u16 = 0;

/// Position of the file's number in a frame, bits; below it is the distance from where the file's numbering starts.
const FILE_SHIFT: u32 = 48;

/// A frame: a code address, as the file it lies in and the distance from [`crate::unwind::CodeRange::bias`]. Such a frame
/// means the same in every process, and still does when the process or the mapping has gone.
pub const fn frame_in_file(file: u16, distance: u64) -> u64 {
    (file as u64) << FILE_SHIFT | (distance & ((1 << FILE_SHIFT) - 1))
}

/// The number of the file that a frame lies in, or [`NO_FILE`].
pub const fn frame_file(frame: u64) -> u16 {
    (frame >> FILE_SHIFT) as u16
}

/// The distance of a frame from where its file's numbering starts; negative below it.
pub const fn frame_distance(frame: u64) -> i64 {
    ((frame << (64 - FILE_SHIFT)) as i64) >> (64 - FILE_SHIFT)
}

/// The identifier of a stack that could not be kept.
pub const NO_STACK: u64 = 0;

/// Scratch of one stack walk, and the record a new stack is published as.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackRecord {
    /// [`crate::event::EventKind::Stack`].
    pub kind: u32,
    /// Process that the stack was first seen in; frames without a file are addresses in its memory.
    pub tgid: u32,
    /// [`hash_frame`] over all frames; never [`NO_STACK`].
    pub id: u64,
    /// Frames used of `frames`.
    pub frame_count: u32,
    /// A [`StackEnd`]'s number.
    pub end: u32,
    /// Leaf first, see [`frame_in_file`]. The first is the probed instruction, each other one a return address.
    pub frames: [u64; MAX_FRAMES],
}

/// A piece of a stack that went through unknown code: userspace reads the mappings anew and walks on from there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackCopyRecord {
    /// [`crate::event::EventKind::StackCopy`].
    pub kind: u32,
    /// Process.
    pub tgid: u32,
    /// Identifier that the stack was published with.
    pub id: u64,
    /// Return address in the unknown code.
    pub ip: u64,
    /// Stack pointer there; `bytes` starts at it.
    pub sp: u64,
    /// Frame pointer there.
    pub fp: u64,
    /// Frames of the stack up to and with this one.
    pub depth: u32,
    /// Bytes used of `bytes`.
    pub byte_count: u32,
    /// The stack's memory.
    pub bytes: [u8; STACK_COPY_BYTES],
}

const _: () = assert!(size_of::<StackCopyRecord>() == 48 + STACK_COPY_BYTES);
const _: () = assert!(size_of::<StackRecord>() == 24 + 8 * MAX_FRAMES);

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(tgid: u32, version: u32, frames: &[u64]) -> u64 {
        let memory = MemoryId::new(tgid, version);
        frames.iter().fold(HASH_SEED, |hash, frame| hash_frame(hash, *frame, memory))
    }

    #[test]
    fn the_order_of_frames_matters() {
        assert_ne!(hash(1, 1, &[10, 20]), hash(1, 1, &[20, 10]));
        assert_eq!(hash(7, 1, &[10, 20]), hash(7, 1, &[10, 20]));
    }

    #[test]
    fn the_memory_matters_for_frames_without_a_file_only() {
        assert_ne!(hash(1, 1, &[10, 20]), hash(2, 1, &[10, 20]));
        assert_ne!(hash(1, 1, &[10, 20]), hash(1, 2, &[10, 20]));
        let (leaf, root) = (frame_in_file(3, 10), frame_in_file(1, 20));
        assert_eq!(hash(1, 1, &[leaf, root]), hash(2, 3, &[leaf, root]));
        assert_ne!(hash(1, 1, &[leaf, 20]), hash(2, 1, &[leaf, 20]));
        assert_ne!(hash(1, 1, &[leaf]), hash(1, 1, &[frame_in_file(4, 10)]));
    }

    #[test]
    fn a_frame_gives_back_its_file_and_distance() {
        for distance in [0, 1, 0x7fff_ffff_ffff, -1, -0x1000] {
            let frame = frame_in_file(0xffff, distance as u64);
            assert_eq!((frame_file(frame), frame_distance(frame)), (0xffff, distance));
        }
        assert_eq!(frame_file(0x7fff_ffff_ffff), NO_FILE);
    }
}
