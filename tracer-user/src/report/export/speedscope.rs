//! The format of speedscope.app: one profile for each of the four numbers, live bytes first.

use std::collections::HashMap;

use serde::Serialize;

use super::{Step, roots, steps};
use crate::report::profile::{Amounts, Profile};

/// The name that the format goes by.
const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

/// A number of each stack: its name, its unit in speedscope's words, and where it is.
type Value = (&'static str, &'static str, fn(&Amounts) -> u64);

const VALUES: [Value; 4] = [
    ("live bytes", "bytes", |amounts| amounts.live_bytes),
    ("live blocks", "none", |amounts| amounts.live_count),
    ("bytes allocated", "bytes", |amounts| amounts.allocated_bytes),
    ("blocks allocated", "none", |amounts| amounts.allocated_count),
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'p> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    exporter: &'static str,
    active_profile_index: usize,
    shared: Shared<'p>,
    profiles: Vec<Sampled>,
}

#[derive(Serialize)]
struct Shared<'p> {
    frames: Vec<Shown<'p>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize)]
struct Shown<'p> {
    name: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled {
    r#type: &'static str,
    name: &'static str,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

pub(super) fn document(profile: &Profile) -> Vec<u8> {
    let all_roots: Vec<Vec<String>> =
        profile.sites.iter().map(|site| roots(profile, site)).collect();
    let mut frames = Vec::new();
    let mut ids: HashMap<Shown<'_>, usize> = HashMap::new();
    let mut stacks = Vec::new();
    for (site, roots) in profile.sites.iter().zip(&all_roots) {
        let mut stack: Vec<_> = steps(roots, profile, site).map(shown).collect();
        // With lines, a function would be another for each place that it calls from.
        let callers = stack.len().saturating_sub(1);
        stack.iter_mut().take(callers).for_each(|frame| frame.line = None);
        let stack = stack.into_iter().map(|frame| {
            *ids.entry(frame).or_insert_with(|| {
                frames.push(frame);
                frames.len() - 1
            })
        });
        stacks.push(stack.collect::<Vec<_>>());
    }
    let names: Vec<_> = profile.processes.iter().map(|process| process.comm.as_str()).collect();
    let file = File {
        schema: SCHEMA,
        name: names.join(", "),
        exporter: concat!("outlive ", env!("CARGO_PKG_VERSION")),
        active_profile_index: 0,
        shared: Shared { frames },
        profiles: VALUES.map(|value| sampled(profile, &stacks, value)).into(),
    };
    // Plain data to memory: it cannot fail.
    serde_json::to_vec(&file).unwrap_or_default()
}

fn shown(step: Step<'_>) -> Shown<'_> {
    match step {
        Step::Root(name) => Shown { name, file: None, line: None },
        Step::Frame(frame) => {
            Shown { name: &frame.function, file: frame.file.as_deref(), line: frame.line }
        }
    }
}

fn sampled(profile: &Profile, stacks: &[Vec<usize>], (name, unit, value): Value) -> Sampled {
    let (mut samples, mut weights) = (Vec::new(), Vec::new());
    for (site, stack) in profile.sites.iter().zip(stacks) {
        let weight = value(&site.amounts);
        if weight > 0 {
            samples.push(stack.clone());
            weights.push(weight);
        }
    }
    let end_value = weights.iter().fold(0_u64, |sum, weight| sum.saturating_add(*weight));
    Sampled { r#type: "sampled", name, unit, start_value: 0, end_value, samples, weights }
}
