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

/// The same as `go tool pprof` lists it.
pub fn by_line_of_pprof(sample_type: &str, file: &Path) -> ByLine {
    let index = format!("-sample_index={sample_type}");
    // Else it takes names apart itself.
    let text = pprof(&["-list=.", "-unit=B", "-symbolize=none", &index], file);
    let mut all = ByLine::new();
    let mut routine = None;
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("ROUTINE ======================== ") {
            let (function, file) = head.rsplit_once(" in ").expect("a function in a file");
            let name = file.rsplit('/').next().unwrap_or_default();
            routine = Some((function.to_owned(), name.to_owned()));
        }
        let Some((function, file)) = &routine else { continue };
        let Some((number, amounts)) = numbered(line).filter(|(_, amounts)| *amounts != (0, 0))
        else {
            continue;
        };
        all.insert((function.clone(), file.clone(), number), amounts);
    }
    assert!(!all.is_empty(), "pprof lists nothing:\n{text}");
    all
}

/// `   1000B     1000B     12:    text`
fn numbered(line: &str) -> Option<(u64, (u64, u64))> {
    let mut parts = line.split_whitespace();
    let mut amount = || match parts.next()? {
        "." => Some(0),
        amount => amount.trim_end_matches('B').parse().ok(),
    };
    let amounts = (amount()?, amount()?);
    let number = parts.next()?.split_once(':')?.0.parse().ok()?;
    Some((number, amounts))
}
