//! A page of `docs/tasks`: its commands, run as a reader would run them, and the output that it shows of them.
//!
//! A page has blocks of commands (```` ```sh ````), and after a command a block of what it prints (```` ```text ````). The commands of a page run
//! in one shell, so that variables and files stay. What a test changes in a command, such as how long to trace, it says itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::compiler::target_folder;
use crate::outlive::{binary, command};
use crate::workload::Conversation;

/// What the shell says after each block, before its status.
const MARK: &str = "@@ status";

/// A block of commands, and what the page shows of their output.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// As it is in the page.
    pub commands: String,
    /// Lines of the block of output that follows; none when there is no such block.
    pub shown: Vec<String>,
}

/// The blocks of a page, named from the root of the workspace.
pub fn blocks(page: &str) -> Vec<Block> {
    let blocks = parse(&read(page));
    assert!(!blocks.is_empty(), "{page} has no commands");
    blocks
}

/// The lines of the first block of commands below a heading of a page.
pub fn commands_below(page: &str, heading: &str) -> Vec<String> {
    let text = read(page);
    let below = text.split_once(&format!("\n## {heading}\n"));
    let block = below.and_then(|(_, rest)| rest.split_once("```sh\n")?.1.split_once("```"));
    let (block, _) = block.unwrap_or_else(|| panic!("{page} has no commands below {heading:?}"));
    block.lines().map(str::to_owned).collect()
}

fn read(page: &str) -> String {
    let path = target_folder().join("..").join(page);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"))
}

fn parse(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.trim().strip_prefix("```") else { continue };
        let content: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        match (kind, blocks.last_mut()) {
            ("sh", _) => blocks.push(Block { commands: content.join("\n"), shown: Vec::new() }),
            ("text", Some(block)) => {
                block.shown.extend(content.iter().map(|line| (*line).to_owned()));
            }
            _ => panic!("a block of `{kind}` is neither commands nor what they print: {content:?}"),
        }
    }
    blocks
}

/// A shell in a folder of its own, with `outlive` on its path; ended when dropped.
pub struct Session {
    /// Pages find their services by name.
    _alone: MutexGuard<'static, ()>,
    shell: Child,
    talk: Conversation,
    folder: TempDir,
    heard_errors: usize,
}

/// What came of a block.
#[derive(Debug)]
pub struct Ran {
    /// The last command's exit status.
    pub status: i32,
    /// What was printed.
    pub stdout: String,
    /// What was said beside.
    pub stderr: String,
}

impl Session {
    /// Starts it. Tests are root, so that `sudo` has nothing to do.
    pub fn start() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("bin");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(binary().canonicalize().unwrap(), programs.join("outlive"))
            .unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)));
        let mut shell = Command::new("sh");
        // The variables that are taken away from outlive.
        for (name, _) in command([""; 0]).get_envs() {
            shell.env_remove(name);
        }
        shell.current_dir(folder.path()).env("PATH", path.unwrap());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut talk = Conversation::with(&mut shell);
        talk.say("sudo() { \"$@\"; }");
        Self { _alone: alone, shell, talk, folder, heard_errors: 0 }
    }

    /// The folder that it works in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Copies a program into the folder, and gives its path.
    pub fn take(&self, program: &Path, name: &str) -> PathBuf {
        let path = self.folder.path().canonicalize().unwrap().join(name);
        fs::copy(program, &path).unwrap();
        path
    }

    /// Runs commands to their end.
    pub fn run(&mut self, commands: &str) -> Ran {
        // The shell's own input is what the test says.
        self.talk.say(&format!("{{\n{commands}\n}} </dev/null"));
        self.talk.say(&format!("printf '\\n%s\\n' \"{MARK} $?\"; echo '{MARK}' >&2"));
        let mut stdout = String::new();
        let status = loop {
            let line = self.talk.hear();
            if let Some(status) = line.strip_prefix(MARK) {
                break status.trim().parse().unwrap();
            }
            stdout += &line;
            stdout.push('\n');
        };
        let from = self.heard_errors;
        let end = self.talk.errors().await_match(crate::patience::PATIENCE, |text| {
            text[from..].find(MARK).map(|position| from + position)
        });
        let end =
            end.unwrap_or_else(|missing| panic!("the shell is silent: {missing:?}\n{stdout}"));
        let stderr = self.talk.errors().text()[from..end].to_owned();
        self.heard_errors = end + MARK.len();
        Ran { status, stdout, stderr }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

impl Ran {
    /// Insists on the exit status, and that all lines that a page shows were printed, numbers aside.
    pub fn assert_as_shown(&self, status: i32, block: &Block) {
        assert_eq!(self.status, status, "status of {}; {self:?}", block.commands);
        let printed: Vec<String> =
            self.stdout.lines().chain(self.stderr.lines()).map(shape).collect();
        for line in block.shown.iter().filter(|line| !matches!(line.trim(), "" | "…")) {
            let missing = format!("the page shows, but outlive did not print:\n{line}\n");
            assert!(
                printed.contains(&shape(line)),
                "{missing}--- {}\n{}\n--- stderr\n{}",
                block.commands,
                self.stdout,
                self.stderr
            );
        }
    }
}

/// A line without its numbers, their units, directories, and its spaces.
fn shape(line: &str) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "B/s", "KiB/s", "MiB/s", "ns", "µs", "ms", "s"];
    let is_number = |word: &str| {
        let word = word.trim_start_matches(['+', '-', '±', '(']);
        word.is_empty() || word.starts_with(|first: char| first.is_ascii_digit())
    };
    let words = line.split_whitespace().filter(|word| {
        !is_number(word) && !units.contains(&word.trim_end_matches([',', ';', ')', ':']))
    });
    let without_directory =
        |word: &'_ str| word.rfind('/').filter(|_| word.starts_with('/')).map_or(0, |at| at + 1);
    words.map(|word| &word[without_directory(word)..]).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_its_commands_with_what_they_print() {
        let page = "# T\n```sh\na\nb\n```\nwords\n```text\n1 x\n```\n```sh\nc\n```\n";
        let block = |commands: &str, shown: &[&str]| Block {
            commands: commands.to_owned(),
            shown: shown.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(parse(page), [block("a\nb", &["1 x"]), block("c", &[])]);
    }

    #[test]
    fn a_shape_is_what_stays_from_run_to_run() {
        let line = "1   2.1 MiB  ±12%  4,346    5.0s  +434.6 KiB/s  remember demo.c:47";
        assert_eq!(shape(line), "remember demo.c:47");
        assert_eq!(shape("#  LIVE  BLOCKS"), "# LIVE BLOCKS");
        assert_eq!(shape("  main.render  /srv/shop/main.go:26"), "main.render main.go:26");
    }
}
