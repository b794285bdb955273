//! `cargo xtask budget`: how many instructions the kernel's verifier walks for each program, against a budget.
//!
//! In: `outlive doctor --json` and `tracer-ebpf/instruction-budget.toml`. Out: a failure when a program grew by more
//! than a tenth or has no budget; with `--update`, the file anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::failure::{OrFail as _, failure};
use crate::{product, workspace};

/// What a program may grow by before its budget has to be changed, percent.
const TOLERANCE: u64 = 10;
const HEADER: &str = "\
# Instructions that the kernel's verifier walks for each program; `cargo xtask ci` fails at more than +10 %.
# Written by `cargo xtask budget --update`.

";

/// Instructions by program.
type Counts = BTreeMap<String, u64>;

/// The budget's file.
#[derive(Debug, Deserialize, Serialize)]
struct Budget {
    programs: Counts,
}

/// Compares what the programs take with their budget.
pub(crate) fn check() -> Result<()> {
    let taken = measure()?;
    let what = "the budget of instructions is not kept";
    let remedy = "make the programs simpler, or accept it with `cargo xtask budget --update`";
    let budget = read().or_fail(what, remedy)?;
    for name in budget.keys().filter(|name| !taken.contains_key(*name)) {
        eprintln!("budget: there is no program {name} any more");
    }
    let excesses = excesses(&taken, &budget);
    if excesses.is_empty() {
        return Ok(());
    }
    Err(failure(what, &excesses.join("; "), remedy))
}

/// Makes what the programs take now their budget.
pub(crate) fn update() -> Result<()> {
    let text = toml::to_string(&Budget { programs: measure()? }).context("cannot write TOML");
    let written = text.and_then(|text| {
        fs::write(path(), format!("{HEADER}{text}")).context("cannot write the file")
    });
    written.or_fail(
        "the budget cannot be written",
        "make tracer-ebpf/instruction-budget.toml writable",
    )
}

fn path() -> PathBuf {
    workspace::root().join("tracer-ebpf/instruction-budget.toml")
}

fn read() -> Result<Counts> {
    let text = fs::read_to_string(path()).context("cannot read instruction-budget.toml")?;
    let budget: Budget = toml::from_str(&text).context("cannot read instruction-budget.toml")?;
    Ok(budget.programs)
}

/// Builds the product and has it load its programs.
fn measure() -> Result<Counts> {
    product::build()?;
    let remedy = "run `cargo xtask run -- doctor --json` and see what it says";
    doctor().or_fail("the programs' instructions cannot be counted", remedy)
}

fn doctor() -> Result<Counts> {
    let mut doctor = product::command();
    doctor.args(["doctor", "--json"]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = doctor.output().context("cannot run outlive")?;
    // A finding about the host is no reason not to count: what matters is that the numbers are there.
    let counted = parse(&String::from_utf8_lossy(&output.stdout));
    counted.with_context(|| format!("outlive doctor --json ended with {}", output.status))
}

#[derive(Deserialize)]
struct Findings {
    programs: Vec<Program>,
}

#[derive(Deserialize)]
struct Program {
    name: String,
    verified_instructions: Option<u64>,
}

fn parse(findings: &str) -> Result<Counts> {
    let findings: Findings =
        serde_json::from_str(findings).context("its findings have no `programs`")?;
    if findings.programs.is_empty() {
        bail!("it loaded no programs");
    }
    let counted = findings.programs.into_iter().map(|program| {
        let count = program.verified_instructions;
        let count = count.with_context(|| format!("no count for {}", program.name))?;
        Ok((program.name, count))
    });
    counted.collect()
}

fn excesses(taken: &Counts, budget: &Counts) -> Vec<String> {
    let of_program = |(name, count): (&String, &u64)| match budget.get(name) {
        None => Some(format!("{name} takes {count} and has no budget")),
        Some(limit) if count * 100 > limit * (100 + TOLERANCE) => {
            Some(format!("{name} takes {count}, its budget is {limit} (+{TOLERANCE} %)"))
        }
        Some(_) => None,
    };
    taken.iter().filter_map(of_program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_tenth_more_is_within_the_budget() {
        let budget = counts(&[("a", 100), ("gone", 1)]);
        assert!(excesses(&counts(&[("a", 110)]), &budget).is_empty());
        assert_eq!(excesses(&counts(&[("a", 111)]), &budget).len(), 1);
        assert_eq!(excesses(&counts(&[("a", 1), ("b", 1)]), &budget).len(), 1);
    }

    #[test]
    fn findings_are_read() {
        let text =
            r#"{"kernel": "6", "programs": [{"name": "a", "verified_instructions": 7, "x": 1}]}"#;
        assert_eq!(parse(text).expect("counts"), counts(&[("a", 7)]));
        for wrong in [
            "",
            "{}",
            r#"{"programs": []}"#,
            r#"{"programs": [{"name": "a", "verified_instructions": null}]}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_committed_budget_is_valid() {
        assert!(!read().expect("a budget").is_empty());
    }
}
