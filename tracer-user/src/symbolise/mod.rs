//! Names for code addresses.
//!
//! In: addresses in modules. Out: [`Frame`]s, innermost first, and which of them are the allocator's own.
//!
//! Debug information is read in a worker process: the file of a target can make its reader fail, hang, or use up memory, and that must
//! cost names, not the trace. The worker is this program again, with a hidden command.

mod allocator_frames;
mod debuginfod;
mod lookup;
mod mapping_frames;
mod module_names;
mod protocol;
mod serve;
mod symboliser;
mod worker;

pub use allocator_frames::strip_allocator_frames;
pub use debuginfod::Debuginfod;
pub use mapping_frames::strip_mapping_frames;
pub use protocol::Usage;
pub use serve::serve;
pub use symboliser::Symboliser;
pub use worker::COMMAND as WORKER_COMMAND;

/// One function a stack passes through. An address with inlined calls gives several, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
pub struct Frame {
    /// Demangled name, or `module+0xoffset` when there is no symbol.
    pub function: String,
    /// Source file, when there is debug information.
    pub file: Option<String>,
    /// Line in `file`.
    pub line: Option<u32>,
    /// The module's path as the target sees it.
    pub module: Option<String>,
    /// The module's build id.
    pub build_id: Option<String>,
    /// The address in the module (ELF address of the call).
    pub offset: u64,
    /// Inlined into the next frame.
    pub inlined: bool,
}

/// Whether this is a reply of the worker process.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn is_reply(line: &[u8]) -> bool {
    worker::parse_reply(line).is_ok()
}

impl Frame {
    /// Of which nothing but its name is known.
    pub fn of_name(function: impl Into<String>) -> Self {
        Self {
            function: function.into(),
            file: None,
            line: None,
            module: None,
            build_id: None,
            offset: 0,
            inlined: false,
        }
    }

    /// Whether more is known than a place in a module, which others may have a name for.
    pub fn is_named(&self) -> bool {
        self.module.as_deref().is_none_or(|module| self.function != nameless(module, self.offset))
    }
}

/// `module+0xoffset`: what other tools can turn into a name where the symbols are.
pub fn nameless(module: &str, address: u64) -> String {
    let name = module.rsplit('/').next().unwrap_or(module);
    format!("{name}+{address:#x}")
}
