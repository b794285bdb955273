//! Rust source as the checks see it: files of a directory, text without comments and literals, functions.
//!
//! In: directories and text. Out: [`File`]s, blanked text of the same lines, and the length of each function.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A source file.
pub(crate) struct File {
    /// Its path from the directory that was asked for.
    pub(crate) path: PathBuf,
    /// How many lines it has.
    pub(crate) lines: usize,
    /// Its text without comments and literals, line for line.
    pub(crate) code: String,
}

/// All Rust files under a directory, in order of their paths.
pub(crate) fn files(directory: &Path) -> Result<Vec<File>> {
    let mut found = Vec::new();
    collect(directory, directory, &mut found)?;
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<File>) -> Result<()> {
    let unreadable = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.is_dir() {
            collect(root, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_owned();
            found.push(File { path, lines: text.lines().count(), code: blank(&text) });
        }
    }
    Ok(())
}

/// A function and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    /// Its first line, from 1.
    pub(crate) line: usize,
    /// Lines from its `fn` to its closing brace.
    pub(crate) lines: usize,
}

/// The functions of blanked text that have a body.
pub(crate) fn functions(code: &str) -> Vec<Function<'_>> {
    let starts = words(code).filter(|(_, word)| *word == "fn");
    let found = starts.filter_map(|(start, _)| {
        let name = words(&code[start + 2..]).next()?.1;
        let (open, close) = body(code, start)?;
        // A pointer to a function has no name before its parameters.
        let is_named = code[start + 2..open].trim_start().starts_with(name);
        let lines = code[start..=close].matches('\n').count() + 1;
        is_named.then(|| Function { name, line: line_of(code, start), lines })
    });
    found.collect()
}

/// The line of a position, from 1.
pub(crate) fn line_of(code: &str, position: usize) -> usize {
    code[..position].matches('\n').count() + 1
}

/// Identifiers and keywords with their positions.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + code[rest..].find(is_of_word)?;
        let length = code[start..].find(|character| !is_of_word(character));
        rest = length.map_or(code.len(), |length| start + length);
        Some((start, &code[start..rest]))
    })
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Positions of the braces around a function's body; none for a declaration.
fn body(code: &str, start: usize) -> Option<(usize, usize)> {
    let mut open = None;
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (offset, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b';' if open.is_none() && brackets == 0 => return None,
            b'{' => {
                open = open.or(Some(offset));
                braces += 1;
            }
            b'}' => {
                braces -= 1;
                if braces <= 0 {
                    return open.map(|open| (open, offset));
                }
            }
            _ => {}
        }
    }
    None
}

/// Replaces comments and the contents of literals by blanks; lines stay where they are.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let follows_word = code.chars().next_back().is_some_and(is_of_word);
        let length = comment(rest)
            .or_else(|| raw_string(rest, follows_word))
            .or_else(|| string(rest))
            .or_else(|| character(rest));
        let (taken, left) = rest.split_at(length.unwrap_or(first.len_utf8()));
        if length.is_some() {
            code.extend(taken.chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
        } else {
            code.push_str(taken);
        }
        rest = left;
    }
    code
}

/// Length of the comment that text begins with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    Some(text.len())
}

/// Length of the raw string that text begins with.
fn raw_string(text: &str, follows_word: bool) -> Option<usize> {
    let prefix = ["br", "cr", "r"].iter().find(|prefix| text.starts_with(**prefix))?;
    let hashes = text[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let open = prefix.len() + hashes + 1;
    if follows_word || text.as_bytes().get(open - 1) != Some(&b'"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[open..].find(&end).map_or(text.len(), |length| open + length + end.len()))
}

/// Length of the string that text begins with.
fn string(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('"')?;
    let mut is_escaped = false;
    for (offset, byte) in inside.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(offset + 2),
            _ => {}
        }
    }
    Some(text.len())
}

/// Length of the character that text begins with; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        // What is escaped may be a quote itself.
        let end = inside.get(2..)?.find('\'')?;
        return Some(1 + 2 + end + 1);
    }
    let end = first.len_utf8();
    inside[end..].starts_with('\'').then_some(1 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let text = "a // b {\n/* c /* d */ e */ f \"g \\\" {\n\" h r#\"i \" j\"# 'k' '\\'' '{' <'l> b\"m\" nr\n";
        let code = blank(text);
        assert_eq!(code.split_whitespace().collect::<String>(), "afh<'l>bnr");
        assert_eq!(code.matches('\n').count(), text.matches('\n').count());
    }

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        let text = "trait T {\n    fn none(x: [u8; 3]);\n}\nfn one() { '}'; }\npub fn two<F: Fn()>(f: fn(u8))\n{\n    if x {\n    }\n}\n";
        let code = blank(text);
        let found = functions(&code);
        assert_eq!(
            found,
            [
                Function { name: "one", line: 4, lines: 1 },
                Function { name: "two", line: 5, lines: 5 }
            ]
        );
    }
}
