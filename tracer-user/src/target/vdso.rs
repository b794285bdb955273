//! The code that the kernel shows every process: the same for all, so that this process's own serves.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::Pid;
use super::maps::parse_executable;
use super::proc_dir::ProcDir;

/// Its name among the mappings.
pub const NAME: &str = "[vdso]";
/// It is two or three pages long; more is not believed.
const MAX_BYTES: u64 = 1 << 20;

/// Its ELF image; `None` when this process has none.
pub fn image() -> Option<Vec<u8>> {
    let own = ProcDir::open(Pid(std::process::id())).ok()?;
    let mappings = parse_executable(&own.read("maps").ok()?);
    let mapping = mappings.iter().find(|mapping| mapping.path.as_os_str() == NAME)?;
    let mut image = vec![0; mapping.size().min(MAX_BYTES) as usize];
    let memory = File::open(own.path("mem")).ok()?;
    memory.read_exact_at(&mut image, mapping.start.0).ok()?;
    Some(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_elf_image() {
        let image = image().expect("every process has one");
        assert_eq!(&image[..4], b"\x7fELF");
    }
}
