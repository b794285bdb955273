//! The last lines of a text report: what the numbers lack, and what tracing cost.

use super::model::{Loss, Report};
use super::text::Layout;
use crate::units::{human_age, human_count, human_percent, human_size};

pub(crate) fn lines(report: &Report, layout: Layout) -> Vec<String> {
    // A file has its losses and costs, if it knows of them, in its comments.
    if report.file.is_some() {
        return layout.notes(&report.loss.notices);
    }
    let lost = lost(&report.loss);
    let lost =
        if lost.is_empty() { "nothing".to_owned() } else { layout.warning(&lost.join("; ")) };
    let mut lines = layout.below(&format!("lost       {lost}"));
    if !report.is_instant() && !report.is_walk() {
        lines.extend(layout.below(&format!("inherited  {}", inherited(report))));
    }
    lines.extend(layout.below(&format!("cost       {}", cost(report))));
    lines.extend(layout.notes(&report.loss.notices));
    lines
}

/// One clause for each kind of loss there was.
fn lost(loss: &Loss) -> Vec<String> {
    let clause = |count: u64, what: &str| (count > 0).then(|| format!("{} {what}", number(count)));
    let events = (loss.lost_events > 0).then(|| {
        format!(
            "{} events ({} allocations of {}, {} frees)",
            number(loss.lost_events),
            number(loss.lost_allocations),
            human_size(loss.lost_allocated_bytes as f64),
            number(loss.lost_frees),
        )
    });
    let returns = (loss.missed_returns > 0).then(|| {
        let bytes = human_size(loss.missed_return_bytes as f64);
        format!("{} calls of {bytes} whose return was not seen", number(loss.missed_returns))
    });
    let mappings = (loss.lost_mappings + loss.lost_unmappings > 0).then(|| {
        format!(
            "{} mappings of {}, {} unmappings",
            number(loss.lost_mappings),
            human_size(loss.lost_mapped_bytes as f64),
            number(loss.lost_unmappings),
        )
    });
    let clauses = [
        events,
        mappings,
        clause(loss.untracked_allocations, "allocations not followed"),
        returns,
        clause(loss.implied_frees, "blocks whose free was not seen"),
        clause(loss.missing_stacks, "allocations without a stack"),
        clause(loss.truncated_stacks, "stacks cut at the depth limit"),
        clause(loss.incomplete_stacks, "stacks incomplete"),
    ];
    clauses.into_iter().flatten().collect()
}

fn inherited(report: &Report) -> String {
    let frees = match report.loss.unknown_frees {
        0 => String::new(),
        count => format!("; {} frees of unknown blocks", number(count)),
    };
    match report.totals.inherited_bytes {
        Some(bytes) => format!("{} live since before tracing{frees}", human_size(bytes as f64)),
        None => format!("from before tracing: not counted{frees}"),
    }
}

fn cost(report: &Report) -> String {
    let cost = &report.cost;
    let probes = if report.is_instant() || report.is_walk() {
        "no probes".to_owned()
    } else {
        let slowdown = cost.estimated_slowdown.map_or_else(String::new, |slowdown| {
            format!("about {} slower, ", human_percent(slowdown))
        });
        format!("{slowdown}{} probes ran", number(cost.hits))
    };
    format!(
        "{probes}; outlive: {} CPU, {}",
        human_age(cost.tracer_cpu_s),
        human_size(cost.tracer_rss_bytes as f64),
    )
}

fn number(count: u64) -> String {
    human_count(count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_loss_is_named() {
        let loss = Loss {
            lost_events: 1,
            untracked_allocations: 2,
            truncated_stacks: 3,
            incomplete_stacks: 4,
            missed_returns: 5,
            missing_stacks: 6,
            implied_frees: 7,
            ..Loss::default()
        };
        let clauses = lost(&loss);
        for count in 1..=7 {
            assert!(clauses.iter().any(|c| c.starts_with(&format!("{count} "))), "{clauses:?}");
        }
        assert!(lost(&Loss::default()).is_empty());
    }
}
