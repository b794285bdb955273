//! Addresses to functions, files and lines: each address once, many at a time, in a worker process.
//!
//! In: [`CodeLocation`]s that are wanted. Out: [`Frame`]s, once [`Symboliser::advance`] has nothing left to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use super::debuginfod::Debuginfod;
use super::module_names::{ModuleNames, Search};
use super::protocol::{Answer, Name, Request, Usage};
use super::worker::{Heard, Worker};
use super::{Frame, nameless};
use crate::target::{CodeLocation, ElfAddr, Module, ModuleId, ModuleTable, VirtAddr};

/// Most addresses in one request: progress is shown, and events are read, between requests.
const MAX_ADDRESSES: usize = 1024;

/// Names addresses.
///
/// One symboliser goes with one [`ModuleTable`], whose ids it remembers.
#[derive(Debug)]
pub struct Symboliser {
    worker: Worker,
    /// Workers so far: what was opened in an earlier one has to be opened again.
    workers: u32,
    debuginfod: Debuginfod,
    modules: HashMap<ModuleId, ModuleNames>,
    /// Frames by the address looked up, which for a return address lies in the call before it.
    known: HashMap<CodeLocation, Vec<Frame>>,
    /// Addresses that are not known yet.
    wanted: BTreeMap<ModuleId, BTreeSet<u64>>,
    asked: Option<Asked>,
}

/// The request that the worker has.
#[derive(Debug)]
enum Asked {
    Open(ModuleId),
    Name(ModuleId, Vec<u64>),
}

impl Symboliser {
    /// A symboliser that knows nothing yet; `program` is outlive's own, which becomes the worker.
    pub fn new(program: PathBuf, debuginfod: Debuginfod) -> Self {
        Self {
            worker: Worker::new(program),
            workers: 0,
            debuginfod,
            modules: HashMap::new(),
            known: HashMap::new(),
            wanted: BTreeMap::new(),
            asked: None,
        }
    }

    /// Wants to know what debug information a module has.
    pub fn want_module(&mut self, id: ModuleId, modules: &ModuleTable) {
        self.modules.entry(id).or_insert_with(|| ModuleNames::new(id, modules));
        self.wanted.entry(id).or_default();
    }

    /// Wants the names of a stack, leaf first.
    pub fn want_stack(&mut self, stack: &[CodeLocation], modules: &ModuleTable) {
        for location in looked_up(stack) {
            if self.known.contains_key(&location) {
                continue;
            }
            match location {
                CodeLocation::InModule(id, address) => {
                    self.want_module(id, modules);
                    self.wanted.entry(id).or_default().insert(address.0);
                }
                CodeLocation::Unknown(address) => {
                    self.known.insert(location, vec![unknown_frame(address)]);
                }
            }
        }
    }

    /// Addresses that are wanted and not known yet.
    pub fn missing(&self) -> usize {
        let asked = match &self.asked {
            Some(Asked::Name(_, addresses)) => addresses.len(),
            _ => 0,
        };
        self.wanted.values().map(BTreeSet::len).sum::<usize>() + asked
    }

    /// Whether nothing is left to do but to wait for a server.
    pub fn is_fetching(&self) -> bool {
        self.asked.is_none() && self.wanted.keys().any(|id| self.search(*id) == Search::UnderWay)
    }

    /// Does the next piece of work, waiting for it not much longer than this; false when all is known.
    pub fn advance(&mut self, wait: Duration) -> bool {
        self.take_fetched();
        if self.asked.is_none() && !self.ask_next() {
            if self.wanted.is_empty() {
                return false;
            }
            std::thread::sleep(wait);
            return true;
        }
        match (self.worker.hear(wait), self.asked.take()) {
            (Heard::Nothing, asked) => self.asked = asked,
            (Heard::Answer(Answer::Opened { chosen, refused, own }), Some(Asked::Open(id))) => {
                if let Some(names) = self.modules.get_mut(&id) {
                    names.opened(self.workers, chosen, &refused, own.as_deref());
                }
            }
            (Heard::Answer(Answer::Names { names, broken }), Some(Asked::Name(id, addresses))) => {
                self.learn(id, &addresses, names);
                if let Some(names) = self.modules.get_mut(&id) {
                    names.broken += broken;
                }
            }
            (Heard::Ended(why), asked) => self.worker_ended(asked, &why),
            (Heard::Answer(_), asked) => {
                self.worker_ended(asked, "its reader answered something else");
            }
        }
        true
    }

    /// Uses what is there instead of waiting for servers; what comes late is used in the next report.
    pub fn stop_waiting(&mut self) {
        self.modules.values_mut().for_each(ModuleNames::stop_waiting);
    }

    /// Wants nothing any more: what is not known stays without a name. Gives the number of these addresses.
    pub fn give_up(&mut self) -> usize {
        if let Some(asked) = self.asked.take() {
            // Its answer would be taken for that of another question.
            self.worker.end();
            self.workers += 1;
            if let Asked::Name(id, addresses) = asked {
                self.wanted.entry(id).or_default().extend(addresses);
            }
        }
        let wanted = std::mem::take(&mut self.wanted);
        let mut count = 0;
        for (id, addresses) in wanted {
            let addresses: Vec<u64> = addresses.into_iter().collect();
            count += addresses.len();
            self.learn(id, &addresses, Vec::new());
        }
        count
    }

    /// The functions of a stack that was wanted, leaf first. The first address is an instruction, each other one a return address,
    /// which belongs to the call before it: the instruction there can be another line's, or another function's.
    pub fn frames(&self, stack: &[CodeLocation]) -> Vec<Frame> {
        looked_up(stack)
            .filter_map(|location| self.known.get(&location))
            .flatten()
            .cloned()
            .collect()
    }

    /// `full`, `stripped` or `none`: what names of a module are from.
    pub fn level(&self, id: ModuleId) -> &'static str {
        self.modules.get(&id).map_or("none", ModuleNames::level)
    }

    /// What a reader must know about the names in these modules.
    pub fn notices(&self, modules: &BTreeSet<ModuleId>) -> BTreeSet<String> {
        modules
            .iter()
            .filter_map(|id| self.modules.get(id))
            .flat_map(ModuleNames::notices)
            .collect()
    }

    /// What looking up has cost, apart from this process.
    pub fn usage(&self) -> Usage {
        self.worker.usage()
    }

    fn search(&self, id: ModuleId) -> Search {
        self.modules.get(&id).map_or(Search::Over, |names| names.search)
    }

    /// Puts the next question to the worker; false when there is none that can be put now.
    fn ask_next(&mut self) -> bool {
        let ids: Vec<ModuleId> = self.wanted.keys().copied().collect();
        for id in ids {
            let Some(request) = self.next_request(id) else { continue };
            match self.worker.ask(&request) {
                Ok(()) => return true,
                Err(error) => {
                    let asked = self.asked.take();
                    self.worker_ended(asked, &format!("its reader cannot be started: {error}"));
                }
            }
        }
        false
    }

    /// The next question about a module, which is then under way.
    fn next_request(&mut self, id: ModuleId) -> Option<Request> {
        self.begin_search(id);
        let names = self.modules.get_mut(&id)?;
        if names.search == Search::UnderWay {
            return None;
        }
        if !names.can_be_asked() {
            let addresses: Vec<u64> = self.wanted.remove(&id)?.into_iter().collect();
            let none = vec![None; addresses.len()];
            self.learn(id, &addresses, none);
            return None;
        }
        if names.opened_in != Some(self.workers) {
            let open = names.open_request(id.0)?;
            self.asked = Some(Asked::Open(id));
            return Some(Request::Open(open));
        }
        let wanted = self.wanted.get_mut(&id)?;
        let firsts = std::iter::from_fn(|| wanted.pop_first());
        let addresses: Vec<u64> = firsts.take(MAX_ADDRESSES).collect();
        if addresses.is_empty() {
            self.wanted.remove(&id);
            return None;
        }
        self.asked = Some(Asked::Name(id, addresses.clone()));
        Some(Request::Name { module: id.0, addresses })
    }

    /// Asks servers for the debug file of a module that has been opened, or need not be, and has none.
    fn begin_search(&mut self, id: ModuleId) {
        let Some(names) = self.modules.get_mut(&id) else { return };
        let Some(build_id) = names.build_to_search().map(str::to_owned) else { return };
        let is_asked = self.debuginfod.request(&build_id);
        names.search = if is_asked { Search::UnderWay } else { Search::Over };
    }

    /// Takes what servers have answered; names found without it are looked up again.
    fn take_fetched(&mut self) {
        for (id, names) in &mut self.modules {
            if !matches!(names.search, Search::UnderWay | Search::Late) {
                continue;
            }
            let Some(build_id) = names.build_id() else { continue };
            let Some(fetched) = self.debuginfod.result(build_id) else { continue };
            if names.fetched(fetched) {
                let again = self.known.extract_if(|location, _| is_in(*location, *id));
                let addresses = again.filter_map(|(location, _)| match location {
                    CodeLocation::InModule(_, address) => Some(address.0),
                    CodeLocation::Unknown(_) => None,
                });
                self.wanted.entry(*id).or_default().extend(addresses);
            }
        }
    }

    fn worker_ended(&mut self, asked: Option<Asked>, why: &str) {
        self.workers += 1;
        let id = match asked {
            Some(Asked::Open(id)) => id,
            Some(Asked::Name(id, addresses)) => {
                self.wanted.entry(id).or_default().extend(addresses);
                id
            }
            None => return,
        };
        if let Some(names) = self.modules.get_mut(&id) {
            names.ended_worker(why);
        }
    }

    fn learn(&mut self, id: ModuleId, addresses: &[u64], found: Vec<Option<Vec<Name>>>) {
        let Some(names) = self.modules.get(&id) else { return };
        let mut found = found.into_iter();
        for address in addresses {
            let frames = match (found.next().flatten(), &names.module) {
                (Some(names), Some(module)) if !names.is_empty() => {
                    names.into_iter().map(|name| named(module, *address, name)).collect()
                }
                (_, Some(module)) => vec![frame(
                    module,
                    *address,
                    nameless(&module.path.to_string_lossy(), *address),
                )],
                (_, None) => vec![unknown_frame(VirtAddr(*address))],
            };
            self.known.insert(CodeLocation::InModule(id, ElfAddr(*address)), frames);
        }
    }
}

fn is_in(location: CodeLocation, module: ModuleId) -> bool {
    matches!(location, CodeLocation::InModule(id, _) if id == module)
}

/// The addresses to look up for a stack.
fn looked_up(stack: &[CodeLocation]) -> impl Iterator<Item = CodeLocation> + '_ {
    let callers = stack.iter().skip(1).copied().map(call_before);
    stack.first().copied().into_iter().chain(callers)
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

fn named(module: &Module, address: u64, name: Name) -> Frame {
    Frame {
        file: name.file,
        line: name.line,
        inlined: name.inlined,
        ..frame(module, address, name.function)
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
    use std::path::Path;

    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    /// A symboliser whose worker ends without an answer.
    fn without_worker() -> Symboliser {
        Symboliser::new("/bin/false".into(), Debuginfod::default())
    }

    fn own_program() -> (ModuleId, ModuleTable) {
        let mut modules = ModuleTable::new();
        let path = Path::new("/opt/own program");
        let id = modules.add_open_file(path, File::open("/proc/self/exe").expect("own program"));
        (id.expect("metadata"), modules)
    }

    fn named(
        symboliser: &mut Symboliser,
        stack: &[CodeLocation],
        modules: &ModuleTable,
    ) -> Vec<String> {
        symboliser.want_stack(stack, modules);
        while symboliser.advance(WAIT) {}
        assert_eq!(symboliser.missing(), 0);
        symboliser.frames(stack).into_iter().map(|frame| frame.function).collect()
    }

    #[test]
    fn a_worker_that_ends_costs_names_and_is_told_of() {
        let (id, modules) = own_program();
        let mut symboliser = without_worker();
        let stack = [0x1000, 0x2000].map(|address| CodeLocation::InModule(id, ElfAddr(address)));
        let functions = named(&mut symboliser, &stack, &modules);
        assert_eq!(functions, ["own program+0x1000", "own program+0x1fff"], "the call before");
        assert_eq!(symboliser.level(id), "none");
        let notices = symboliser.notices(&BTreeSet::from([id]));
        let about = |what: &str| notices.iter().any(|notice| notice.contains(what));
        assert!(about("the debug information of /opt/own program is not used"), "{notices:?}");
        assert!(about("the symbols of /opt/own program are not used"), "{notices:?}");
    }

    #[test]
    fn a_program_that_cannot_run_is_no_worker() {
        let (id, modules) = own_program();
        let mut symboliser = Symboliser::new("/nowhere".into(), Debuginfod::default());
        let stack = [CodeLocation::InModule(id, ElfAddr(0x10))];
        assert_eq!(named(&mut symboliser, &stack, &modules), ["own program+0x10"]);
    }

    #[test]
    fn what_is_in_no_module_is_named_by_its_address() {
        let mut symboliser = without_worker();
        let modules = ModuleTable::new();
        let stack = [0x1234, 0x5678].map(|address| CodeLocation::Unknown(VirtAddr(address)));
        assert_eq!(named(&mut symboliser, &stack, &modules), ["0x1234", "0x5677"]);
        assert!(symboliser.frames(&[]).is_empty());
    }
}
