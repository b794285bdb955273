//! A flame graph: an SVG picture that can be searched and zoomed in any browser.

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{Options, from_lines};

use super::{Metric, folded};
use crate::report::profile::Profile;
use crate::report::text::printable;

/// The picture of a profile.
pub(super) fn document(profile: &Profile, metric: Metric) -> Vec<u8> {
    let names: Vec<_> = profile.processes.iter().map(|process| printable(&process.comm)).collect();
    let title = format!("{}: {}", names.join(", "), metric.name());
    draw(&folded::document(profile, metric), &title, metric.unit())
}

/// The picture of folded stacks; with two numbers a line, the difference is in the colours: red for what grew.
pub(in crate::report) fn draw(folded: &str, title: &str, unit: &str) -> Vec<u8> {
    let mut options = Options::default();
    title.clone_into(&mut options.title);
    unit.clone_into(&mut options.count_name);
    options.colors = Palette::Basic(BasicPalette::Mem);
    // The same stacks give the same picture.
    options.hash = true;
    let mut svg = Vec::new();
    // Without any stack, the library draws a picture that says so, and an error besides.
    drop(from_lines(&mut options, folded.lines(), &mut svg));
    svg
}
