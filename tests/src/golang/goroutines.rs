//! A Go program's own goroutines.
//!
//! In: what `/debug/pprof/goroutine?debug=2` serves, the text of a traceback. Out: [`Goroutine`]s.

use std::collections::BTreeMap;

use super::profile::CodeLine;

/// How many goroutines a `go` statement started that are in a state; the first one of a program has none.
pub type GoroutineCounts = BTreeMap<(Option<CodeLine>, String), u64>;

/// Counts goroutines by where they were created, and by state.
pub fn count(goroutines: Vec<Goroutine>) -> GoroutineCounts {
    let mut counts = GoroutineCounts::new();
    for goroutine in goroutines {
        *counts.entry((goroutine.creator, goroutine.state)).or_insert(0) += 1;
    }
    counts
}

/// A goroutine, as the runtime tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// Its number.
    pub id: u64,
    /// What it does, or why it waits: `running`, `chan send`.
    pub state: String,
    /// For how many whole minutes it has waited.
    pub minutes: u64,
    /// Where it is, leaf first.
    pub frames: Vec<CodeLine>,
    /// Where it was created; the first one of a program was not.
    pub creator: Option<CodeLine>,
}

impl Goroutine {
    /// Reads a traceback of all goroutines.
    pub fn parse_all(text: &str) -> Vec<Self> {
        text.split("\n\n").filter(|part| !part.trim().is_empty()).map(Self::parse).collect()
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.trim().lines();
        let (id, state, minutes) = head(lines.next().unwrap());
        let mut goroutine = Self { id, state, minutes, frames: Vec::new(), creator: None };
        while let Some(call) = lines.next() {
            // Where frames are left out there is a line that says so, and no place.
            if call.starts_with("...") {
                continue;
            }
            let place = lines.next().unwrap_or_else(|| panic!("{call:?} has no place in {text}"));
            if let Some(creator) = call.strip_prefix("created by ") {
                let function = creator.split(" in goroutine ").next().unwrap_or(creator);
                goroutine.creator = Some(code_line(function, place));
            } else {
                // Arguments of a call stand in the last brackets.
                let function = call.rfind('(').map_or(call, |end| &call[..end]);
                goroutine.frames.push(code_line(function, place));
            }
        }
        goroutine
    }
}

/// Of a profile of goroutines as text, how many have their innermost shown frame in a source file. A record is `3 @ 0x1 0x2`, and
/// `#\t0x1\tmain.f+0x3\t/path/file.go:12` for each frame.
pub fn leaked_in(profile: &str, source: &str) -> u64 {
    let records = profile.split("\n\n").map(|record| record.lines().collect::<Vec<_>>());
    let counts = records.filter_map(|lines| {
        let head = lines.iter().position(|line| line.contains(" @ "))?;
        let file = lines.get(head + 1)?.rsplit_once(':')?.0;
        file.ends_with(source).then_some(lines[head].split_once(" @ ")?.0)
    });
    counts.map(|count| count.trim().parse::<u64>().unwrap()).sum()
}

/// Of `goroutine 7 [chan send, 2 minutes]:`, with further words that do not matter here.
fn head(line: &str) -> (u64, String, u64) {
    let parts = line.strip_prefix("goroutine ").and_then(|rest| rest.split_once(' '));
    let (id, rest) = parts.unwrap_or_else(|| panic!("{line:?} does not begin a goroutine"));
    let inside = rest.split_once('[').and_then(|(_, rest)| rest.rsplit_once(']'));
    let (inside, _) = inside.unwrap_or_else(|| panic!("{line:?} tells no state"));
    let mut words = inside.split(", ");
    let state = words.next().unwrap_or_default().to_owned();
    let minutes = words.find_map(|word| word.strip_suffix(" minutes")?.parse().ok());
    (id.parse().unwrap(), state, minutes.unwrap_or(0))
}

/// Of `\t/path/file.go:12 +0x34`.
fn code_line(function: &str, place: &str) -> CodeLine {
    let place = place.trim().split(" +0x").next().unwrap_or_default();
    let parts = place.rsplit_once(':');
    let (file, line) = parts.unwrap_or_else(|| panic!("{place:?} is no place in a file"));
    CodeLine {
        function: function.to_owned(),
        file: file.to_owned(),
        line: line.parse().unwrap_or_else(|error| panic!("{place:?} has no line: {error}")),
    }
}
