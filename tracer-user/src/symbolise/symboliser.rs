//! Addresses to functions, files and lines, by blazesym from the modules' open files.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::Frame;
use crate::target::{CodeLocation, ElfAddr, Module, ModuleId, ModuleTable, VirtAddr};

/// Names addresses, each once.
///
/// One symboliser goes with one [`ModuleTable`], whose ids it remembers.
#[derive(Debug, Default)]
pub struct Symboliser {
    symbolizer: Symbolizer,
    /// Frames by the address looked up, which for a return address lies in the call before it.
    known: HashMap<CodeLocation, Vec<Frame>>,
}

impl Symboliser {
    /// A symboliser that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The functions at an address, inlined ones first; at least one frame.
    ///
    /// A return address belongs to the call before it: the instruction there can be another line's, or another function's.
    pub fn frames(
        &mut self,
        location: CodeLocation,
        modules: &ModuleTable,
        is_return_address: bool,
    ) -> Vec<Frame> {
        let location = if is_return_address { call_before(location) } else { location };
        self.learn(&[location], modules);
        self.known.get(&location).cloned().unwrap_or_default()
    }

    /// The functions of a stack, leaf first. The first address is an instruction, each other one a return address.
    pub fn symbolise_stack(&mut self, stack: &[CodeLocation], modules: &ModuleTable) -> Vec<Frame> {
        let Some((leaf, callers)) = stack.split_first() else { return Vec::new() };
        let mut locations = vec![*leaf];
        locations.extend(callers.iter().copied().map(call_before));
        self.learn(&locations, modules);
        locations
            .iter()
            .filter_map(|location| self.known.get(location))
            .flatten()
            .cloned()
            .collect()
    }

    /// Looks up what is not known yet, one request a module.
    fn learn(&mut self, locations: &[CodeLocation], modules: &ModuleTable) {
        let mut wanted: HashMap<ModuleId, Vec<u64>> = HashMap::new();
        for location in locations {
            if self.known.contains_key(location) {
                continue;
            }
            match *location {
                CodeLocation::InModule(id, address) => {
                    wanted.entry(id).or_default().push(address.0);
                }
                CodeLocation::Unknown(address) => {
                    self.known.insert(*location, vec![unknown_frame(address)]);
                }
            }
        }
        for (id, addresses) in wanted {
            for (address, frames) in addresses.iter().zip(self.look_up(id, &addresses, modules)) {
                self.known.insert(CodeLocation::InModule(id, ElfAddr(*address)), frames);
            }
        }
    }

    /// The frames at each of the addresses of one module.
    fn look_up(
        &mut self,
        id: ModuleId,
        addresses: &[u64],
        modules: &ModuleTable,
    ) -> Vec<Vec<Frame>> {
        let module = modules.get(id);
        let symbols = module.and_then(|module| self.symbols(module, addresses)).unwrap_or_default();
        let mut symbols = symbols.into_iter();
        addresses
            .iter()
            .map(|address| match (symbols.next(), module) {
                (Some(Some(frames)), _) => frames,
                (_, Some(module)) => vec![frame(module, *address, nameless(module, *address))],
                (_, None) => vec![unknown_frame(VirtAddr(*address))],
            })
            .collect()
    }

    /// What blazesym knows; `None` when the module has no file or its file cannot be read.
    fn symbols(&mut self, module: &Module, addresses: &[u64]) -> Option<Vec<Option<Vec<Frame>>>> {
        let source = Source::Elf(Elf::new(module.openable_path()?));
        let symbolizer = &self.symbolizer;
        // The file is the target's and can be made to break the reader; that must cost names, not the trace.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let symbols = symbolizer.symbolize(&source, Input::VirtOffset(addresses))?;
            let frames = symbols.iter().zip(addresses).map(|(symbol, address)| match symbol {
                Symbolized::Sym(symbol) => Some(frames_of(module, *address, symbol)),
                Symbolized::Unknown(_) => None,
            });
            Ok::<_, blazesym::Error>(frames.collect())
        }));
        match result {
            Ok(Ok(frames)) => Some(frames),
            Ok(Err(error)) => {
                tracing::debug!(module = %module.path.display(), %error, "no symbols");
                None
            }
            Err(_) => {
                tracing::warn!(module = %module.path.display(), "its symbols broke the symboliser");
                // What it left half done must not be used.
                self.symbolizer = Symbolizer::new();
                None
            }
        }
    }
}

/// One byte back from a return address lies in the call.
fn call_before(location: CodeLocation) -> CodeLocation {
    match location {
        CodeLocation::InModule(id, address) => {
            CodeLocation::InModule(id, ElfAddr(address.0.saturating_sub(1)))
        }
        CodeLocation::Unknown(address) => {
            CodeLocation::Unknown(VirtAddr(address.0.saturating_sub(1)))
        }
    }
}

/// Inlined functions innermost first, then the function they were inlined into.
fn frames_of(module: &Module, address: u64, symbol: &Sym<'_>) -> Vec<Frame> {
    let inlined = symbol.inlined.iter().rev().map(|function| Frame {
        inlined: true,
        ..located(module, address, &function.name, function.code_info.as_ref())
    });
    let outer = located(module, address, &symbol.name, symbol.code_info.as_deref());
    inlined.chain([outer]).collect()
}

fn located(module: &Module, address: u64, name: &str, code: Option<&CodeInfo<'_>>) -> Frame {
    Frame {
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|code| code.line),
        ..frame(module, address, name.to_owned())
    }
}

fn frame(module: &Module, address: u64, function: String) -> Frame {
    Frame {
        function,
        file: None,
        line: None,
        module: Some(module.path.to_string_lossy().into_owned()),
        build_id: module.build_id.clone(),
        offset: address,
        inlined: false,
    }
}

/// `module+0xoffset`: what other tools can turn into a name where the symbols are.
fn nameless(module: &Module, address: u64) -> String {
    let name = module.path.file_name().unwrap_or(module.path.as_os_str());
    format!("{}+{address:#x}", name.to_string_lossy())
}

/// Code generated at run time, or a stack that was read wrong.
fn unknown_frame(address: VirtAddr) -> Frame {
    Frame {
        function: format!("{:#x}", address.0),
        file: None,
        line: None,
        module: None,
        build_id: None,
        offset: address.0,
        inlined: false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;
    use crate::target::proc_dir::ProcDir;
    use crate::target::symbols::find_functions;
    use crate::target::{AddressSpace, Pid};

    fn own() -> (AddressSpace, ModuleTable) {
        let process = Arc::new(ProcDir::open(Pid(std::process::id())).expect("own process"));
        let mut modules = ModuleTable::new();
        let space = AddressSpace::open(process, &mut modules).expect("mappings");
        (space, modules)
    }

    #[inline(never)]
    fn outlive_symbolise_marker() -> u32 {
        3
    }

    #[test]
    fn names_a_function_of_this_program_with_its_line() {
        let (space, modules) = own();
        let location = space.locate(VirtAddr(outlive_symbolise_marker as *const () as u64));
        let frames = Symboliser::new().frames(location, &modules, false);
        let frame = frames.last().expect("one frame at least");
        assert!(frame.function.ends_with("outlive_symbolise_marker"), "{frame:?}");
        assert!(frame.file.as_ref().is_some_and(|f| f.ends_with("symboliser.rs")), "{frame:?}");
        assert!(frame.line.is_some() && frame.module.is_some());
        assert_eq!(outlive_symbolise_marker(), 3);
    }

    #[test]
    fn a_return_address_is_looked_up_in_the_call_before_it() {
        let (space, modules) = own();
        let start = outlive_symbolise_marker as *const () as u64;
        let location = space.locate(VirtAddr(start));
        let mut symboliser = Symboliser::new();
        let before = symboliser.frames(location, &modules, true);
        assert!(before.iter().all(|f| !f.function.ends_with("outlive_symbolise_marker")));
        let stack = symboliser.symbolise_stack(&[location, location], &modules);
        assert_eq!(stack.last(), before.last());
        assert!(stack.iter().any(|f| f.function.ends_with("outlive_symbolise_marker")));
    }

    #[test]
    fn without_a_symbol_the_module_and_the_offset_stand_for_it() {
        let (space, modules) = own();
        let vdso = space.regions().iter().find(|region| {
            modules.get(region.module).is_some_and(|m| m.path.as_os_str() == "[vdso]")
        });
        let mut symboliser = Symboliser::new();
        if let Some(region) = vdso {
            let location = space.locate(VirtAddr(region.start.0 + 0x20));
            assert_eq!(symboliser.frames(location, &modules, false)[0].function, "[vdso]+0x20");
        }
        let nowhere = CodeLocation::Unknown(VirtAddr(0x1234));
        assert_eq!(symboliser.frames(nowhere, &modules, false)[0].function, "0x1234");
        assert!(symboliser.symbolise_stack(&[], &modules).is_empty());
    }

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

    /// Symbols, inlining and lines of a C program whose file has been deleted since it was opened.
    #[test]
    fn inlined_functions_come_first_each_with_its_own_line() {
        let dir = tempfile::tempdir().expect("directory");
        let (source, program) = (dir.path().join("inlined.c"), dir.path().join("inlined"));
        std::fs::write(&source, SOURCE).expect("source");
        let done = std::process::Command::new("cc")
            .args(["-g", "-O1", "-o"])
            .args([&program, &source])
            .status()
            .expect("a C compiler");
        assert!(done.success());
        let mut modules = ModuleTable::new();
        let id = modules.add_open_file(&program, File::open(&program).expect("program"));
        let id = id.expect("metadata");
        std::fs::remove_file(&program).expect("deleted");
        let file = modules.get(id).and_then(|m| m.file.clone()).expect("open");
        let outer = find_functions(&file, &["outer"]).expect("ELF")[0].clone();

        let mut symboliser = Symboliser::new();
        let stacks = (0..outer.size).map(|byte| {
            let address = CodeLocation::InModule(id, ElfAddr(outer.address.0 + byte));
            symboliser.frames(address, &modules, false)
        });
        let lines = |stack: Vec<Frame>| -> Vec<(String, Option<u32>, bool)> {
            stack.into_iter().map(|f| (f.function, f.line, f.inlined)).collect()
        };
        let expected = vec![("inner".into(), Some(3), true), ("outer".into(), Some(6), false)];
        let seen: Vec<_> = stacks.map(lines).collect();
        assert!(seen.contains(&expected), "{seen:?}");
    }
}
