//! Numbers as few bytes: variable length, small ones short, and zstd over all.
//!
//! In: integers, or bytes from a file that nobody vouches for. Out: the other.

use super::RecordingError;

/// No blob of a recording is longer when unpacked: a hundred thousand sites, all of whose numbers take all their bytes.
const MAX_UNPACKED_BYTES: usize = 256 << 20;
/// zstd's own default: half a millisecond for a megabyte of small differences.
const LEVEL: i32 = 3;

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends a number that may be negative: numbers near zero are short whatever their sign.
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put(bytes, (number << 1 ^ number >> 63) as u64);
}

/// Takes a number from the front.
pub(super) fn take(bytes: &mut &[u8]) -> Result<u64, RecordingError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) =
            bytes.split_first().ok_or(RecordingError::Damaged("a number has no end"))?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(RecordingError::Damaged("a number is too long"))
}

/// Takes a number that may be negative.
pub(super) fn take_signed(bytes: &mut &[u8]) -> Result<i64, RecordingError> {
    let number = take(bytes)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

/// Packs bytes.
pub(super) fn pack(bytes: &[u8]) -> Result<Vec<u8>, RecordingError> {
    Ok(zstd::bulk::compress(bytes, LEVEL)?)
}

/// Unpacks bytes, no more than there can be.
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, RecordingError> {
    let bound = zstd::bulk::Decompressor::upper_bound(bytes).unwrap_or(MAX_UNPACKED_BYTES);
    zstd::bulk::decompress(bytes, bound.min(MAX_UNPACKED_BYTES))
        .map_err(|_| RecordingError::Damaged("a blob cannot be unpacked"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers: Vec<i64>, plain: Vec<u64>) {
            let mut bytes = Vec::new();
            for number in &numbers {
                put_signed(&mut bytes, *number);
            }
            for number in &plain {
                put(&mut bytes, *number);
            }
            let mut rest = &bytes[..];
            for number in &numbers {
                prop_assert_eq!(take_signed(&mut rest).expect("there"), *number);
            }
            for number in &plain {
                prop_assert_eq!(take(&mut rest).expect("there"), *number);
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn damaged_bytes_are_refused_and_nothing_worse(bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            while take_signed(&mut rest).is_ok() {}
            prop_assert!(unpack(&bytes).map_or(true, |unpacked| unpacked.len() <= MAX_UNPACKED_BYTES));
        }

        #[test]
        fn packed_bytes_come_back(bytes: Vec<u8>) {
            prop_assert_eq!(unpack(&pack(&bytes).expect("packed")).expect("unpacked"), bytes);
        }
    }

    #[test]
    fn small_numbers_are_short() {
        let mut bytes = Vec::new();
        for number in [0, -1, 1, 63, -64] {
            put_signed(&mut bytes, number);
        }
        assert_eq!(bytes.len(), 5);
    }
}
