//! From where each slot was reached: the one root from which all ways come, or that there are several.
//!
//! In: roots by number, one kind after the other. Out: [`Owners`]. What an earlier kind of root leads to is never given to a later one, so that each
//! slot changes its owner at most twice, and a walk ends.

use std::collections::HashSet;

/// A root, or several: a number that the caller gives. Those of one kind are together, and the first of them means several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u32);

/// Who has each slot.
#[derive(Debug)]
pub struct Owners {
    /// 0 is nobody.
    of: Vec<u32>,
    closed: HashSet<u64>,
    now: u32,
    /// Several of the kind that is walked.
    several: u32,
}

impl Owners {
    /// Nobody has anything yet.
    pub(super) fn new(slots: u64) -> Self {
        Self { of: vec![0; slots as usize], closed: HashSet::new(), now: 0, several: 0 }
    }

    /// Who has a slot.
    pub(super) fn of(&self, number: u64) -> Option<Owner> {
        self.of.get(number as usize).filter(|owner| **owner != 0).map(|owner| Owner(*owner))
    }

    pub(super) fn begin(&mut self, owner: Owner, several: Owner) {
        (self.now, self.several) = (owner.0, several.0);
    }

    /// What is reached next is reached from this slot.
    pub(super) fn go_on_from(&mut self, number: u64) {
        self.now = self.of.get(number as usize).copied().unwrap_or(self.several);
    }

    /// Nothing is reached through this slot.
    pub(super) fn close(&mut self, number: u64) {
        self.closed.insert(number);
    }

    pub(super) fn is_closed(&self, number: u64) -> bool {
        self.closed.contains(&number)
    }

    /// Gives a slot to whoever reaches it now; tells whether its owner is another one than before.
    pub(super) fn claim(&mut self, number: u64) -> bool {
        let Some(owner) = self.of.get_mut(number as usize) else { return false };
        let before = *owner;
        if before == 0 {
            *owner = self.now;
        } else if before > self.several && before != self.now {
            *owner = self.several;
        }
        before != *owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_owner_or_several_and_earlier_kinds_come_first() {
        let mut owners = Owners::new(4);
        owners.begin(Owner(2), Owner(1));
        assert!(owners.claim(0) && owners.claim(1) && !owners.claim(0));
        owners.begin(Owner(3), Owner(1));
        assert!(owners.claim(1) && owners.claim(2));
        assert!(!owners.claim(1), "several stay several");
        owners.begin(Owner(5), Owner(4));
        assert!(!owners.claim(0) && !owners.claim(1) && !owners.claim(2) && owners.claim(3));
        owners.begin(Owner(6), Owner(4));
        assert!(owners.claim(3) && !owners.claim(99));
        let all: Vec<_> = (0..4).map(|number| owners.of(number)).collect();
        let expected = [2, 1, 3, 4].map(|owner| Some(Owner(owner)));
        assert_eq!(all, expected);
        owners.go_on_from(2);
        assert_eq!(owners.now, 3);
    }
}
