//! Addresses to functions, files and lines, by blazesym.
//!
//! In: files of a module. Out: [`Name`]s. Runs in the worker process: what a file makes blazesym do ends there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Builder, CodeInfo, Input, Sym, Symbolized, Symbolizer};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::protocol::{Answer, DebugSource, ModuleKey, Name, Open, Request};

/// Most functions told of one address.
const MAX_INLINED: usize = 256;
/// Longest name told, bytes; templates make long ones.
const MAX_NAME_BYTES: usize = 16 << 10;
/// Largest debug file that is copied to take its links away.
const MAX_COPIED_BYTES: u64 = 1 << 30;

/// The modules opened so far.
#[derive(Default)]
pub(super) struct Lookup {
    modules: HashMap<ModuleKey, Opened>,
}

struct Opened {
    symbolizer: Symbolizer,
    /// The file with debug information.
    debug: Option<Source<'static>>,
    /// The module's own symbol tables, `.gnu_debugdata` included.
    own: Source<'static>,
    /// The copy that `debug` may be of.
    _copy: Option<OwnedFd>,
}

impl Lookup {
    /// Answers a request.
    pub(super) fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Open(open) => self.open(&open),
            Request::Name { module, addresses } => {
                let names = self.modules.get(&module).map(|opened| opened.names(&addresses));
                Answer::Names(names.unwrap_or_else(|| vec![None; addresses.len()]))
            }
        }
    }

    fn open(&mut self, open: &Open) -> Answer {
        let mut refused = Vec::new();
        let mut chosen = None;
        for (index, source) in open.sources.iter().enumerate() {
            match Opened::with_debug(&open.own, source) {
                Ok(opened) => {
                    self.modules.insert(open.module, opened);
                    chosen = Some(index);
                    break;
                }
                Err(why) => refused.push((index, why)),
            }
        }
        if chosen.is_none() {
            self.modules.insert(open.module, Opened::without_debug(&open.own));
        }
        Answer::Opened { chosen, refused }
    }
}

impl Opened {
    fn without_debug(own: &Path) -> Self {
        let symbolizer = symbolizer(None);
        Self { symbolizer, debug: None, own: symbols_of(own), _copy: None }
    }

    fn with_debug(own: &Path, source: &DebugSource) -> Result<Self, String> {
        let unreadable = |error: io::Error| format!("it cannot be read: {error}");
        if let Some(crc) = source.crc {
            let seen = checksum(&source.file).map_err(unreadable)?;
            if seen != crc {
                return Err(format!(
                    "its checksum is {seen:08x}, and the program asks for {crc:08x}"
                ));
            }
        }
        let copy = if source.hidden_sections.is_empty() {
            None
        } else {
            Some(without_sections(&source.file, &source.hidden_sections).map_err(unreadable)?)
        };
        let path = copy.as_ref().map_or_else(
            || source.file.clone(),
            |copy| PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())),
        );
        let symbolizer = symbolizer(source.supplements.as_deref());
        let debug = Source::Elf(Elf::new(path));
        // Its tables are read now: a file that cannot be used must not hide the next one.
        match symbolizer.symbolize_single(&debug, Input::VirtOffset(0)) {
            Ok(_) => Ok(Self { symbolizer, debug: Some(debug), own: symbols_of(own), _copy: copy }),
            Err(error) => Err(format!("its debug information cannot be read: {error:#}")),
        }
    }

    fn names(&self, addresses: &[u64]) -> Vec<Option<Vec<Name>>> {
        let mut all = self.of_debug(addresses);
        let missing: Vec<usize> = (0..all.len()).filter(|index| all[*index].is_none()).collect();
        let wanted: Vec<u64> = missing.iter().map(|index| addresses[*index]).collect();
        for (index, names) in missing.into_iter().zip(look_up(&self.symbolizer, &self.own, &wanted))
        {
            all[index] = names;
        }
        all
    }

    fn of_debug(&self, addresses: &[u64]) -> Vec<Option<Vec<Name>>> {
        let Some(debug) = &self.debug else { return vec![None; addresses.len()] };
        let mut all = look_up(&self.symbolizer, debug, addresses);
        for (names, address) in all.iter_mut().zip(addresses) {
            let Some(outer) = names.as_mut().and_then(|names| names.last_mut()) else { continue };
            // Debug information of some assembly has lines and no names.
            if outer.function.is_empty() {
                let symbol = look_up(&self.symbolizer, &self.own, &[*address]).pop().flatten();
                match symbol.and_then(|mut names| names.pop()) {
                    Some(symbol) => outer.function = symbol.function,
                    None => *names = None,
                }
            }
        }
        all
    }
}

/// Looks for what dwz has moved out in this directory, and for nothing else anywhere.
fn symbolizer(supplements: Option<&Path>) -> Symbolizer {
    // Files are looked up by descriptors held open: they are not replaced.
    Builder::default().enable_auto_reload(false).set_debug_dirs(Some(supplements)).build()
}

/// The symbol tables alone.
fn symbols_of(path: &Path) -> Source<'static> {
    let mut elf = Elf::new(path);
    elf.debug_syms = false;
    Source::Elf(elf)
}

/// One broken unit spoils a request for many addresses: each is asked for alone then.
fn look_up(
    symbolizer: &Symbolizer,
    source: &Source<'_>,
    addresses: &[u64],
) -> Vec<Option<Vec<Name>>> {
    match symbolizer.symbolize(source, Input::VirtOffset(addresses)) {
        Ok(symbols) => symbols.iter().map(names_of).collect(),
        Err(_) if addresses.len() > 1 => {
            addresses.iter().flat_map(|address| look_up(symbolizer, source, &[*address])).collect()
        }
        Err(_) => vec![None; addresses.len()],
    }
}

/// Inlined functions innermost first, then the function they were inlined into.
fn names_of(symbol: &Symbolized<'_>) -> Option<Vec<Name>> {
    let symbol: &Sym<'_> = symbol.as_sym()?;
    let inlined = symbol.inlined.iter().rev().take(MAX_INLINED);
    let inlined = inlined.map(|call| name(&call.name, call.code_info.as_ref(), true));
    let outer = name(&symbol.name, symbol.code_info.as_deref(), false);
    Some(inlined.chain([outer]).collect())
}

fn name(function: &str, code: Option<&CodeInfo<'_>>, inlined: bool) -> Name {
    let file = code.map(|code| bounded(&code.to_path().to_string_lossy()));
    Name { function: bounded(function), file, line: code.and_then(|code| code.line), inlined }
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_NAME_BYTES)].to_owned()
}

/// The CRC-32 of a whole file.
fn checksum(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// A copy in memory of a file, in which these sections have other names.
fn without_sections(path: &Path, sections: &[String]) -> io::Result<OwnedFd> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_COPIED_BYTES {
        return Err(io::Error::other("it names other files, and is too large to be copied"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_COPIED_BYTES).read_to_end(&mut bytes)?;
    for section in sections {
        let name = [section.as_bytes(), &[0]].concat();
        let mut from = 0;
        while let Some(at) = bytes[from..].windows(name.len()).position(|window| window == name) {
            bytes[from + at + 1] = b'-';
            from += at + name.len();
        }
    }
    let copy = memfd_create("debug", MFdFlags::MFD_CLOEXEC)?;
    io::Write::write_all(&mut File::from(copy.try_clone()?), &bytes)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::target::symbols::find_functions;

    const SOURCE: &str = "\
__attribute__((noinline)) void leaf(int x) { __asm__ volatile(\"\" :: \"r\"(x)); }
static inline __attribute__((always_inline)) void inner(int x) {
    leaf(x + 1);
}
__attribute__((noinline)) void outer(int x) {
    inner(x);
    __asm__ volatile(\"\");
}
int main(int c, char **v) { (void)v; outer(c); return 0; }
";

    fn run(program: &str, words: &[&str], directory: &Path) {
        let done = Command::new(program).args(words).current_dir(directory).status();
        assert!(done.expect("a compiler and binutils").success(), "{program} {words:?}");
    }

    fn source(file: &Path) -> DebugSource {
        DebugSource { file: file.to_owned(), crc: None, supplements: None, hidden_sections: vec![] }
    }

    fn open(lookup: &mut Lookup, own: &Path, sources: Vec<DebugSource>) -> Answer {
        lookup.answer(Request::Open(Open { module: 7, own: own.to_owned(), sources }))
    }

    fn names(lookup: &mut Lookup, addresses: Vec<u64>) -> Vec<Vec<(String, Option<u32>, bool)>> {
        let Answer::Names(names) = lookup.answer(Request::Name { module: 7, addresses }) else {
            unreachable!("another answer")
        };
        let told = |name: Name| (name.function, name.line, name.inlined);
        names.into_iter().flatten().map(|n| n.into_iter().map(told).collect()).collect()
    }

    /// The program, and the addresses of its function `outer`.
    fn program(directory: &Path) -> (PathBuf, Vec<u64>) {
        std::fs::write(directory.join("a.c"), SOURCE).expect("source");
        run("cc", &["-g", "-O1", "-o", "a", "a.c"], directory);
        let file = File::open(directory.join("a")).expect("program");
        let outer = find_functions(&file, &["outer"]).expect("ELF")[0].clone();
        (directory.join("a"), (outer.address.0..outer.address.0 + outer.size).collect())
    }

    #[test]
    fn inlined_functions_come_first_each_with_its_own_line() {
        let directory = tempfile::tempdir().expect("directory");
        let (program, addresses) = program(directory.path());
        let mut lookup = Lookup::default();
        let opened = open(&mut lookup, &program, vec![source(&program)]);
        assert!(matches!(opened, Answer::Opened { chosen: Some(0), .. }));
        let seen = names(&mut lookup, addresses);
        let expected = vec![("inner".into(), Some(3), true), ("outer".into(), Some(6), false)];
        assert!(seen.contains(&expected), "{seen:?}");
    }

    #[test]
    fn without_debug_information_symbols_have_no_lines() {
        let directory = tempfile::tempdir().expect("directory");
        let (program, addresses) = program(directory.path());
        let mut lookup = Lookup::default();
        let text = directory.path().join("a.c");
        let wrong = DebugSource { crc: Some(1), ..source(&program) };
        let Answer::Opened { chosen: None, refused } =
            open(&mut lookup, &program, vec![wrong, source(&text)])
        else {
            unreachable!("neither a wrong checksum nor a text file is right")
        };
        assert!(refused[0].1.contains("checksum"), "{refused:?}");
        assert!(refused[1].1.contains("cannot be read"), "{refused:?}");
        assert_eq!(names(&mut lookup, addresses[..1].to_vec()), [[("outer".into(), None, false)]]);
        assert!(names(&mut lookup, vec![1]).is_empty());
    }

    /// blazesym would follow the link to a file that is there, and fail over its checksum.
    #[test]
    fn links_of_a_debug_file_are_not_followed() {
        let directory = tempfile::tempdir().expect("directory");
        let (program, addresses) = program(directory.path());
        std::fs::write(directory.path().join("other"), "x").expect("written");
        run("objcopy", &["--add-gnu-debuglink=other", "a"], directory.path());
        std::fs::write(directory.path().join("other"), "y").expect("written");
        let mut lookup = Lookup::default();
        open(&mut lookup, &program, vec![source(&program)]);
        assert_eq!(names(&mut lookup, addresses.clone())[0][0].1, None, "it does follow links");
        let hidden = vec![".gnu_debuglink".to_owned()];
        open(
            &mut lookup,
            &program,
            vec![DebugSource { hidden_sections: hidden, ..source(&program) }],
        );
        assert!(names(&mut lookup, addresses)[0][0].1.is_some());
    }
}
