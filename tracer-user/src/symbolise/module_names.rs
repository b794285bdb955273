//! What is known of one module's names: which files have them, how far they can be trusted, and what a reader must know of it.
//!
//! In: the module and its debug files. Out: what to ask the worker process, and notices.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::protocol::{DebugSource, ModuleKey, Open};
use crate::target::debug_files::{DebugFile, DebugFiles, Supplement};
use crate::target::elf::{Elf, Names};
use crate::target::{Module, ModuleId, ModuleTable};

/// How far the search for a debug file elsewhere has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// It has not begun.
    Possible,
    /// An answer is awaited.
    UnderWay,
    /// It has not ended, and is no longer waited for.
    Late,
    /// It has ended, or there is nothing to ask for.
    Over,
}

/// The names of one module.
#[derive(Debug)]
pub(super) struct ModuleNames {
    /// The module; `None` when the table does not know it.
    pub(super) module: Option<Module>,
    elf: Option<Elf>,
    sources: Vec<DebugFile>,
    /// Directory with links to what dwz has moved out of `sources`.
    supplements: Option<TempDir>,
    /// In which worker it was opened, counted from 0.
    pub(super) opened_in: Option<u32>,
    /// Which of the sources is used.
    chosen: Option<usize>,
    pub(super) search: Search,
    /// Its files ended a worker even without debug information.
    is_broken: bool,
    /// Addresses at which its files could not be read.
    pub(super) broken: u64,
    notices: Vec<String>,
}

impl ModuleNames {
    pub(super) fn new(id: ModuleId, modules: &ModuleTable) -> Self {
        let files = modules.debug_files(id).cloned().unwrap_or_default();
        let elf = modules.elf(id).cloned();
        let has_build_id = elf.as_ref().is_some_and(|elf| elf.build_id.is_some());
        let mut names = Self {
            module: modules.get(id).cloned(),
            elf,
            sources: Vec::new(),
            supplements: None,
            opened_in: None,
            chosen: None,
            search: if has_build_id { Search::Possible } else { Search::Over },
            is_broken: false,
            broken: 0,
            notices: Vec::new(),
        };
        names.add(files);
        names
    }

    /// Whether the worker can be asked at all.
    pub(super) fn can_be_asked(&self) -> bool {
        !self.is_broken && self.elf.is_some()
    }

    /// The build to ask servers for, when nothing here has its debug information.
    pub(super) fn build_to_search(&self) -> Option<&str> {
        let is_needed = self.search == Search::Possible && self.sources.is_empty();
        self.elf.as_ref()?.build_id.as_deref().filter(|_| is_needed)
    }

    /// Its build id.
    pub(super) fn build_id(&self) -> Option<&str> {
        self.elf.as_ref()?.build_id.as_deref()
    }

    /// What to tell the worker.
    pub(super) fn open_request(&mut self, module: ModuleKey) -> Option<Open> {
        let own = self.module.as_ref()?.file.as_ref().map(|file| openable(file))?;
        let supplements = self.link_supplements();
        let sources = self.sources.iter().map(|source| DebugSource {
            file: openable(&source.file),
            crc: source.crc,
            supplements: supplements.clone(),
            hidden_sections: source.blind_links.iter().map(|name| (*name).to_owned()).collect(),
        });
        Some(Open { module, own, sources: sources.collect() })
    }

    /// What the worker said of the sources.
    pub(super) fn opened(
        &mut self,
        worker: u32,
        chosen: Option<usize>,
        refused: &[(usize, String)],
        own: Option<&str>,
    ) {
        for (index, why) in refused {
            if let Some(source) = self.sources.get(*index) {
                self.notices.push(not_used(&source.path, why));
            }
        }
        // Those before it are not tried again by the next worker.
        self.sources.drain(..chosen.unwrap_or(self.sources.len()).min(self.sources.len()));
        self.chosen = chosen.map(|_| 0).filter(|_| !self.sources.is_empty());
        self.opened_in = Some(worker);
        if let (Some(why), Some(module)) = (own, &self.module) {
            let path = module.path.display();
            self.notices.push(format!("a symbol table of {path} is not used: {why}"));
        }
        if let Some(DebugFile { path, supplement: Supplement::Missing(other), .. }) = self.source()
        {
            let (path, other) = (path.display(), other.display());
            self.notices.push(format!(
                "a part of the debug information in {path} was moved to {other} (by dwz), which is not here: some names and lines are missing"
            ));
        }
    }

    /// The worker ended over it: less is asked of the next one.
    pub(super) fn ended_worker(&mut self, why: &str) {
        let Some(module) = &self.module else { return };
        if self.sources.is_empty() {
            self.is_broken = true;
            self.notices
                .push(format!("the symbols of {} are not used: {why}", module.path.display()));
        } else {
            self.notices.push(format!(
                "the debug information of {} is not used: {why}",
                module.path.display()
            ));
            self.sources.clear();
            self.chosen = None;
        }
    }

    /// A server's answer; true when there is something new to open.
    pub(super) fn fetched(&mut self, fetched: Result<Option<File>, String>) -> bool {
        self.search = Search::Over;
        match (fetched, &self.elf, self.build_id()) {
            (Ok(Some(file)), Some(elf), Some(build_id)) => {
                let path = PathBuf::from(format!("debuginfod:{build_id}"));
                let files = DebugFiles::fetched(&path, file.into(), elf);
                self.add(files);
                self.opened_in = None;
                !self.sources.is_empty()
            }
            (Err(why), _, _) => {
                self.notices.push(format!("debuginfod gave no debug information: {why}"));
                false
            }
            _ => false,
        }
    }

    /// Nobody waits for the server any longer.
    pub(super) fn stop_waiting(&mut self) {
        if self.search == Search::UnderWay {
            self.search = Search::Late;
        }
    }

    /// `full`, `stripped` or `none`, by what is really used.
    pub(super) fn level(&self) -> &'static str {
        let names = self.elf.as_ref().map(|elf| elf.names).unwrap_or_default();
        let is_readable = !self.is_broken;
        Names {
            debug_info: self.source().is_some(),
            symtab: is_readable && names.symtab,
            dynamic: is_readable && names.dynamic,
            mini: is_readable && names.mini,
        }
        .level()
    }

    /// What a reader must know of it.
    pub(super) fn notices(&self) -> impl Iterator<Item = String> + '_ {
        let late = (self.search == Search::Late).then(|| {
            let path = self.module.as_ref().map(|m| m.path.display().to_string());
            format!(
                "debuginfod has not answered in time about {}: its lines are missing",
                path.unwrap_or_default()
            )
        });
        let broken = (self.broken > 0).then(|| {
            let path = self.module.as_ref().map(|m| m.path.display().to_string());
            let path = path.unwrap_or_default();
            format!("the debug information of {path} is broken at {} addresses", self.broken)
        });
        self.notices.iter().cloned().chain(late).chain(broken)
    }

    fn source(&self) -> Option<&DebugFile> {
        self.chosen.and_then(|index| self.sources.get(index))
    }

    fn add(&mut self, files: DebugFiles) {
        self.sources.extend(files.candidates);
        self.notices.extend(files.refused);
    }

    /// A directory in which blazesym finds, by build id, the very files that are held open.
    fn link_supplements(&mut self) -> Option<PathBuf> {
        let found: Vec<_> = self.sources.iter().filter_map(supplement).collect();
        if found.is_empty() {
            return None;
        }
        let linked = link_by_build_id(&found).inspect_err(|error| {
            tracing::warn!("what dwz has moved cannot be linked: {error}");
        });
        self.supplements = linked.ok();
        self.supplements.as_ref().map(|directory| directory.path().to_owned())
    }
}

fn supplement(source: &DebugFile) -> Option<(&str, &File)> {
    match &source.supplement {
        Supplement::Found(build_id, file) => Some((build_id, file)),
        Supplement::None | Supplement::Missing(_) => None,
    }
}

fn link_by_build_id(files: &[(&str, &File)]) -> io::Result<TempDir> {
    let directory = tempfile::tempdir()?;
    for (build_id, file) in files {
        let (first, rest) = build_id.split_at_checked(2).ok_or(io::ErrorKind::InvalidInput)?;
        let folder = directory.path().join(".build-id").join(first);
        std::fs::create_dir_all(&folder)?;
        let link = folder.join(format!("{rest}.debug"));
        if !link.is_symlink() {
            symlink(openable(file), link)?;
        }
    }
    Ok(directory)
}

fn not_used(path: &Path, why: &str) -> String {
    format!("the debug file {} is not used: {why}", path.display())
}

/// A path by which the worker process can open a file that this one holds open.
fn openable(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
}
