//! Names for code addresses.
//!
//! In: addresses in modules. Out: [`Frame`]s, innermost first, and which of them are the allocator's own.

mod allocator_frames;
mod mapping_frames;
mod symboliser;

pub use allocator_frames::strip_allocator_frames;
pub use mapping_frames::strip_mapping_frames;
pub use symboliser::Symboliser;

/// One function a stack passes through. An address with inlined calls gives several, innermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
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
