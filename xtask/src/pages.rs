//! The documentation as a reader goes through it: every link leads somewhere, every page is found from `README.md`.
//!
//! In: `README.md` and what it links to. Out: nothing, or which links and pages are wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::failure::{OrFail as _, failure};
use crate::workspace;

/// Checks all pages.
pub(crate) fn check() -> Result<()> {
    let what = "the documentation does not hang together";
    let wrong = wrong(&workspace::root()).or_fail(what, "make the pages readable")?;
    if wrong.is_empty() {
        return Ok(());
    }
    let remedy =
        "mend the links, and link each page from README.md or from a page that it links to";
    Err(failure(what, &wrong.join("\n"), remedy))
}

fn wrong(root: &Path) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut found = BTreeSet::new();
    let mut to_read = vec![PathBuf::from("README.md")];
    while let Some(page) = to_read.pop() {
        if !found.insert(page.clone()) {
            continue;
        }
        let text = fs::read_to_string(root.join(&page));
        let text = text.with_context(|| format!("cannot read {}", page.display()))?;
        for link in links(&text) {
            let linked = resolved(page.parent().unwrap_or(Path::new("")), link);
            if !root.join(&linked).exists() {
                wrong.push(format!("{} links to {link}, which is not there", page.display()));
            } else if linked.extension().is_some_and(|extension| extension == "md") {
                to_read.push(linked);
            }
        }
    }
    for page in pages(root, Path::new("docs"))? {
        if !found.contains(&page) {
            wrong.push(format!("no link leads to {}", page.display()));
        }
    }
    Ok(wrong)
}

/// The files that a page links to, as it names them.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    files.filter_map(|target| target.split('#').next())
}

/// A path without `..`.
fn resolved(folder: &Path, link: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in folder.join(link).components() {
        if part == Component::ParentDir {
            path.pop();
        } else {
            path.push(part);
        }
    }
    path
}

fn pages(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root.join(folder));
    let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            found.extend(pages(root, &path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_followed_from_where_they_stand() {
        let text = "[a](../a.md) [web](https://x.org/b.md)\n[part](#part) [c](c.md#part)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["../a.md", "c.md"]);
        assert_eq!(resolved(Path::new("docs/tasks"), "../a.md"), Path::new("docs/a.md"));
    }
}
