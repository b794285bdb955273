//! The stacks of a Go heap profile, as Go's own profiler shows them.
//!
//! In: return addresses. Out: frames, and how many of the first are the runtime's own.

use crate::golang::GoProcess;
use crate::golang::code::CodeFrame;
use crate::symbolise::Frame;
use crate::target::VirtAddr;

/// Packages whose functions are left out where a stack begins.
const RUNTIME: [&str; 2] = ["runtime.", "internal/runtime/"];
/// Where each goroutine starts: shown nowhere.
const ROOT: &str = "runtime.goexit";
/// Depth at which the runtime cuts stacks: up to Go 1.22, and since.
const DEPTH_1_22: usize = 32;
const DEPTH: usize = 128;

/// A named stack.
pub struct Named {
    /// Leaf first.
    pub frames: Vec<Frame>,
    /// How many of the first are the runtime's own; never all.
    pub runtime_frames: usize,
    /// The contract's word for where it ends.
    pub end: &'static str,
    /// The type that is allocated.
    pub type_name: Option<String>,
}

/// Names a stack.
pub fn name(process: &GoProcess, stack: &[VirtAddr]) -> Named {
    let end = if is_cut(process, stack) { "too-deep" } else { "root" };
    let mut code = process.frames(stack);
    code.retain(|frame| frame.function != ROOT);
    let runtime_frames = runtime_frames(&code);
    // Each return address but the last has one frame, so that the numbers of frames are those of addresses.
    let type_name = stack.get(runtime_frames).and_then(|at| process.type_allocated(*at));
    let frames = code.into_iter().map(|frame| section_frame(process, frame)).collect();
    Named { frames, runtime_frames, end, type_name }
}

/// The report's frame for a function.
pub(crate) fn section_frame(process: &GoProcess, frame: CodeFrame) -> Frame {
    Frame {
        function: frame.function,
        file: frame.file,
        line: frame.line,
        module: Some(process.module.path.to_string_lossy().into_owned()),
        build_id: process.module.build_id.clone(),
        offset: frame.address.0,
        inlined: frame.inlined,
    }
}

/// Whether the runtime kept only the innermost part of the stack.
pub fn is_cut(process: &GoProcess, stack: &[VirtAddr]) -> bool {
    let depth = if process.version.minor <= 22 { DEPTH_1_22 } else { DEPTH };
    stack.len() >= depth
        && stack
            .last()
            .is_none_or(|last| process.frames(&[*last]).last().is_none_or(|f| f.function != ROOT))
}

/// The runtime's frames at the leaf; none when there are no others.
fn runtime_frames(frames: &[CodeFrame]) -> usize {
    frames.iter().position(|frame| !is_runtimes(frame)).unwrap_or(0)
}

/// Whether a function is the runtime's own.
pub(crate) fn is_runtimes(frame: &CodeFrame) -> bool {
    RUNTIME.iter().any(|package| frame.function.starts_with(package))
}

/// Whether it is where each goroutine starts, which is shown nowhere.
pub(crate) fn is_root(frame: &CodeFrame) -> bool {
    frame.function == ROOT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::ElfAddr;

    fn leaf(functions: &[&str]) -> usize {
        let frame = |function: &&str| CodeFrame {
            function: (*function).to_owned(),
            file: None,
            line: None,
            address: ElfAddr(0),
            inlined: false,
            wrapper: false,
        };
        runtime_frames(&functions.iter().map(frame).collect::<Vec<_>>())
    }

    #[test]
    fn the_runtimes_leaf_is_hidden_but_never_all() {
        assert_eq!(leaf(&["runtime.mallocgc", "internal/runtime/maps.NewMap", "main.main"]), 2);
        assert_eq!(leaf(&["main.f", "runtime.main"]), 0);
        assert_eq!(leaf(&["runtime.allocm", "runtime.mstart"]), 0);
        assert_eq!(leaf(&["runtimes.f"]), 0);
        assert_eq!(leaf(&[]), 0);
    }
}
