//! Folded stacks: `root;caller;leaf 4096`, a line each, for flame graphs.

use std::collections::BTreeMap;

use super::{Metric, roots, steps};
use crate::report::profile::Profile;
use crate::report::text::printable;

/// The lines of a profile, in the order of their stacks. What holds nothing is left out.
pub(super) fn document(profile: &Profile, metric: Metric) -> String {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    for site in &profile.sites {
        let value = metric.value(site.amounts);
        if value > 0 {
            let roots = roots(profile, site);
            let line = line(steps(&roots, profile, site).map(|step| name(step.name())));
            let sum = stacks.entry(line).or_default();
            *sum = sum.saturating_add(value);
        }
    }
    let lines = stacks.iter().map(|(stack, value)| format!("{stack} {value}\n"));
    lines.collect::<Vec<_>>().concat()
}

/// Names on one line, root first.
pub(in crate::report) fn line(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(";")
}

/// A name without what ends a frame or a line.
pub(in crate::report) fn name(function: &str) -> String {
    printable(&function.replace(';', ":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::build::fixture;
    use crate::report::export::NO_STACK;

    fn profile() -> Profile {
        Profile::of(&[fixture::report(None, 10)])
    }

    #[test]
    fn golden() {
        insta::assert_snapshot!(document(&profile(), Metric::LiveBytes));
    }

    #[test]
    fn the_numbers_are_those_asked_for() {
        let lines = document(&profile(), Metric::LiveCount);
        assert!(lines.contains(&format!("{NO_STACK} 200000\n")), "{lines}");
    }

    #[test]
    fn names_cannot_break_a_line() {
        assert_eq!(name("a;b\nc d"), "a:b\u{fffd}c d");
    }
}
