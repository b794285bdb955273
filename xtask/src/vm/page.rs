//! `docs/kernels.md`: what each kernel supports, and what was run to know it.
//!
//! In: the outcomes of all kernels. Out: the page.

use std::fs;

use anyhow::{Context as _, Result};

use super::SUITES;
use super::kernels::Kernel;
use super::outcome::{Outcome, Suite};
use crate::failure::OrFail as _;
use crate::{suites, workspace};

type Outcomes = [(Kernel, Outcome)];

const HEAD: &str = "\
# Kernels

Written by `cargo xtask vm test` (as root). It boots kernels of Debian in virtual machines and runs the end-to-end tests for
native programs there; every cell below comes from that run. outlive asks the kernel what it offers and never goes by
its version; `outlive doctor` tells the same for the host it runs on.

";

const MEANING: &str = "
- **links**: how probes are attached. *session*: entry and return are one link, and a call that is not sampled costs its entry
  only. *multi*: all probes of a file are one link, and every return of an allocating function is trapped. *single*: each
  probe is a perf event with a copy of the program for its function, since old perf events have no cookie; they are attached and
  detached one after the other. A report says so when the link is not the best there is.
- **stacks**: all kernels walk stacks by unwind tables (`.eh_frame`), inlined calls included. With `bpf_loop` (5.17) a frame is a
  callback; before, it is a call of a global function from an ordinary loop.
- **instructions**: the most that the kernel's verifier walked through for one program; kernels before 5.16 do not tell. 1,000,000
  are allowed.
- Kernels that are not listed were not tried. Those from 5.8 to 5.16 are served as 5.10 is, from 5.17 to 6.5 as 6.1, from 6.6 to 6.12 as
  6.12, later ones as the newest. Before 5.8 there are no ring buffers: `attach` and `run` end with status 3 and say so.

A kind of link that a kernel does not have is refused with status 3 when it is forced; that refusal is what `links` tests there.

";

/// Why a suite is not run in a machine.
const LEFT_OUT: [(&str, &str); 8] = [
    ("golang", "it reads memory, and needs no kernel programs"),
    ("golang_goroutines", "it reads memory, and needs no kernel programs"),
    ("golang_layout", "it reads memory, and needs no kernel programs"),
    ("golang_walk", "it reads memory, and needs no kernel programs"),
    (
        "loss",
        "programs have to be faster than outlive reads, which is not sure on an emulated processor",
    ),
    ("memleak_suite", "it traces what `accounting` traces, in many more builds of one program"),
    (
        "sampling",
        "it repeats its workload a thousand times, which takes too long on an emulated processor",
    ),
    ("scale", "it makes two million blocks, which takes too long on an emulated processor"),
];
const NOT_CHOSEN: &str = "it needs more than the small root file system of the machine holds";

/// Writes the page.
pub(crate) fn write(outcomes: &Outcomes) -> Result<()> {
    let what = "docs/kernels.md cannot be written";
    let page = page(outcomes, &suites::end_to_end()?);
    fs::write(workspace::root().join("docs/kernels.md"), page)
        .context("cannot write the file")
        .or_fail(what, "make it writable")
}

fn page(outcomes: &Outcomes, all: &[String]) -> String {
    let mut lines = vec![
        cells(
            "Linux | Debian | links | stacks | `--exact` | sampled | `--follow-fork` | instructions | tests passed",
        ),
        ruler(9),
    ];
    lines.extend(outcomes.iter().map(|(kernel, outcome)| row(kernel, outcome)));
    let supported = lines.join("\n");
    let ran = what_ran(outcomes).join("\n");
    let failed = failures(outcomes);
    let left_out = left_out(all).join("\n");
    format!(
        "{HEAD}{supported}\n{MEANING}## What was run\n\n\
        Tests passed of those run, by suite (`tests/e2e`), and seconds for all, starting and ending included:\n\n\
        {ran}\n{failed}\n\
        Not run in the machines, which are emulated and have two processors and 2 GiB:\n\n{left_out}\n"
    )
}

fn cells(joined: &str) -> String {
    format!("| {joined} |")
}

fn ruler(columns: usize) -> String {
    format!("|{}", "---|".repeat(columns))
}

fn row(kernel: &Kernel, outcome: &Outcome) -> String {
    let works = |suite: &str| yes(outcome.suite(suite).is_some_and(Suite::passed));
    let stacks = outcome.finding("stack walks").map_or("?", |finding| finding.detail.as_str());
    let most = outcome.programs.iter().map(|program| program.verified_instructions).max();
    let row: [&str; 9] = [
        &outcome.release,
        kernel.suite,
        links(outcome),
        if outcome.suite("stacks").is_some_and(Suite::passed) { stacks } else { "no" },
        works("accounting"),
        yes(is_sampling_right(outcome)),
        works("follow"),
        &most.map_or("not told".to_owned(), |most| most.to_string()),
        &total(outcome),
    ];
    cells(&row.join(" | "))
}

/// The suites of each kernel, and the time they took.
fn what_ran(outcomes: &Outcomes) -> Vec<String> {
    let line = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
        let of_kernels = outcomes.iter().map(|(_, outcome)| cell(outcome));
        let row: Vec<String> = std::iter::once(name.to_owned()).chain(of_kernels).collect();
        cells(&row.join(" | "))
    };
    let mut lines = vec![line("suite", &version), ruler(outcomes.len() + 1)];
    lines.extend(SUITES.iter().map(|suite| line(suite, &|outcome| passed(outcome.suite(suite)))));
    lines.push(line("seconds", &|outcome| outcome.taken.as_secs().to_string()));
    lines
}

fn left_out(all: &[String]) -> Vec<String> {
    let others = all.iter().filter(|suite| !SUITES.contains(&suite.as_str()));
    let reason = |suite: &String| {
        let known = LEFT_OUT.iter().find(|(name, _)| name == suite);
        format!("- `{suite}`: {}", known.map_or(NOT_CHOSEN, |(_, why)| why))
    };
    others.map(reason).collect()
}

fn links(outcome: &Outcome) -> &'static str {
    let offers = |name| outcome.finding(name).is_some_and(|finding| finding.status == "ok");
    match () {
        () if offers("session links") => "session",
        () if offers("multi links") => "multi",
        () => "single",
    }
}

fn is_sampling_right(outcome: &Outcome) -> bool {
    const TEST: &str = "sampling_works_by_every_kind_of_link";
    let suite = outcome.suite("links");
    suite.is_some_and(|suite| suite.tests.iter().any(|(name, passed)| name == TEST && *passed))
}

fn yes(works: bool) -> &'static str {
    if works { "yes" } else { "no" }
}

fn version(outcome: &Outcome) -> String {
    outcome.release.split(['-', '+']).next().unwrap_or_default().to_owned()
}

fn passed(suite: Option<&Suite>) -> String {
    suite.map_or("not reached".to_owned(), |suite| {
        format!("{} of {}", suite.tally.passed, suite.tally.passed + suite.tally.failed)
    })
}

fn total(outcome: &Outcome) -> String {
    let sum = outcome.sum();
    format!("{} of {}", sum.passed, sum.passed + sum.failed)
}

fn failures(outcomes: &Outcomes) -> String {
    let lines = outcomes.iter().flat_map(|(_, outcome)| {
        let failed = outcome.failures();
        failed.into_iter().map(|test| format!("- Linux {}: {test}\n", version(outcome)))
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\nFailed:\n\n{lines}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_kernel_that_was_not_reached_supports_nothing() {
        let kernel = Kernel { name: "5.10", suite: "bullseye" };
        let outcomes = [(kernel, Outcome::read("@outlive release 5.10.0-1-x\n", Duration::ZERO))];
        let page = page(&outcomes, &["links".to_owned(), "loss".to_owned()]);
        let row = "| 5.10.0-1-x | bullseye | single | no | no | no | no | not told | 0 of 1 |\n";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("| accounting | not reached |\n"), "{page}");
        assert!(page.contains("- `loss`: ") && !page.contains("- `links`"), "{page}");
    }
}
