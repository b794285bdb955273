//! Words of variables that hold addresses: where everything that lives begins.
//!
//! In: a stretch of a module's variables. Out: each word that its program declares as an address, as the runtime's own bits tell.

use super::WORD_BYTES;
use crate::golang::GoError;
use crate::golang::bytes::u64_at;
use crate::golang::moduledata::Variables;
use crate::target::{RemoteMemory, VirtAddr};

/// Most bytes of variables that are read.
const MAX_BYTES: u64 = 1 << 30;
/// Bytes that are read at a time; a multiple of 64, so that a piece begins with a byte of the bits.
const PIECE_BYTES: u64 = 1 << 20;

/// Tells of each word that holds an address, but for null. Where the runtime has no bits, any word may.
pub fn for_each_address(
    memory: RemoteMemory,
    variables: &Variables,
    mut tell: impl FnMut(VirtAddr, u64),
) -> Result<(), GoError> {
    let size = variables.end.0.saturating_sub(variables.start.0);
    if size > MAX_BYTES {
        return Err(GoError::refused("its module has more variables than outlive reads"));
    }
    let words = size / WORD_BYTES;
    let mask = if variables.mask_bits == words {
        memory.read(variables.mask, words.div_ceil(8) as usize)?
    } else {
        vec![0xff; words.div_ceil(8) as usize]
    };
    for from in (0..words * WORD_BYTES).step_by(PIECE_BYTES as usize) {
        let bytes = (words * WORD_BYTES - from).min(PIECE_BYTES);
        let at = VirtAddr(variables.start.0 + from);
        let piece = memory.read(at, bytes as usize)?;
        for (number, word) in piece.chunks_exact(WORD_BYTES as usize).enumerate() {
            let index = from / WORD_BYTES + number as u64;
            let is_address = mask[(index / 8) as usize] >> (index % 8) & 1 == 1;
            match u64_at(word, 0) {
                Some(value) if is_address && value != 0 => {
                    tell(VirtAddr(variables.start.0 + index * WORD_BYTES), value);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Pid;

    fn told(words: &[u64], mask: &[u8], mask_bits: u64) -> Vec<u64> {
        let start = words.as_ptr() as u64;
        let variables = Variables {
            start: VirtAddr(start),
            end: VirtAddr(start + 8 * words.len() as u64),
            mask_bits,
            mask: VirtAddr(mask.as_ptr() as u64),
        };
        let mut told = Vec::new();
        let memory = RemoteMemory::new(Pid(std::process::id()));
        for_each_address(memory, &variables, |at, value| {
            assert_eq!(words[((at.0 - start) / 8) as usize], value);
            told.push(value);
        })
        .expect("readable");
        told
    }

    #[test]
    fn words_are_addresses_where_the_bits_say_so_or_everywhere() {
        let words = [1, 0, 3, 4, 5, 6, 7, 8, 9, 10];
        assert_eq!(told(&words, &[0b0000_1010, 0b10], 10), [4, 10]);
        assert_eq!(told(&words, &[0b0000_1010, 0b10], 9), [1, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert!(told(&[], &[], 0).is_empty());
    }

    #[test]
    fn absurd_stretches_are_refused() {
        let absurd = Variables {
            start: VirtAddr(8),
            end: VirtAddr(u64::MAX),
            mask_bits: 0,
            mask: VirtAddr(0),
        };
        let memory = RemoteMemory::new(Pid(std::process::id()));
        assert!(for_each_address(memory, &absurd, |_, _| {}).is_err());
    }
}
