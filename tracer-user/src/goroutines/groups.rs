//! Goroutines put together by the `go` statement that started them.
//!
//! In: goroutines and their stacks. Out: [`Group`]s, largest first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::model::Change;
use crate::golang::goroutines::{Goroutine, is_system};
use crate::target::VirtAddr;

/// Goroutines of one creation site.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// The return address of the `go` statement.
    pub(super) created_at: VirtAddr,
    /// The function that they start with.
    pub(super) start: String,
    /// Its first instruction.
    pub(super) start_at: VirtAddr,
    /// The runtime's own.
    pub(super) system: bool,
    /// How many there are.
    pub(super) count: u64,
    /// Since an earlier look.
    pub(super) change: Option<Change>,
    /// How many can never run again, when that was looked for.
    pub(super) never_wake: Option<u64>,
    /// By what they do or wait for.
    pub(super) states: BTreeMap<String, u64>,
    /// The longest that one has waited, at least.
    pub(super) longest_wait_ns: Option<u64>,
    /// Of how many it is known since when they wait.
    pub(super) waits_known: u64,
    /// Bytes of their stacks.
    pub(super) stack_bytes: u64,
    /// The stack that most of them have.
    pub(super) common_stack: Vec<VirtAddr>,
    /// How many have it.
    pub(super) common_stack_count: u64,
}

/// Groups goroutines; `stacks` are those of the first ones.
pub(super) fn group(
    list: &[Goroutine],
    stacks: &[Vec<VirtAddr>],
    now_ns: u64,
    start_of: &dyn Fn(&Goroutine) -> String,
) -> Vec<Group> {
    let mut groups: HashMap<(VirtAddr, VirtAddr), Group> = HashMap::new();
    let mut counted: HashMap<(VirtAddr, VirtAddr), HashMap<&[VirtAddr], u64>> = HashMap::new();
    for (number, goroutine) in list.iter().enumerate() {
        let key = (goroutine.created_at, goroutine.start);
        let group = groups.entry(key).or_insert_with(|| Group::new(goroutine, start_of));
        group.add(goroutine, now_ns);
        if let Some(stack) = stacks.get(number).filter(|stack| !stack.is_empty()) {
            *counted.entry(key).or_default().entry(stack).or_default() += 1;
        }
    }
    for (key, stacks) in counted {
        let common = stacks.into_iter().max_by_key(|(stack, count)| (*count, *stack));
        if let (Some(group), Some((stack, count))) = (groups.get_mut(&key), common) {
            group.common_stack = stack.to_vec();
            group.common_stack_count = count;
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        b.count.cmp(&a.count).then(a.created_at.cmp(&b.created_at)).then(a.start.cmp(&b.start))
    });
    groups
}

/// Says of each group what has changed, and adds those of which none are left, last. A goroutine's number is never used again.
pub(super) fn compare(
    groups: &mut Vec<Group>,
    before: &[Goroutine],
    now: &[Goroutine],
    start_of: &dyn Fn(&Goroutine) -> String,
) {
    let ids = |list: &[Goroutine]| list.iter().map(|one| one.id).collect::<HashSet<_>>();
    let (were, are) = (ids(before), ids(now));
    let key = |one: &Goroutine| (one.created_at, one.start);
    let mut changes: HashMap<_, (&Goroutine, Change)> = HashMap::new();
    let new = now.iter().filter(|one| !were.contains(&one.id));
    let old = before.iter().filter(|one| !are.contains(&one.id));
    for (one, is_new) in new.map(|one| (one, true)).chain(old.map(|one| (one, false))) {
        let (_, change) = changes.entry(key(one)).or_insert((one, Change::default()));
        *(if is_new { &mut change.started } else { &mut change.ended }) += 1;
    }
    for group in &mut *groups {
        let change = changes.remove(&(group.created_at, group.start_at));
        group.change = Some(change.map_or_else(Change::default, |(_, change)| change));
    }
    let mut gone: Vec<_> = changes.into_values().collect();
    gone.sort_by_key(|(one, change)| (Reverse(change.ended), key(one)));
    groups.extend(
        gone.into_iter()
            .map(|(one, change)| Group { change: Some(change), ..Group::new(one, start_of) }),
    );
}

/// Counts in each group those with these numbers.
pub(super) fn count_never_wake(groups: &mut [Group], list: &[Goroutine], ids: &HashSet<u64>) {
    let mut counts: HashMap<(VirtAddr, VirtAddr), u64> = HashMap::new();
    for one in list.iter().filter(|one| ids.contains(&one.id)) {
        *counts.entry((one.created_at, one.start)).or_default() += 1;
    }
    for group in groups {
        group.never_wake =
            Some(counts.get(&(group.created_at, group.start_at)).copied().unwrap_or(0));
    }
}

impl Group {
    fn new(first: &Goroutine, start_of: &dyn Fn(&Goroutine) -> String) -> Self {
        let start = start_of(first);
        Self {
            created_at: first.created_at,
            start_at: first.start,
            system: is_system(&start),
            start,
            count: 0,
            change: None,
            never_wake: None,
            states: BTreeMap::new(),
            longest_wait_ns: None,
            waits_known: 0,
            stack_bytes: 0,
            common_stack: Vec::new(),
            common_stack_count: 0,
        }
    }

    fn add(&mut self, goroutine: &Goroutine, now_ns: u64) {
        self.count += 1;
        self.stack_bytes = self.stack_bytes.saturating_add(goroutine.stack_bytes());
        let doing = goroutine.waits_for.as_deref().unwrap_or(goroutine.state.as_str());
        *self.states.entry(doing.to_owned()).or_default() += 1;
        // A time to come is none: the process may have a clock of its own (a time namespace).
        let since = goroutine.waiting_since_ns.and_then(|since| now_ns.checked_sub(since));
        if let Some(waited) = since {
            self.waits_known += 1;
            self.longest_wait_ns = self.longest_wait_ns.max(Some(waited));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::goroutines::State;

    fn goroutine(created_at: u64, since: Option<u64>, reason: Option<&str>) -> Goroutine {
        Goroutine::sample(VirtAddr(created_at), since, reason)
    }

    #[test]
    fn groups_are_by_creation_site_and_largest_first() {
        let list = [
            goroutine(1, None, None),
            goroutine(2, Some(40), Some("chan receive")),
            goroutine(2, Some(70), Some("chan receive")),
            goroutine(2, Some(500), Some("select")),
        ];
        let (a, b) = (vec![VirtAddr(1)], vec![VirtAddr(2), VirtAddr(3)]);
        let stacks = [a.clone(), b.clone(), b.clone(), a];
        let groups = group(&list, &stacks, 100, &|_| "main.watch".to_owned());
        assert_eq!(groups.len(), 2);
        let first = &groups[0];
        assert_eq!((first.created_at, first.count, first.system), (VirtAddr(2), 3, false));
        assert_eq!((first.longest_wait_ns, first.waits_known), (Some(60), 2));
        assert_eq!((first.common_stack.clone(), first.common_stack_count), (b, 2));
        let states: Vec<_> = first.states.iter().map(|(s, n)| (s.as_str(), *n)).collect();
        assert_eq!(states, [("chan receive", 2), ("select", 1)]);
        assert!(groups[1].states.contains_key(State::Waiting.as_str()));
    }

    #[test]
    fn changes_are_by_number_and_what_is_gone_is_listed_last() {
        let numbered = |id, created_at| {
            let mut one = goroutine(created_at, None, None);
            one.id = id;
            one
        };
        let before = [numbered(1, 1), numbered(2, 1), numbered(3, 2)];
        let now = [numbered(1, 1), numbered(4, 1), numbered(5, 1), numbered(6, 3)];
        let start_of = |_: &Goroutine| "main.f".to_owned();
        let mut groups = group(&now, &[], 0, &start_of);
        compare(&mut groups, &before, &now, &start_of);
        let told = groups.iter().map(|group| {
            let change = group.change.as_ref().expect("compared");
            (group.created_at.0, group.count, change.started, change.ended)
        });
        assert_eq!(told.collect::<Vec<_>>(), [(1, 3, 2, 1), (3, 1, 1, 0), (2, 0, 0, 1)]);
    }

    #[test]
    fn the_runtimes_own_are_told_apart() {
        for (start, system) in
            [("runtime.main", false), ("runtime.bgsweep", true), ("main.f", false)]
        {
            let groups = group(&[goroutine(1, None, None)], &[], 0, &|_| start.to_owned());
            assert_eq!(groups[0].system, system, "{start}");
        }
    }
}
