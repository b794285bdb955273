//! Running other programs: cargo without what the outer cargo exported, output kept for the error message.
//!
//! In: a [`Command`]. Out: what it printed, or an error that says what ran and why it failed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::{env, io};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::workspace;

/// A cargo in the workspace that sees the environment as a shell would give it.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo run` set for this process would make crates rebuild between here and a shell.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_this_run = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        if of_this_run || matches!(text.as_ref(), "CARGO" | "CARGO_TARGET_DIR" | "OUT_DIR") {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(workspace::root()).args(arguments);
    cargo
}

/// Runs with the terminal's input and output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", words(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", words(command));
    }
    Ok(())
}

/// Runs and returns standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = finish(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs quietly; what it printed goes to the file `log`, whose name is part of the error.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let copy = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    let status = command.stdin(Stdio::null()).stdout(copy).stderr(file).status();
    let status = status.with_context(|| format!("cannot run {}", words(command)))?;
    if !status.success() {
        let text = fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let reason = reason(&text);
        bail!("{} ended with {status}: {reason} (log: {})", program(command), log.display());
    }
    Ok(())
}

/// Whether a program of this name is found.
pub(crate) fn found(name: &str) -> bool {
    let asked =
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    !matches!(asked, Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn finish(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", words(command)))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = reason(&text);
        return Err(anyhow!("{} ended with {}: {reason}", words(command), output.status));
    }
    Ok(output)
}

/// The line that says why: the first that calls itself an error, else the last.
fn reason(log: &str) -> &str {
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_error = |line: &&str| line.starts_with("error") || line.starts_with("E: ");
    lines().find(is_error).or_else(|| lines().next_back()).unwrap_or("it printed nothing")
}

fn program(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn words(command: &Command) -> String {
    let arguments = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program(command)).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_first_error_or_the_last_line() {
        assert_eq!(reason("a\nerror: b\nerror: c\n"), "error: b");
        assert_eq!(reason("a\nb\n\n"), "b");
        assert_eq!(reason(""), "it printed nothing");
    }

    #[test]
    fn a_failing_program_is_named_with_its_words() {
        let error = output(Command::new("/bin/sh").args(["-c", "echo no >&2; exit 3"]));
        let text = format!("{:#}", error.expect_err("it failed"));
        assert_eq!(text, "sh -c echo no >&2; exit 3 ended with exit status: 3: no");
    }
}
