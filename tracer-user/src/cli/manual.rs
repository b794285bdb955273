//! `outlive completions` and `outlive man`: what the command line knows of itself.

use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Outcome;
use crate::cli::args::Arguments;
use crate::fault::{Fault, Status};

/// Prints a shell's completions.
pub(super) fn completions(shell: Shell) -> Result<Outcome, Fault> {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    print(&text)
}

/// Prints the manual page of a command, or of the whole.
pub(super) fn man(wanted: Option<&str>) -> Result<Outcome, Fault> {
    let mut command = Arguments::command();
    // Makes global flags part of each command.
    command.build();
    if let Some(wanted) = wanted {
        let found = command.find_subcommand(wanted).cloned();
        command = found.ok_or_else(|| {
            let why = format!("there is no command {wanted}");
            Fault::new(Status::Usage, "there is no such page", why, "see `outlive --help`")
        })?;
    }
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    drop(clap_mangen::Man::new(command).render(&mut text));
    print(&text)
}

/// Writes the pages of all commands into a directory: `outlive.1`, `outlive-attach.1` and so on.
pub(super) fn all_pages(folder: &Path) -> Result<Outcome, Fault> {
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder));
    written.map(|()| Outcome::Own(Status::Success)).map_err(|error| {
        let what = format!("cannot write manual pages into {}", folder.display());
        Fault::new(
            Status::Failed,
            what,
            error.to_string(),
            "name a directory that you may write to",
        )
    })
}

/// A reader that has gone away wants no more.
fn print(text: &[u8]) -> Result<Outcome, Fault> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Fault::new(
            Status::Failed,
            "cannot print",
            error.to_string(),
            "check that there is room where standard output goes",
        )),
        _ => Ok(Outcome::Own(Status::Success)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_shows_how_it_is_used() {
        for command in Arguments::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = command.get_name();
            let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(shown.contains(&format!("outlive {name}")), "{name}: {shown:?}");
        }
    }
}
