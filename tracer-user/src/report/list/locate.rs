//! Where on this host a source file is that debug information names.
//!
//! In: a path that a compiler saw, and folders to look in. Out: a path here. What was built elsewhere, or with `-trimpath`, is found below
//! a folder by the end of its name, the longest end first.

use std::path::{Component, Path, PathBuf};

use crate::report::source::is_file;

/// Names of more parts than this are looked for as they are only.
const MAX_PARTS: usize = 64;

/// The file, when it is at its own path or below one of the folders.
pub(super) fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let named = Path::new(name);
    if named.is_absolute() && is_file(named) {
        return Some(named.to_owned());
    }
    let parts = parts(named)?;
    folders.iter().find_map(|folder| below(folder, &parts))
}

/// The parts of a path, without those that lead up and what they lead up from: a name shall not lead out of a folder.
fn parts(path: &Path) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                let _first_of_all = parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    (parts.len() <= MAX_PARTS).then_some(parts)
}

fn below(folder: &Path, parts: &[&str]) -> Option<PathBuf> {
    (0..parts.len()).find_map(|start| {
        let end = &parts[start..];
        let plain = folder.join(end.iter().collect::<PathBuf>());
        if is_file(&plain) {
            return Some(plain);
        }
        let in_cache = folder.join(in_module_cache(end)?);
        is_file(&in_cache).then_some(in_cache)
    })
}

/// The path of a file of a Go module in the cache of modules, where it is not its name: a capital is written `!` and its small letter
/// in all that names the module, so up to its version.
fn in_module_cache(parts: &[&str]) -> Option<PathBuf> {
    let version = parts.iter().position(|part| part.contains('@'))?;
    let (module, file) = parts.split_at(version + 1);
    let escaped = |part: &&str| {
        let mut escaped = String::new();
        for character in part.chars() {
            if character.is_ascii_uppercase() {
                escaped.push('!');
            }
            escaped.push(character.to_ascii_lowercase());
        }
        escaped
    };
    Some(module.iter().map(escaped).chain(file.iter().map(|part| (*part).to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, name).expect("written");
        path
    }

    #[test]
    fn the_own_path_goes_first_and_then_the_longest_end() {
        let root = tempfile::tempdir().expect("a folder");
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        let folders = [first.clone(), second.clone()];
        let short = write(&second, "main.c");
        assert_eq!(find("/build/svc/main.c", &folders), Some(short));
        let long = write(&second, "svc/main.c");
        assert_eq!(find("/build/svc/main.c", &folders), Some(long.clone()));
        assert_eq!(find("svc/./main.c", &folders), Some(long));
        let earlier = write(&first, "main.c");
        assert_eq!(find("/build/svc/main.c", &folders), Some(earlier));
        let own = write(root.path(), "build/svc/main.c");
        assert_eq!(find(own.to_str().expect("UTF-8"), &folders), Some(own));
        assert_eq!(find("/build/svc/other.c", &folders), None);
        assert_eq!(find("", &folders), None);
    }

    #[test]
    fn names_do_not_lead_out_of_a_folder() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "secret");
        let folder = root.path().join("src");
        fs::create_dir(&folder).expect("a folder");
        let folders = [folder];
        for name in ["../secret", "a/../../secret", "src/../secret"] {
            assert_eq!(find(name, &folders), None, "{name}");
        }
        let own = write(&folders[0], "sysdeps/start.h");
        assert_eq!(find("./csu/../sysdeps/start.h", &folders), Some(own));
    }

    #[test]
    fn modules_of_go_are_found_without_and_with_their_cache() {
        let root = tempfile::tempdir().expect("a folder");
        let folders = [root.path().to_owned()];
        let own = write(root.path(), "cache/lru.go");
        assert_eq!(find("example.com/svc/cache/lru.go", &folders), Some(own));
        let cached = write(root.path(), "github.com/!burnt!sushi/toml@v1.2.0/Decode.go");
        assert_eq!(find("github.com/BurntSushi/toml@v1.2.0/Decode.go", &folders), Some(cached));
    }
}
