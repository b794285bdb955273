//! The files that hold a module's debug information, found while its process lives and held open.
//!
//! In: a module's file and the root directory of its process. Out: [`DebugFiles`], best first. Looked for as gdb does: the file
//! itself, the build-id directories, the debug link. Paths are followed inside the root directory they start from, and nothing but a
//! regular file is ever opened: being opened means something to a device.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::debug_links::{AltLink, DebugLink};
use super::elf::Elf;
use super::proc_dir::ProcDir;

/// Where distributions put debug files, from the root directory.
const DEBUG_DIRECTORY: &str = "usr/lib/debug";

/// A file with debug information of a module.
#[derive(Clone, Debug)]
pub struct DebugFile {
    /// Where it was found, for people.
    pub path: PathBuf,
    /// The open file.
    pub file: Arc<File>,
    /// What its contents must sum up to, when that is all that ties it to the module.
    pub crc: Option<u32>,
    /// What dwz has moved out of it.
    pub supplement: Supplement,
    /// Its sections that name other files. They must not be followed blindly: what has such a name need not be what it seems.
    pub blind_links: Vec<&'static str>,
}

/// What dwz has moved out of a debug file.
#[derive(Clone, Debug)]
pub enum Supplement {
    /// Nothing.
    None,
    /// What is in the file with this build id.
    Found(String, Arc<File>),
    /// Something, which is not there.
    Missing(PathBuf),
}

/// The debug files of a module.
#[derive(Clone, Debug, Default)]
pub struct DebugFiles {
    /// Those that seem right, best first.
    pub candidates: Vec<DebugFile>,
    /// What was found in the right place and is not used, and why.
    pub refused: Vec<String>,
    /// Device and inode of what was looked at.
    seen: Vec<Option<(u64, u64)>>,
}

impl DebugFiles {
    /// Looks for the debug files of a module; `process` is one that has it mapped.
    pub fn find(path: &Path, file: &Arc<File>, elf: &Elf, process: Option<&ProcDir>) -> Self {
        let roots = Roots::open(process);
        let mut found = Self::default();
        if elf.names.debug_info {
            found.candidates.push(roots.describe(path, file, elf, None));
            return found;
        }
        if let Some(build_id) = &elf.build_id {
            for place in roots.all().filter_map(|root| root.by_build_id(build_id)) {
                found.consider(&roots, place, elf, None);
            }
        }
        if let Some(link) = &elf.links.link {
            for place in roots.by_link(path, link) {
                found.consider(&roots, place, elf, Some(link.crc));
            }
        }
        found
    }

    /// Takes a file that was fetched for the build id of a module.
    pub fn fetched(path: &Path, file: Arc<File>, module: &Elf) -> Self {
        let mut found = Self::default();
        found.consider(&Roots::open(None), Place { path: path.to_owned(), file }, module, None);
        found
    }

    /// Keeps a file when it is this module's and has debug information.
    fn consider(&mut self, roots: &Roots, place: Place, module: &Elf, crc: Option<u32>) {
        let Place { path, file } = place;
        // Most processes have the host's root directory: the same file is found twice.
        let identity = file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if self.seen.contains(&identity) {
            return;
        }
        self.seen.push(identity);
        let shown = path.display();
        let why = match Elf::read(&file) {
            Err(error) => error.to_string(),
            // A checksum ties a file to a module as well as a build id does.
            Ok(elf)
                if elf.build_id != module.build_id && (elf.build_id.is_some() || crc.is_none()) =>
            {
                "it belongs to another build (its build id differs)".to_owned()
            }
            Ok(elf) if !elf.names.debug_info => "it has no debug information".to_owned(),
            Ok(elf) => {
                self.candidates.push(roots.describe(&path, &file, &elf, crc));
                return;
            }
        };
        self.refused.push(format!("the debug file {shown} is not used: {why}"));
    }
}

/// A file that was found.
struct Place {
    path: PathBuf,
    file: Arc<File>,
}

/// Where to look: the root directory of the process first, then that of this host.
struct Roots {
    of_process: Option<Root>,
    of_host: Option<Root>,
}

impl Roots {
    fn open(process: Option<&ProcDir>) -> Self {
        let of_process = process.and_then(|process| Root::open(&process.path("root")));
        Self { of_process, of_host: Root::open(Path::new("/")) }
    }

    fn all(&self) -> impl Iterator<Item = &Root> {
        self.of_process.iter().chain(&self.of_host)
    }

    /// Beside the file, below `.debug`, and in the directory for debug files.
    fn by_link<'r>(
        &'r self,
        module: &'r Path,
        link: &'r DebugLink,
    ) -> impl Iterator<Item = Place> + 'r {
        let directory = relative(module.parent().unwrap_or(module));
        let kept = Path::new(DEBUG_DIRECTORY).join(&directory);
        let beside = [directory.clone(), directory.join(".debug"), kept];
        self.all().flat_map(move |root| {
            let places =
                beside.iter().filter_map(|directory| root.open_file(&directory.join(&link.name)));
            places.collect::<Vec<_>>()
        })
    }

    /// What dwz moved out, by its build id, else by the path from the file's own directory.
    fn supplement(&self, path: &Path, link: &AltLink) -> Supplement {
        let beside = path.parent().unwrap_or(path).join(&link.path);
        let is_it = |place: &Place| {
            let elf = Elf::read(&place.file);
            elf.is_ok_and(|elf| elf.build_id.as_ref() == Some(&link.build_id))
        };
        let found = self.all().find_map(|root| {
            let by_id = root.by_build_id(&link.build_id).filter(is_it);
            by_id.or_else(|| root.open_file(&relative(&beside)).filter(is_it))
        });
        match found {
            Some(place) => Supplement::Found(link.build_id.clone(), place.file),
            None => Supplement::Missing(link.path.clone()),
        }
    }

    fn describe(&self, path: &Path, file: &Arc<File>, elf: &Elf, crc: Option<u32>) -> DebugFile {
        let alt = elf.links.alt.as_ref();
        let supplement = alt.map_or(Supplement::None, |link| self.supplement(path, link));
        let is_missing = matches!(supplement, Supplement::Missing(_));
        let links = [
            (".gnu_debuglink", elf.links.link.is_some()),
            (".debug_sup", elf.links.has_sup),
            (".gnu_debugaltlink", is_missing),
        ];
        DebugFile {
            path: path.to_owned(),
            file: Arc::clone(file),
            crc,
            supplement,
            blind_links: links.iter().filter(|link| link.1).map(|link| link.0).collect(),
        }
    }
}

/// A root directory, held open.
struct Root {
    directory: File,
}

impl Root {
    fn open(path: &Path) -> Option<Self> {
        File::open(path).ok().map(|directory| Self { directory })
    }

    fn by_build_id(&self, build_id: &str) -> Option<Place> {
        let (first, rest) = build_id.split_at_checked(2)?;
        let name = format!("{DEBUG_DIRECTORY}/.build-id/{first}/{rest}.debug");
        self.open_file(Path::new(&name))
    }

    /// Opens a regular file; links on the way lead nowhere outside this root directory.
    fn open_file(&self, path: &Path) -> Option<Place> {
        let file = self.try_open(path).ok()?;
        Some(Place { path: Path::new("/").join(path), file: Arc::new(file) })
    }

    fn try_open(&self, path: &Path) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let handle = File::from(openat2(&self.directory, path, how)?);
        if !handle.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
    }
}

/// The path without its root, and with `..` taken away together with what it follows: `RESOLVE_IN_ROOT` takes it from a root directory.
fn relative(path: &Path) -> PathBuf {
    let mut parts: Vec<&OsStr> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts.iter().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_do_not_lead_out_of_the_root_directory() {
        let dir = tempfile::tempdir().expect("directory");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("usr/lib/debug")).expect("directories");
        std::fs::write(dir.path().join("outside"), "x").expect("written");
        std::fs::write(root.join("inside"), "x").expect("written");
        symlink("../../../../../outside", root.join("usr/lib/debug/up")).expect("link");
        symlink("/inside", root.join("usr/lib/debug/absolute")).expect("link");
        symlink("/dev/null", root.join("usr/lib/debug/device")).expect("link");
        let root = Root::open(&root).expect("root");
        assert!(root.open_file(Path::new("usr/lib/debug/up")).is_none());
        assert!(root.open_file(Path::new("usr/lib/debug/device")).is_none());
        assert!(root.open_file(Path::new("usr/lib/debug")).is_none(), "no file");
        let place = root.open_file(Path::new("usr/lib/debug/absolute")).expect("inside");
        assert_eq!(place.path, Path::new("/usr/lib/debug/absolute"));
    }

    #[test]
    fn a_device_is_never_opened() {
        let host = Root::open(Path::new("/")).expect("root");
        assert!(host.open_file(Path::new("dev/null")).is_none());
        assert_eq!(relative(Path::new("/a/../../b/./c")), Path::new("b/c"));
    }
}
