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
/// The section that has a symbol table compressed.
const COMPRESSED_TABLE: &str = ".gnu_debugdata";
/// Largest debug file that is copied to take its links away.
const MAX_COPIED_BYTES: u64 = 1 << 30;

/// The modules opened so far.
#[derive(Default)]
pub(super) struct Lookup {
    modules: HashMap<ModuleKey, Opened>,
}

struct Opened {
    symbolizer: Symbolizer,
    debug: Option<Debug>,
    /// The module's own symbol tables, `.gnu_debugdata` included.
    own: Source<'static>,
    /// Copies that are read instead of files, and kept open for it.
    copies: Vec<OwnedFd>,
}

/// A file with debug information.
struct Debug {
    all: Source<'static>,
    /// Its symbol table.
    symbols: Source<'static>,
}

impl Lookup {
    /// Answers a request.
    pub(super) fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Open(open) => self.open(&open),
            Request::Name { module, addresses } => {
                let found = self.modules.get(&module).map(|opened| opened.names(&addresses));
                let Found { names, broken } = found.unwrap_or_else(|| Found::none(&addresses));
                Answer::Names { names, broken }
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
        let mut own = None;
        if chosen.is_none() {
            let (opened, why) = Opened::without_debug(&open.own);
            self.modules.insert(open.module, opened);
            own = why;
        }
        Answer::Opened { chosen, refused, own }
    }
}

impl Opened {
    /// And what is wrong with its symbol tables.
    fn without_debug(own: &Path) -> (Self, Option<String>) {
        let symbolizer = symbolizer(None);
        let mut opened = Self { symbolizer, debug: None, own: symbols_of(own), copies: Vec::new() };
        let Err(why) = probe(&opened.symbolizer, &opened.own) else { return (opened, None) };
        // The compressed table is what can be too much; the others may be good.
        if let Ok(copy) = without_sections(own, &[COMPRESSED_TABLE.to_owned()]) {
            opened.own = symbols_of(&path_of(&copy));
            opened.copies.push(copy);
        }
        (opened, Some(why))
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
        let mut path = source.file.clone();
        let mut copies = Vec::new();
        if !source.hidden_sections.is_empty() {
            let copy = without_sections(&path, &source.hidden_sections).map_err(unreadable)?;
            path = path_of(&copy);
            copies.push(copy);
        }
        let symbolizer = symbolizer(source.supplements.as_deref());
        let all = Source::Elf(Elf::new(&path));
        // Its tables are read now: a file that cannot be used must not hide the next one.
        probe(&symbolizer, &all)
            .map_err(|why| format!("its debug information cannot be read: {why}"))?;
        let debug = Some(Debug { all, symbols: symbols_of(&path) });
        Ok(Self { symbolizer, debug, own: symbols_of(own), copies })
    }

    fn names(&self, addresses: &[u64]) -> Found {
        let Some(debug) = &self.debug else { return self.look_up(&self.own, addresses) };
        let mut found = self.look_up(&debug.all, addresses);
        for (names, address) in found.names.iter_mut().zip(addresses) {
            let outer = names.as_mut().and_then(|names| names.last_mut());
            if outer.as_ref().is_some_and(|outer| outer.function.contains("::")) {
                continue;
            }
            // Debug information of assembly can have lines and no names, and names of functions that other files cannot call are
            // not qualified in it. Symbols tell both.
            let symbol = self.symbol(&debug.symbols, *address);
            match (outer, symbol.or_else(|| self.symbol(&self.own, *address))) {
                (Some(outer), Some(symbol)) if is_fuller(&symbol.function, &outer.function) => {
                    outer.function = symbol.function;
                }
                (Some(outer), None) if outer.function.is_empty() => *names = None,
                (Some(_), _) => {}
                (None, symbol) => *names = symbol.map(|symbol| vec![symbol]),
            }
        }
        found
    }

    fn symbol(&self, table: &Source<'_>, address: u64) -> Option<Name> {
        self.look_up(table, &[address]).names.pop()??.pop()
    }

    fn look_up(&self, source: &Source<'_>, addresses: &[u64]) -> Found {
        let all = self.symbolizer.symbolize(source, Input::VirtOffset(addresses));
        if let Ok(symbols) = all {
            return Found { names: symbols.iter().map(names_of).collect(), broken: 0 };
        }
        // One broken unit spoils a request for many addresses: each is asked for alone then.
        let mut found = Found::none(addresses);
        for (names, address) in found.names.iter_mut().zip(addresses) {
            match self.symbolizer.symbolize_single(source, Input::VirtOffset(*address)) {
                Ok(symbol) => *names = names_of(&symbol),
                Err(_) => found.broken += 1,
            }
        }
        found
    }
}

/// Whether a symbol is the qualified form of a name, or the only one there is.
fn is_fuller(symbol: &str, name: &str) -> bool {
    name.is_empty() || (symbol.contains("::") && symbol.contains(name))
}

/// Names, and at how many addresses what is there could not be read.
struct Found {
    names: Vec<Option<Vec<Name>>>,
    broken: u64,
}

impl Found {
    fn none(addresses: &[u64]) -> Self {
        Self { names: vec![None; addresses.len()], broken: 0 }
    }
}

/// Has the tables of a file read.
fn probe(symbolizer: &Symbolizer, source: &Source<'_>) -> Result<(), String> {
    let outcome = symbolizer.symbolize_single(source, Input::VirtOffset(0));
    outcome.map(drop).map_err(|error| format!("{error:#}"))
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

/// A path to a copy.
fn path_of(copy: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()))
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
        let Answer::Names { names, .. } = lookup.answer(Request::Name { module: 7, addresses })
        else {
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
        let Answer::Opened { chosen: None, refused, own: None } =
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
