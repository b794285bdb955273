//! Call sites folded into a tree from the threads' starts to the allocations, and where its parts are in a row of columns.
//!
//! In: stacks with their live bytes. Out: bars, each a function in what called it, as wide as its share.

use std::collections::HashMap;

use crate::report::model::Site;
use crate::report::table::without_parameters;
use crate::report::text::printable;

/// What is written on what has no stack.
const NO_STACK: &str = "(no stack)";

struct Node {
    name: String,
    bytes: u64,
    children: HashMap<String, usize>,
}

/// A function in what called it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    /// Calls above it.
    pub(super) depth: usize,
    /// Its first column.
    pub(super) start: u16,
    /// Its columns, one at least.
    pub(super) width: u16,
    /// The function.
    pub(super) name: String,
    /// Bytes that its calls allocated.
    pub(super) bytes: u64,
}

/// The bars of these sites in so many columns, level by level. What is narrower than a column is left out.
pub(super) fn bars<'a>(sites: impl Iterator<Item = &'a Site>, columns: u16) -> Vec<Bar> {
    let nodes = fold(sites);
    let mut bars = Vec::new();
    let mut open = vec![(0_usize, 0_usize, 0_u16, columns)];
    while let Some((index, depth, start, width)) = open.pop() {
        let Some(node) = nodes.get(index).filter(|node| width > 0 && node.bytes > 0) else {
            continue;
        };
        bars.push(Bar { depth, start, width, name: node.name.clone(), bytes: node.bytes });
        let mut children: Vec<usize> = node.children.values().copied().collect();
        children.sort_by(|a, b| {
            let (a, b) = (&nodes[*a], &nodes[*b]);
            b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name))
        });
        let mut before = 0_u128;
        let column = |bytes: u128| {
            let share = u128::from(width) * bytes / u128::from(node.bytes);
            start + u16::try_from(share).unwrap_or(width).min(width)
        };
        for child in children {
            let after = before + u128::from(nodes[child].bytes);
            let (first, end) = (column(before), column(after));
            open.push((child, depth + 1, first, end.saturating_sub(first)));
            before = after;
        }
    }
    bars.sort_by_key(|bar| (bar.depth, bar.start));
    bars
}

/// The tree, its root first.
fn fold<'a>(sites: impl Iterator<Item = &'a Site>) -> Vec<Node> {
    let node = |name: String| Node { name, bytes: 0, children: HashMap::new() };
    let mut nodes = vec![node("all".to_owned())];
    for site in sites {
        let functions = site.frames.iter().rev().map(|frame| printable(&frame.function));
        let functions = functions.map(|name| without_parameters(&name));
        let without = site.frames.is_empty().then(|| NO_STACK.to_owned());
        let mut at = 0;
        nodes[at].bytes = nodes[at].bytes.saturating_add(site.live_bytes);
        for name in functions.chain(without) {
            let new = nodes.len();
            let next = *nodes[at].children.entry(name.clone()).or_insert(new);
            if next == new {
                nodes.push(node(name));
            }
            at = next;
            nodes[at].bytes = nodes[at].bytes.saturating_add(site.live_bytes);
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn drawn(bars: &[Bar]) -> Vec<(usize, u16, u16, &str, u64)> {
        bars.iter().map(|b| (b.depth, b.start, b.width, b.name.as_str(), b.bytes)).collect()
    }

    fn site(bytes: u64, functions: &[&str]) -> Site {
        let mut site = fixture::report(None, 10).sites.swap_remove(0);
        let frame = site.frames[0].clone();
        let named =
            |name: &&str| crate::symbolise::Frame { function: (*name).to_owned(), ..frame.clone() };
        site.frames = functions.iter().map(named).collect();
        site.live_bytes = bytes;
        site
    }

    #[test]
    fn calls_stand_on_what_called_them_by_their_share() {
        let sites = [
            site(60, &["a", "serve", "main"]),
            site(30, &["b", "serve", "main"]),
            site(10, &["idle"]),
            site(0, &["nothing", "main"]),
        ];
        let bars = bars(sites.iter(), 50);
        let expected = [
            (0, 0, 50, "all", 100),
            (1, 0, 45, "main", 90),
            (1, 45, 5, "idle", 10),
            (2, 0, 45, "serve", 90),
            (3, 0, 30, "a", 60),
            (3, 30, 15, "b", 30),
        ];
        assert_eq!(drawn(&bars), expected);
    }

    #[test]
    fn bars_of_a_level_do_not_overlap() {
        let sites: Vec<Site> =
            (0..100).map(|i| site(u64::MAX / 200 + i, &[&format!("f{i}"), "main"])).collect();
        for columns in [0, 1, 7, 80, 300] {
            let bars = bars(sites.iter(), columns);
            for pair in bars.windows(2).filter(|pair| pair[0].depth == pair[1].depth) {
                assert!(pair[0].start + pair[0].width <= pair[1].start, "{pair:?}");
            }
            assert!(bars.iter().all(|bar| bar.start + bar.width <= columns));
        }
    }
}
