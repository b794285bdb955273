//! How many call stacks of real programs, built by others, reach the thread's root.
//!
//! In: outlive and the programs of this machine. Out: a [`Row`] for each program. Every allocation is recorded, from the
//! program's first instruction on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::program::Program;

/// Fewer, and the program was not really traced.
const LEAST_ALLOCATIONS: u64 = 5000;
/// Of the stacks of each program, at least this share is expected to be complete.
pub(crate) const EXPECTED_SHARE: f64 = 0.995;

/// A program, and what it is to do.
struct Subject {
    name: &'static str,
    command: Vec<String>,
    environment: &'static [(&'static str, &'static str)],
}

/// The stacks of one program; none if the program is missing.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) counted: Option<Counted>,
}

/// What was counted of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    /// Distinct stacks.
    pub(crate) stacks: u64,
    /// Those that reach the root.
    pub(crate) complete: u64,
    /// Allocations.
    pub(crate) allocations: u64,
    /// Those with a complete stack.
    pub(crate) with_complete: u64,
    /// Frames of all stacks together, inlined ones left out.
    pub(crate) frames: u64,
    /// Events lost.
    pub(crate) lost: u64,
}

impl Counted {
    /// Share of stacks that are complete.
    pub(crate) fn share(&self) -> f64 {
        self.complete as f64 / self.stacks as f64
    }
}

/// Measures all programs.
pub(crate) fn measure(outlive: &Path, work: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for subject in subjects(work)? {
        eprintln!("{}", subject.name);
        let program = subject.command.first().map(PathBuf::from).unwrap_or_default();
        let counted = if program.exists() {
            Some(count(outlive, work, &subject).context(subject.name)?)
        } else {
            eprintln!("  skipped: there is no {}", program.display());
            None
        };
        rows.push(Row { name: subject.name, counted });
    }
    Ok(rows)
}

fn subjects(work: &Path) -> Result<Vec<Subject>> {
    let workloads = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads");
    let workload = |name: &str| workloads.join(name).to_string_lossy().into_owned();
    let subject = |name, command: &[&str], environment| Subject {
        name,
        command: command.iter().map(ToString::to_string).collect(),
        environment,
    };
    let compiler = Program::compiler(work)?;
    let rustc = output(Command::new("rustc").args(["--print", "sysroot"]))? + "/bin/rustc";
    let made = work.join("tiny").to_string_lossy().into_owned();
    Ok(vec![
        subject(
            "python3, PYTHONMALLOC=malloc",
            &["/usr/bin/python3", &workload("busy.py")],
            &[("PYTHONMALLOC", "malloc")],
        ),
        Subject { name: "cc1plus -O2", command: compiler.words().to_vec(), environment: &[] },
        subject(
            "rustc (Rust and LLVM, static jemalloc)",
            &[&rustc, "--edition", "2024", "-o", &made, &workload("tiny.rs")],
            &[],
        ),
        subject("node (compiles at run time)", &["/usr/bin/node", &workload("busy.js")], &[]),
        subject(
            "gdb",
            &["/usr/bin/gdb", "-batch", "-nx", "-ex", "info functions mem", "/usr/bin/gdb"],
            &[],
        ),
    ])
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn count(outlive: &Path, work: &Path, subject: &Subject) -> Result<Counted> {
    let report = work.join("stacks.json");
    let mut command = Command::new(outlive);
    command.args(["run", "--exact", "--top", "0", "--format", "json", "--force", "--output"]);
    command.arg(&report).arg("--").args(&subject.command);
    command.envs(subject.environment.iter().copied());
    let status = command.stdout(Stdio::null()).status().context("cannot run outlive")?;
    ensure!(status.success(), "the program, or outlive, ended with {status}");
    let text = fs::read_to_string(&report)?;
    let last = text.lines().last().context("there is no report")?;
    let counted = counted(&serde_json::from_str(last)?).context("the report is not as expected")?;
    ensure!(
        counted.allocations >= LEAST_ALLOCATIONS,
        "only {} allocations were seen",
        counted.allocations
    );
    Ok(counted)
}

fn counted(report: &Value) -> Option<Counted> {
    let lost = report["loss"]["lost_events"].as_u64()?;
    let mut counted = Counted { lost, ..Counted::default() };
    for site in report["sites"].as_array()? {
        let allocations = site["allocated_count"].as_u64()?;
        let frames = site["frames"].as_array()?.iter();
        counted.stacks += 1;
        counted.allocations += allocations;
        counted.frames += frames.filter(|frame| frame["inlined"] == false).count() as u64;
        if site["stack_end"] == "root" {
            counted.complete += 1;
            counted.with_complete += allocations;
        }
    }
    Some(counted)
}

/// The page of the documentation.
pub(crate) fn page(rows: &[Row], machine: &str) -> String {
    let mut lines = vec![
        "# How complete stacks are".to_owned(),
        String::new(),
        "Written by `cargo xtask bench stacks` (as root); all numbers come from one run of it.".to_owned(),
        String::new(),
        machine.to_owned(),
        String::new(),
        "Programs as distributions ship them, traced from their first instruction, every allocation recorded. A stack is complete when it reaches"
            .to_owned(),
        "the thread's root; the others say in the report why they end.".to_owned(),
        String::new(),
        "| program | distinct stacks | complete | allocations | with a complete stack | frames a stack | events lost |".to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(rows.iter().map(line));
    lines.push(String::new());
    let expected = 100.0 * EXPECTED_SHARE;
    let below: Vec<&str> = rows
        .iter()
        .filter(|row| row.counted.is_some_and(|counted| counted.share() < EXPECTED_SHARE))
        .map(|row| row.name)
        .collect();
    lines.push(if below.is_empty() {
        format!(
            "At least {expected} % of the stacks of each are expected to be complete: they are."
        )
    } else {
        format!(
            "At least {expected} % are expected to be complete; fewer are of {}.",
            below.join(", ")
        )
    });
    lines.join("\n") + "\n"
}

fn line(row: &Row) -> String {
    let Some(counted) = row.counted else {
        return format!("| {} | not on this machine | | | | | |", row.name);
    };
    let percent = |part: u64, whole: u64| format!("{:.3} %", 100.0 * part as f64 / whole as f64);
    format!(
        "| {} | {} | {} | {} | {} | {:.1} | {} |",
        row.name,
        counted.stacks,
        percent(counted.complete, counted.stacks),
        counted.allocations,
        percent(counted.with_complete, counted.allocations),
        counted.frames as f64 / counted.stacks as f64,
        counted.lost,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Value {
        serde_json::json!({
            "loss": {"lost_events": 3},
            "sites": [
                {"allocated_count": 10, "stack_end": "root", "frames": [{"inlined": false}, {"inlined": true}]},
                {"allocated_count": 2, "stack_end": "frame-pointer-lost", "frames": [{"inlined": false}]},
            ],
        })
    }

    #[test]
    fn complete_stacks_are_counted_and_shown() {
        let counted = counted(&report()).expect("counted");
        let expected = Counted {
            stacks: 2,
            complete: 1,
            allocations: 12,
            with_complete: 10,
            frames: 2,
            lost: 3,
        };
        assert_eq!(counted, expected);
        let rows = [Row { name: "x", counted: Some(counted) }, Row { name: "y", counted: None }];
        let page = page(&rows, "machine");
        assert!(page.contains("| x | 2 | 50.000 % | 12 | 83.333 % | 1.0 | 3 |"), "{page}");
        assert!(page.contains("| y | not on this machine |"), "{page}");
        assert!(page.contains("fewer are of x."), "{page}");
    }
}
