//! What outlive and its worker process say to each other: a JSON document a line, a reply to each request.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Identifies a module to the worker.
pub(super) type ModuleKey = u32;

/// What the worker is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Make a module ready.
    Open(Open),
    /// Name addresses of a module that was opened.
    Name {
        /// The module.
        module: ModuleKey,
        /// Its addresses.
        addresses: Vec<u64>,
    },
}

/// The files of a module.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    /// The module.
    pub(super) module: ModuleKey,
    /// Its own file, for its symbol tables.
    pub(super) own: PathBuf,
    /// Files with its debug information, best first.
    pub(super) sources: Vec<DebugSource>,
}

/// A file with debug information.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DebugSource {
    /// A path by which the worker can open it.
    pub(super) file: PathBuf,
    /// What its contents must sum up to.
    pub(super) crc: Option<u32>,
    /// A directory with `.build-id` links to what dwz has moved out of it.
    pub(super) supplements: Option<PathBuf>,
    /// Sections that name other files, which must not be opened.
    pub(super) hidden_sections: Vec<String>,
}

/// What the worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    /// To the request.
    pub(super) answer: Answer,
    /// What the worker has used so far.
    pub(super) usage: Usage,
}

/// To each request its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Which of the sources is used, by its index, and why those before it are not.
    Opened {
        /// The first that is right.
        chosen: Option<usize>,
        /// The others before it.
        refused: Vec<(usize, String)>,
        /// What is wrong with the module's own symbol tables, when no source is used.
        own: Option<String>,
    },
    /// What is at each address.
    Names {
        /// Innermost first; `None` where there are none.
        names: Vec<Option<Vec<Name>>>,
        /// Addresses at which what is there could not be read.
        broken: u64,
    },
}

/// One function at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    /// Demangled.
    pub(super) function: String,
    /// Source file.
    pub(super) file: Option<String>,
    /// Line in `file`.
    pub(super) line: Option<u32>,
    /// Inlined into the next one.
    pub(super) inlined: bool,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, seconds.
    pub cpu_s: f64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
}
