//! The format of valgrind's DHAT, version 2, which its viewer `dh_view.html` shows.
//!
//! A block's whole life is not followed here, so of each stack there is what is live, which the viewer calls the total.

use std::collections::HashMap;

use serde::Serialize;

use super::{Step, roots, steps};
use crate::report::profile::Profile;

const VERSION: u32 = 2;
/// What the viewer shows at the root.
const ROOT: &str = "[root]";

#[derive(Serialize)]
struct File {
    #[serde(rename = "dhatFileVersion")]
    version: u32,
    mode: &'static str,
    verb: &'static str,
    /// No lifetimes of blocks.
    bklt: bool,
    /// No accesses of blocks.
    bkacc: bool,
    tu: &'static str,
    #[serde(rename = "Mtu")]
    million_tu: &'static str,
    cmd: String,
    pid: u32,
    /// The end, in units of time.
    te: u64,
    pps: Vec<Point>,
    ftbl: Vec<String>,
}

/// A stack.
#[derive(Serialize)]
struct Point {
    /// Bytes.
    tb: u64,
    /// Blocks.
    tbk: u64,
    /// Frames, leaf first.
    fs: Vec<usize>,
}

pub(super) fn document(profile: &Profile) -> Vec<u8> {
    let mut frames = vec![ROOT.to_owned()];
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut points = Vec::new();
    for site in profile.sites.iter().filter(|site| site.amounts.live_bytes > 0) {
        let roots = roots(profile, site);
        let stack = steps(&roots, profile, site).rev().map(|step| {
            let text = text(step);
            *ids.entry(text.clone()).or_insert_with(|| {
                frames.push(text);
                frames.len() - 1
            })
        });
        let fs = stack.collect();
        points.push(Point { tb: site.amounts.live_bytes, tbk: site.amounts.live_count, fs });
    }
    let process = profile.processes.first();
    let file = File {
        version: VERSION,
        mode: "heap",
        verb: "Live, allocated",
        bklt: false,
        bkacc: false,
        tu: "µs",
        million_tu: "s",
        cmd: process.map_or_else(String::new, |process| process.exe.clone()),
        pid: process.map_or(0, |process| process.pid),
        te: (profile.seconds * 1e6) as u64,
        pps: points,
        ftbl: frames,
    };
    // Plain data to memory: it cannot fail.
    serde_json::to_vec(&file).unwrap_or_default()
}

/// As DHAT writes a frame: `0xADDRESS: function (file:line)`, or the module instead of the file.
fn text(step: Step<'_>) -> String {
    let Step::Frame(frame) = step else { return step.name().to_owned() };
    let place = match (&frame.file, frame.line, &frame.module) {
        (Some(file), Some(line), _) => format!("{file}:{line}"),
        (Some(file), None, _) => file.clone(),
        (None, _, Some(module)) => format!("in {module}"),
        (None, _, None) => return format!("{:#x}: {}", frame.offset, frame.function),
    };
    format!("{:#x}: {} ({place})", frame.offset, frame.function)
}
