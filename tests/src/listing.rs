//! What each line of a function holds: as `outlive list` prints it in JSON, and as `go tool pprof -list` does.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::outlive::{command, finished};
use crate::pprof::tool::pprof;

/// Bytes of one kind at each line that has some: by function, name of its file and line, first its own, then with what it calls.
pub type ByLine = BTreeMap<(String, String, u64), (u64, u64)>;

/// A listing of `outlive list`.
pub struct Listing {
    /// The document.
    pub json: Value,
}

impl Listing {
    /// Lists the functions of a file that match, all of them.
    pub fn of(file: &Path, regex: &str, further: &[&str]) -> Self {
        let mut command = command(["list", "-f", "json", "-n", "0"]);
        let finished = finished(command.args(further).arg(file).arg(regex)).with_status(0);
        let json = serde_json::from_str(&finished.stdout);
        Self { json: json.unwrap_or_else(|error| panic!("{error}: {finished}")) }
    }

    /// The functions.
    pub fn functions(&self) -> &Vec<Value> {
        self.json["functions"].as_array().unwrap_or_else(|| panic!("no functions: {}", self.json))
    }

    /// The only function with this name.
    pub fn function(&self, name: &str) -> &Value {
        let mut found = self.functions().iter().filter(|function| function["function"] == name);
        let function = found.next().unwrap_or_else(|| panic!("no {name}: {}", self.json));
        assert!(found.next().is_none(), "{name} is there twice: {}", self.json);
        function
    }

    /// A line of a function.
    pub fn line(&self, function: &str, line: u64) -> &Value {
        let lines = self.function(function)["lines"].as_array().into_iter().flatten();
        let mut lines = lines.filter(|found| found["line"] == line);
        lines.next().unwrap_or_else(|| panic!("no line {line} of {function}: {}", self.json))
    }

    /// The notices.
    pub fn notices(&self) -> Vec<&str> {
        let notices = self.json["notices"].as_array();
        notices.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The bytes of one kind at each line whose source was found.
    pub fn by_line(&self, kind: &str) -> ByLine {
        let mut all = ByLine::new();
        for function in self.functions().iter().filter(|function| !function["source"].is_null()) {
            let text = |key: &str| function[key].as_str().unwrap_or_default().to_owned();
            for line in function["lines"].as_array().into_iter().flatten() {
                let Some(number) = line["line"].as_u64() else { continue };
                let bytes = |of: &str| line[of][kind].as_u64().expect("a number of bytes");
                let amounts = (bytes("own"), bytes("cumulative"));
                if amounts != (0, 0) {
                    let file = text("file");
                    let name = file.rsplit('/').next().unwrap_or_default().to_owned();
                    all.insert((text("function"), name, number), amounts);
                }
            }
        }
        all
    }
}

/// What `go tool pprof` lists of a function in a file.
#[derive(Default)]
struct Routine {
    /// As it sums up its lines: own, and with what they call.
    sum: (u64, u64),
    /// The first line that it prints.
    first: Option<u64>,
    lines: BTreeMap<u64, (u64, u64)>,
}

/// Asserts that `go tool pprof` lists the same bytes of one kind.
///
/// It prints a function from its first line on, of which a profile knows one though the initialisation of a package stands in many files.
/// So there may be lines before that; those it has in its sums only.
pub fn assert_same_in_pprof(ours: &ByLine, sample_type: &str, file: &Path) {
    let routines = routines_of_pprof(sample_type, file);
    assert!(!routines.is_empty(), "pprof lists nothing");
    let mut sums = BTreeMap::new();
    let mut printed = ByLine::new();
    for ((function, file, line), (own, cumulative)) in ours {
        let key = (function.clone(), file.clone());
        let sum: &mut (u64, u64) = sums.entry(key.clone()).or_default();
        *sum = (sum.0 + own, sum.1 + cumulative);
        let first = routines.get(&key).and_then(|routine| routine.first);
        if first.is_some_and(|first| *line >= first) {
            printed.insert((function.clone(), file.clone(), *line), (*own, *cumulative));
        }
    }
    let mut sums_of_pprof = BTreeMap::new();
    let mut lines_of_pprof = ByLine::new();
    for ((function, file), routine) in routines {
        for (line, amounts) in routine.lines {
            lines_of_pprof.insert((function.clone(), file.clone(), line), amounts);
        }
        sums_of_pprof.insert((function, file), routine.sum);
    }
    assert_eq!(printed, lines_of_pprof, "{sample_type}");
    assert_eq!(sums, sums_of_pprof, "{sample_type}");
}

/// Those that have any, and whose source is found; by function and name of the file.
fn routines_of_pprof(sample_type: &str, file: &Path) -> BTreeMap<(String, String), Routine> {
    let index = format!("-sample_index={sample_type}");
    // Else it takes names apart itself.
    let text = pprof(&["-list=.", "-unit=B", "-symbolize=none", &index], file);
    let mut routines: BTreeMap<(String, String), Routine> = BTreeMap::new();
    for part in text.split("ROUTINE ======================== ").skip(1) {
        let mut lines = part.lines();
        let head = lines.next().unwrap_or_default();
        let (function, file) = head.rsplit_once(" in ").expect("a function in a file");
        let name = file.rsplit('/').next().unwrap_or_default();
        let sum = lines.next().and_then(amounts).expect("the sum of a function");
        if sum == (0, 0) || lines.clone().any(|line| line.starts_with(" Error: ")) {
            continue;
        }
        let mut routine = Routine { sum, ..Routine::default() };
        for (number, amounts) in lines.filter_map(numbered) {
            routine.first.get_or_insert(number);
            if amounts != (0, 0) {
                routine.lines.insert(number, amounts);
            }
        }
        routines.insert((function.to_owned(), name.to_owned()), routine);
    }
    routines
}

/// `   1000B     1000B     12:    text`
fn numbered(line: &str) -> Option<(u64, (u64, u64))> {
    let number = line.split_whitespace().nth(2)?.split_once(':')?.0.parse().ok()?;
    Some((number, amounts(line)?))
}

/// The two that a line begins with.
fn amounts(line: &str) -> Option<(u64, u64)> {
    let mut parts = line.split_whitespace();
    let mut amount = || match parts.next()? {
        "." => Some(0),
        amount => amount.trim_end_matches('B').parse().ok(),
    };
    Some((amount()?, amount()?))
}
