//! `cargo xtask demo`: a server that leaks, and outlive finding the leak.
//!
//! In: `tests/workloads/c/demo.c`. Out: outlive's report on standard output, progress on standard error, and a
//! failure when the report does not name the leak.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::failure::OrFail as _;
use crate::{host, process, product, progress, workspace};

const LEAK: &str = "remember_session";
const SOURCE: &str = "demo.c";

/// Shows outlive at work, and checks that it is right.
pub(crate) fn demo() -> Result<()> {
    host::require_c_compiler("the demonstration")?;
    product::build()?;
    let program =
        compile().or_fail("the demonstration's server does not build", "see what `cc` says")?;
    let server = Server::start(&program).or_fail(
        "the demonstration's server does not start",
        "try to start it by hand: target/demo/demo",
    )?;
    let pid = server.child.id().to_string();
    progress::say(&format!(
        "a server that leaks runs as process {pid}; outlive watches it for 5 s"
    ));
    let remedy = "run `cargo xtask run -- doctor` and do what it says";
    process::run(product::command().args(["attach", &pid, "--exact", "--duration", "5s"]))
        .or_fail("outlive cannot trace the demonstration's server", remedy)?;
    progress::say("checking the report: outlive watches for another second");
    let mut again = product::command();
    again.args(["attach", &pid, "--exact", "--duration", "1s", "-f", "json"]);
    let report = process::output(&mut again)
        .or_fail("outlive cannot trace the demonstration's server", remedy)?;
    let found = first_frame(&report).or_fail(
        "outlive did not name the leak",
        "this is a defect of outlive: report it with the text above",
    )?;
    progress::say(&format!("outlive is right: the leak is {found}"));
    Ok(())
}

fn compile() -> Result<PathBuf> {
    let directory = workspace::target().join("demo");
    fs::create_dir_all(&directory).context("cannot create target/demo")?;
    let program = directory.join("demo");
    let mut cc = Command::new("cc");
    cc.args(["-g", "-O1", "-fno-omit-frame-pointer"]);
    cc.arg(workspace::root().join("tests/workloads/c").join(SOURCE)).arg("-o").arg(&program);
    process::output(&mut cc)?;
    Ok(program)
}

/// The server; it ends with this.
struct Server {
    child: Child,
}

impl Server {
    fn start(program: &PathBuf) -> Result<Self> {
        let child = Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self { child: child.with_context(|| format!("cannot run {}", program.display()))? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            progress::say(&format!("process {} may be left: {error}", self.child.id()));
        }
    }
}

#[derive(Deserialize)]
struct Report {
    sites: Vec<Site>,
}

#[derive(Deserialize)]
struct Site {
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    function: String,
    file: Option<String>,
    line: Option<u32>,
}

/// Where the first site of the last report is, when it is the leak.
fn first_frame(reports: &str) -> Result<String> {
    let last = reports.lines().rev().find(|line| !line.trim().is_empty());
    let report: Report = serde_json::from_str(last.context("it printed no report")?)
        .context("the report is not as expected")?;
    let site = report.sites.first().context("the report has no sites")?;
    let frame = site.frames.first().context("the first site has no frames")?;
    if frame.function != LEAK {
        bail!("the first site is in `{}`, not in `{LEAK}`", frame.function);
    }
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) if file.ends_with(SOURCE) => {
            Ok(format!("{LEAK} ({SOURCE}:{line})"))
        }
        (file, line) => bail!("`{LEAK}` is at {file:?}, line {line:?}, not in {SOURCE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(function: &str, place: &str) -> String {
        format!(r#"{{"sites":[{{"frames":[{{"function":"{function}",{place}}}]}}]}}"#)
    }

    #[test]
    fn the_leak_counts_with_its_place() {
        let place = r#""file":"/x/demo.c","line":46"#;
        let found = first_frame(&format!("{}\n", report(LEAK, place))).expect("the leak");
        assert_eq!(found, "remember_session (demo.c:46)");
        for wrong in [
            report("handle_request", place),
            report(LEAK, r#""file":null,"line":null"#),
            r#"{"sites":[]}"#.to_owned(),
            String::new(),
        ] {
            assert!(first_frame(&wrong).is_err(), "{wrong}");
        }
    }
}
