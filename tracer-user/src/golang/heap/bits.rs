//! A bit for each of many numbers.

/// Bits, all 0 at first.
#[derive(Clone, Debug, Default)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// For numbers below `count`.
    pub fn new(count: u64) -> Self {
        Self { words: vec![0; count.div_ceil(64) as usize] }
    }

    /// Whether it is set; those beyond the end are not.
    pub fn is_set(&self, number: u64) -> bool {
        self.words.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Sets it, and tells whether it was not set before.
    pub fn set(&mut self, number: u64) -> bool {
        let Some(word) = self.words.get_mut((number / 64) as usize) else { return false };
        let bit = 1 << (number % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Clears it.
    pub fn clear(&mut self, number: u64) {
        if let Some(word) = self.words.get_mut((number / 64) as usize) {
            *word &= !(1 << (number % 64));
        }
    }

    /// The next number from `from` on, below `end`, that is set here and not in `other`.
    pub fn next_not_in(&self, other: &Self, from: u64, end: u64) -> Option<u64> {
        let mut at = from;
        while at < end {
            let index = (at / 64) as usize;
            let here = self.words.get(index)? & !other.words.get(index)?;
            let rest = here >> (at % 64);
            if rest != 0 {
                let found = at + u64::from(rest.trailing_zeros());
                return (found < end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_apart_and_end() {
        let mut bits = Bits::new(130);
        assert!(bits.set(0) && bits.set(64) && bits.set(129) && !bits.set(64));
        assert!(bits.is_set(64) && !bits.is_set(63) && !bits.is_set(1 << 40));
        assert!(!bits.set(1 << 40));
        bits.clear(64);
        assert!(!bits.is_set(64));
    }

    #[test]
    fn what_is_in_one_and_not_in_the_other_is_found_in_order() {
        let (mut bits, mut other) = (Bits::new(300), Bits::new(300));
        for number in [3, 70, 71, 250] {
            bits.set(number);
        }
        other.set(71);
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(number) = bits.next_not_in(&other, from, 300) {
            found.push(number);
            from = number + 1;
        }
        assert_eq!(found, [3, 70, 250]);
        assert_eq!(bits.next_not_in(&other, 71, 250), None);
        assert_eq!(bits.next_not_in(&other, 251, 100_000), None);
    }
}
