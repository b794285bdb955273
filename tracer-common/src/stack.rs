//! Identity of call stacks, and why a stack ended where it did.

use crate::limits::MAX_FRAMES;

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

/// First value of a stack's hash; the process is mixed in because the frames are addresses in its memory.
pub const fn hash_seed(tgid: u32) -> u64 {
    0xcbf2_9ce4_8422_2325 ^ (tgid as u64)
}

/// Adds one frame to a stack's hash.
pub const fn hash_frame(hash: u64, address: u64) -> u64 {
    let mixed = (hash ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// The identifier of a stack that could not be kept.
pub const NO_STACK: u64 = 0;

/// Scratch of one stack walk, and the record a new stack is published as.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackRecord {
    /// [`crate::event::EventKind::Stack`].
    pub kind: u32,
    /// Process whose addresses the frames are.
    pub tgid: u32,
    /// [`hash_frame`] over all frames; never [`NO_STACK`].
    pub id: u64,
    /// Frames used of `frames`.
    pub frame_count: u32,
    /// A [`StackEnd`]'s number.
    pub end: u32,
    /// Addresses, leaf first. The first is the probed instruction, each other one a return address.
    pub frames: [u64; MAX_FRAMES],
}

const _: () = assert!(size_of::<StackRecord>() == 24 + 8 * MAX_FRAMES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_frames_and_process_matter() {
        let hash =
            |tgid, frames: &[u64]| frames.iter().fold(hash_seed(tgid), |h, f| hash_frame(h, *f));
        assert_ne!(hash(1, &[10, 20]), hash(1, &[20, 10]));
        assert_ne!(hash(1, &[10, 20]), hash(2, &[10, 20]));
        assert_eq!(hash(7, &[10, 20]), hash(7, &[10, 20]));
    }
}
