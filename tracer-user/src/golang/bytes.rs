//! Numbers out of bytes that a target chose: `None` where there are too few.

/// The little-endian `u64` at a position.
pub(super) fn u64_at(bytes: &[u8], at: u64) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// The little-endian `u32` at a position.
pub(super) fn u32_at(bytes: &[u8], at: u64) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

/// The little-endian `i32` at a position.
pub(super) fn i32_at(bytes: &[u8], at: u64) -> Option<i32> {
    array_at(bytes, at).map(i32::from_le_bytes)
}

/// The little-endian `u16` at a position.
pub(super) fn u16_at(bytes: &[u8], at: u64) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

/// The byte at a position.
pub(super) fn u8_at(bytes: &[u8], at: u64) -> Option<u8> {
    bytes.get(usize::try_from(at).ok()?).copied()
}

fn array_at<const N: usize>(bytes: &[u8], at: u64) -> Option<[u8; N]> {
    bytes.get(usize::try_from(at).ok()?..)?.first_chunk().copied()
}

/// A number in groups of 7 bits, lowest first (a varint), of at most 64 bits; moves on behind it.
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_with_the_bytes() {
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0, 0xff];
        assert_eq!(u64_at(&bytes, 0), Some(0x2_0000_0001));
        assert_eq!((u64_at(&bytes, 2), u64_at(&bytes, u64::MAX)), (None, None));
        assert_eq!((u32_at(&bytes, 4), u16_at(&bytes, 8)), (Some(2), None));
        assert_eq!((u8_at(&bytes, 8), u8_at(&bytes, 9)), (Some(0xff), None));
    }

    #[test]
    fn varints_end() {
        let mut at = 0;
        assert_eq!(varint(&[0xe5, 0x8e, 0x26, 1], &mut at), Some(624_485));
        assert_eq!(varint(&[0xe5, 0x8e, 0x26, 1], &mut at), Some(1));
        assert_eq!(varint(&[0x80; 3], &mut 0), None);
        assert_eq!(varint(&[0x80; 100], &mut 0), None);
        assert_eq!(varint(&[], &mut 0), None);
    }
}
