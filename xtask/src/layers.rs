//! `cargo xtask layers`: the structure of the code, checked.
//!
//! In: the sources of all crates. Out: violations, each with its place: a module that names one after it, a library
//! used outside its modules, a file or function that is too long, a file whose name says nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::failure::{OrFail as _, failure};
use crate::source::{self, File, line_of, words};
use crate::workspace;

/// The product's modules; each may name itself and those before it.
const ORDER: [&str; 22] = [
    "fault",
    "units",
    "sys",
    "target",
    "golang",
    "allocators",
    "unwind",
    "probes",
    "collector",
    "governor",
    "ledger",
    "analysis",
    "symbolise",
    "report",
    "recording",
    "snapshot",
    "goroutines",
    "trace",
    "top",
    "doctor",
    "cli",
    "hostile",
];

/// Libraries that only some modules may name.
const RESERVED: [(&str, &[&str]); 6] = [
    ("rusqlite", &["recording"]),
    ("ratatui", &["top"]),
    ("crossterm", &["top"]),
    ("aya", &["sys", "probes", "collector", "trace"]),
    ("aya_obj", &["sys", "probes", "collector", "trace"]),
    ("libc", &["sys", "probes"]),
];

const PRODUCT: &str = "tracer-user";
const MAX_FILE_LINES: usize = 450;
const MAX_FUNCTION_LINES: usize = 80;
/// Names of files and directories that do not tell what is in them.
const EMPTY_NAMES: [&str; 5] = ["util", "utils", "helpers", "manager", "common"];

/// Checks all crates.
pub(crate) fn check() -> Result<()> {
    let what = "the structure of the code is not as agreed";
    let violations = violations(&workspace::root()).or_fail(what, "make the sources readable")?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    if violations.is_empty() {
        return Ok(());
    }
    let why = format!("{} violations, listed above", violations.len());
    Err(failure(what, &why, "move the code to the module it belongs to, or split it"))
}

fn violations(root: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let entries = fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
    let mut crates: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    crates.retain(|path| path.join("Cargo.toml").exists() && path.join("src").is_dir());
    crates.sort();
    for path in crates {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for file in source::files(&path.join("src"))? {
            let mut found = sizes(&file);
            if name == PRODUCT {
                found.extend(layers(&file));
            }
            let shown = file.path.display();
            all.extend(
                found.iter().map(|(line, what)| format!("{name}/src/{shown}:{line}: {what}")),
            );
        }
    }
    Ok(all)
}

/// A line, and what is wrong there.
type Violation = (usize, String);

fn sizes(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    if file.lines > MAX_FILE_LINES {
        found.push((1, format!("the file has {} lines, more than {MAX_FILE_LINES}", file.lines)));
    }
    for part in &file.path.with_extension("") {
        if EMPTY_NAMES.iter().any(|name| part == *name) {
            found.push((1, format!("a module named `{}` could hold anything", part.display())));
        }
    }
    for function in source::functions(&file.code) {
        if function.lines > MAX_FUNCTION_LINES {
            let size = format!("{} lines, more than {MAX_FUNCTION_LINES}", function.lines);
            found.push((function.line, format!("function `{}` has {size}", function.name)));
        }
    }
    found
}

/// The rules between the product's modules.
fn layers(file: &File) -> Vec<Violation> {
    let Some(module) = module(&file.path) else { return Vec::new() };
    let Some(place) = place(&module) else {
        return vec![(1, format!("module `{module}` has no place in the order of modules"))];
    };
    let mut found = Vec::new();
    for (position, named) in named_modules(&file.code) {
        match self::place(named) {
            Some(other) if other <= place => {}
            Some(_) => {
                let rule = "which comes after it";
                found.push((
                    line_of(&file.code, position),
                    format!("`{module}` names `{named}`, {rule}"),
                ));
            }
            None => {
                let rule = "which is no module in the order";
                found.push((
                    line_of(&file.code, position),
                    format!("`{module}` names `{named}`, {rule}"),
                ));
            }
        }
    }
    for (position, word) in words(&file.code) {
        let reserved = RESERVED.iter().find(|(library, _)| *library == word);
        let Some((library, allowed)) = reserved else { continue };
        if !allowed.contains(&module.as_str()) && is_path(&file.code, position, word) {
            let rule = format!("`{library}` is for {} only", allowed.join(", "));
            found.push((line_of(&file.code, position), rule));
        }
    }
    found.sort();
    found
}

/// The top module that a file belongs to; none for the crate's roots.
fn module(path: &Path) -> Option<String> {
    let first = path.with_extension("").iter().next()?.to_string_lossy().into_owned();
    (first != "lib" && first != "main").then_some(first)
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

/// Whether the word begins or continues a path: `word::…`, or stands in a `use`.
fn is_path(code: &str, position: usize, word: &str) -> bool {
    if code[position + word.len()..].trim_start().starts_with("::") {
        return true;
    }
    let statement = code[..position].rfind([';', '}']).map_or(0, |end| end + 1);
    words(&code[statement..position]).any(|(_, word)| word == "use")
}

/// What follows each `crate::`: one name, or the first names of a group.
fn named_modules(code: &str) -> Vec<(usize, &str)> {
    let mut named = Vec::new();
    for (position, _) in words(code).filter(|(_, word)| *word == "crate") {
        let after = position + "crate".len();
        let Some(rest) = code[after..].trim_start().strip_prefix("::") else { continue };
        let rest = rest.trim_start();
        let at = code.len() - rest.len();
        match rest.strip_prefix('{') {
            Some(group) => named.extend(group_heads(group, at + 1)),
            None => named.extend(words(rest).next().map(|(offset, word)| (at + offset, word))),
        }
    }
    named
}

/// The first word of each part of a group, up to its closing brace.
fn group_heads(group: &str, start: usize) -> Vec<(usize, &str)> {
    let mut depth = 0_usize;
    let mut is_head = true;
    let mut heads = Vec::new();
    for (offset, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_head = true,
            _ if is_head && (character.is_alphabetic() || character == '_') => {
                is_head = false;
                heads
                    .extend(words(&group[offset..]).next().map(|(_, word)| (start + offset, word)));
            }
            _ => {}
        }
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, code: &str) -> File {
        File { path: path.into(), lines: code.lines().count(), code: code.to_owned() }
    }

    fn lines(path: &str, code: &str) -> Vec<usize> {
        layers(&file(path, code)).iter().map(|violation| violation.0).collect()
    }

    #[test]
    fn a_module_names_only_what_comes_before_it() {
        let code = "use crate::units::Size;\nuse crate::{fault, trace::{cli, x}};\nlet x = crate::cli::y();\n";
        assert_eq!(lines("trace/session.rs", code), [3]);
        assert_eq!(lines("report.rs", code), [2, 3]);
        assert_eq!(lines("cli/mod.rs", code), [0; 0]);
        assert_eq!(lines("lib.rs", code), [0; 0]);
    }

    #[test]
    fn what_has_no_place_is_told() {
        assert_eq!(lines("surprise.rs", ""), [1]);
        assert_eq!(lines("cli.rs", "\nuse crate::surprise;\n"), [2]);
        assert_eq!(lines("cli.rs", "pub(crate) fn x() {}\n"), [0; 0]);
    }

    #[test]
    fn libraries_stay_in_their_modules() {
        let code =
            "use aya::Ebpf;\nuse nix::{libc};\nlet aya = libc::c_int;\nlet x = aya_obj :: y;\n";
        assert_eq!(lines("cli.rs", code), [1, 2, 3, 4]);
        assert_eq!(lines("trace.rs", code), [2, 3]);
        assert_eq!(lines("probes/plan.rs", code), [0; 0]);
        assert_eq!(lines("cli.rs", "struct X;\nlet aya = 1;\n"), [0; 0]);
    }

    #[test]
    fn size_and_names_are_limited() {
        let long = format!("fn long() {{\n{}}}\n", "x;\n".repeat(MAX_FUNCTION_LINES - 1));
        assert_eq!(sizes(&file("a.rs", &long)).len(), 1);
        assert_eq!(sizes(&file("a.rs", &long.replacen("x;\n", "", 1))).len(), 0);
        assert_eq!(sizes(&file("a.rs", &"\n".repeat(MAX_FILE_LINES + 1))).len(), 1);
        assert_eq!(sizes(&file("a/utils.rs", "")).len(), 1);
        assert_eq!(sizes(&file("common/a.rs", "")).len(), 1);
    }
}
