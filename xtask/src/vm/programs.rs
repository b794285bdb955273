//! The programs of the suites, and the workloads they need.
//!
//! In: the workspace. Out: the test programs. Workloads are built by the tests as they need them, and kept under
//! `target/workloads`: so the suites run here first, where the compilers are, whenever they have changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{SUITES, image};
use crate::{process, progress, suites, workspace};

/// A suite's program.
pub(crate) struct Program {
    /// The suite.
    pub(crate) suite: &'static str,
    /// Its file.
    pub(crate) file: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds the suites and fills the cache of workloads.
pub(crate) fn build() -> Result<Vec<Program>> {
    let mut words = vec!["test", "-p", suites::PACKAGE, "--no-run", "--message-format=json"];
    words.extend(SUITES.iter().flat_map(|suite| ["--test", *suite]));
    let messages = process::output(&mut process::cargo(&words))?;
    let programs = SUITES.iter().map(|suite| {
        let file = executable(&messages, suite);
        let file = file.with_context(|| format!("cargo built no program of {suite}"))?;
        Ok(Program { suite, file })
    });
    let programs: Vec<Program> = programs.collect::<Result<_>>()?;
    fill_workloads(&programs)?;
    Ok(programs)
}

fn executable(messages: &str, suite: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut of_suite =
        messages.filter(|message| message.target.as_ref().is_some_and(|t| t.name == suite));
    of_suite.find_map(|message| message.executable)
}

/// What fails here fails in the machine for want of a workload, if that is the reason, and is seen there.
fn fill_workloads(programs: &[Program]) -> Result<()> {
    let directory = workspace::virtual_machines();
    fs::create_dir_all(&directory).context("cannot create target/vm")?;
    let mark = directory.join("workloads-built-by");
    let now = identity(programs).context("cannot look at the test programs")?;
    if fs::read_to_string(&mark).is_ok_and(|before| before == now) {
        return Ok(());
    }
    for program in programs {
        let _shown = progress::step(&format!(
            "suite {} on this host, which builds its workloads",
            program.suite
        ));
        let log = directory.join(format!("workloads-{}.log", program.suite));
        if let Err(error) = process::logged(&mut suites::command(program.suite), &log) {
            progress::say(&format!("{error:#}"));
        }
    }
    fs::write(&mark, now).context("cannot note which suites built their workloads")
}

/// Names the test programs and the sources of workloads by when they were last changed.
fn identity(programs: &[Program]) -> Result<String> {
    let mut sources = image::files(&workspace::root().join("tests/workloads"))?;
    sources.sort();
    let of =
        |file: &Path| Ok(format!("{} {:?}\n", file.display(), fs::metadata(file)?.modified()?));
    let programs = programs.iter().map(|program| program.file.as_path());
    programs.chain(sources.iter().map(PathBuf::as_path)).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_suite_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"run"},"executable":null}
            {"reason":"compiler-artifact","target":{"name":"run"},"executable":"/t/run-1"}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "run"), Some(PathBuf::from("/t/run-1")));
        assert_eq!(executable(messages, "walk"), None);
    }
}
