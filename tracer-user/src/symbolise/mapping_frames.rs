//! Which frames of a stack only make the system call: every mapping has them, so they tell nothing about its site.

use super::Frame;

/// The C library's functions that map memory, without the prefixes of its internal aliases.
const FUNCTIONS: [&str; 6] = ["mmap", "mmap64", "mremap", "brk", "sbrk", "syscall"];

/// The frames without the C library's own at the leaf; never none, when there were any.
pub fn strip_mapping_frames(frames: &[Frame]) -> &[Frame] {
    let own = frames.iter().take_while(|frame| only_calls(&frame.function)).count();
    let own = own.min(frames.len().saturating_sub(1));
    &frames[own..]
}

fn only_calls(function: &str) -> bool {
    let end = function.find('@').unwrap_or(function.len());
    let name = &function[..end];
    let name = name.strip_prefix("__GI_").unwrap_or(name);
    FUNCTIONS.contains(&name.strip_prefix("__").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_form() {
        for name in
            ["mmap", "__mmap64", "__GI___mmap64", "mremap@@GLIBC_2.2.5", "__brk", "sbrk", "syscall"]
        {
            assert!(only_calls(name), "{name}");
        }
        for name in ["my_mmap", "mmap_file", "allocate_stack", "app::mmap", "", "@"] {
            assert!(!only_calls(name), "{name}");
        }
    }
}
