//! No line of a text report is wider than its terminal, whatever names a target has, and colour is only where it is asked for.

use super::columns::width;
use super::list::{self, Question};
use super::model::{Report, Site};
use super::profile::Profile;
use super::text::Layout;
use super::{diff, fixture, text};
use crate::symbolise::Frame;

/// What programs are made of: long names of C++, Go and Rust, wide ones, ones without a blank, and ones that would control the terminal.
const NAMES: [&str; 9] = [
    "std::_Rb_tree<std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >, std::pair<std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> > const, shop::Order>, std::_Select1st<shop::Order> >::_M_emplace_hint_unique(std::_Rb_tree_const_iterator<shop::Order>, int&&)",
    "example.com/organisation/platform/services/checkout/internal/cache.(*ShardedLRU[go.shape.string,go.shape.*uint8]).insertIfAbsent.func1.2",
    "<alloc::collections::btree::map::BTreeMap<K,V,A> as core::iter::traits::collect::FromIterator<(K,V)>>::from_iter",
    "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字::関数",
    "🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀",
    "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}\u{202e}\u{1b}[31m\r\n\t\u{9b}2J",
    "(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
    "",
    "f",
];

fn frame(function: &str, path: &str, line: Option<u32>) -> Frame {
    Frame {
        function: function.to_owned(),
        file: line.map(|_| format!("/build/{path}/{path}.cc")),
        line,
        module: Some(format!("/opt/{path}/lib/{path}.so.6")),
        build_id: None,
        offset: 4242,
        inlined: line.is_some_and(|line| line.is_multiple_of(2)),
    }
}

/// Ten thousand sites, some of them deep, with these names, the largest numbers that there are, and notices of every length.
fn report() -> Report {
    let mut report = fixture::report(Some(512 << 10), 10);
    let like = report.sites[0].clone();
    let place = |number: usize| NAMES[number % NAMES.len()];
    let site = |rank: usize| Site {
        rank,
        live_bytes: (1023 << 30) / rank as u64,
        live_bytes_ci95: [0, 1023 << 30],
        live_count: 1_234_567_890 / rank as u64,
        allocated_count: u64::MAX / 2,
        growth_ci95: Some([1e12, 2e12]),
        growth_bytes_per_s: Some(1.5e12),
        type_name: rank.is_multiple_of(3).then(|| place(rank).to_owned()),
        frames: (0..if rank < 50 { 30 } else { 2 })
            .map(|depth| frame(place(rank + depth), place(rank), (depth % 3 < 2).then_some(31)))
            .collect(),
        ..like.clone()
    };
    report.sites = (1..=10_000).map(site).collect();
    report.sites_omitted = 1_234_567;
    report.loss.notices =
        NAMES.map(|name| format!("{name}: {}", "its file cannot be read ".repeat(9))).to_vec();
    report.target.exe = format!("/{}", "very/long/path/".repeat(20));
    NAMES[3].clone_into(&mut report.target.comm);
    report.cost.hits = u64::MAX;
    report
}

/// Text without what colours it.
pub(super) fn without_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, tail)| tail);
    }
    out + rest
}

/// In 80 columns, and in others.
fn assert_fits(what: &str, render: &dyn Fn(Layout) -> String) {
    for columns in [80, 81, 100, 132] {
        let plain = render(Layout { colour: false, width: Some(columns) });
        assert!(!plain.contains(|c: char| c.is_control() && c != '\n'), "{what}");
        for line in plain.lines() {
            assert!(width(line) <= columns, "{what}: {} of {columns}: {line}", width(line));
        }
        let coloured = render(Layout { colour: true, width: Some(columns) });
        assert!(coloured.contains("\u{1b}[1m"), "{what}");
        assert_eq!(without_escapes(&coloured), plain, "{what}");
    }
    let file = render(Layout::default());
    assert!(!file.contains('\u{1b}'), "{what}: colour without being asked for");
    assert!(file.lines().any(|line| width(line) > 200), "{what}: nothing is cut in a file");
}

#[test]
fn reports_fit_in_their_terminal() {
    let report = report();
    assert_fits("report", &|layout| text::render(&report, layout));
    let mut instant = report.clone();
    instant.window.start.clone_from(&instant.window.end);
    instant.sites.truncate(20);
    assert_fits("snapshot", &|layout| text::render(&instant, layout));
    instant.file = Some(NAMES[1].repeat(3));
    assert_fits("report of a file", &|layout| text::render(&instant, layout));
}

#[test]
fn differences_and_listings_fit_in_their_terminal() {
    let mut after = report();
    after.sites.truncate(50);
    let (before, after) = (Profile::of(&[fixture::report(None, 10)]), Profile::of(&[after]));
    let files = || [NAMES[1].repeat(3), "after".to_owned()];
    let diff = diff::compare(&before, &after, files(), usize::MAX);
    assert_fits("diff", &|layout| diff::text::render(&diff, layout));
    let question = Question {
        file: NAMES[1],
        regex: ".",
        is_meant: &|_| true,
        top: usize::MAX,
        source_path: &[],
    };
    let listing = list::list(&after, &question).expect("functions");
    assert_fits("list", &|layout| list::text::render(&listing, layout));
}

#[test]
fn each_site_tells_whose_code_it_is_in_which_line() {
    let mut report = report();
    report.sites.truncate(9);
    let text = text::render(&report, Layout { colour: false, width: Some(80) });
    let table: Vec<_> = text.lines().take_while(|line| !line.starts_with("and ")).collect();
    assert_eq!(table.iter().filter(|line| line.contains(".cc:31")).count(), 9, "{text}");
}
