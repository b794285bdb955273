//! The code of a running process, compared with its file: a probe that is left behind shows as a changed byte.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Insists that the process's program is as it is in its file.
pub fn assert_unchanged(pid: u32) {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let open = |name: &str| {
        File::open(process.join(name)).unwrap_or_else(|error| panic!("{name} of {pid}: {error}"))
    };
    let (memory, program) = (open("mem"), open("exe"));
    let path = fs::read_link(process.join("exe")).unwrap();
    let path = path.to_str().unwrap();
    let maps = fs::read_to_string(process.join("maps")).unwrap();
    let mut compared = 0;
    for line in maps.lines().filter(|line| line.ends_with(path)) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if !fields[1].contains('x') {
            continue;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = fields[0].split_once('-').unwrap();
        let (start, end, offset) = (number(start), number(end), number(fields[2]));
        let in_file = (end - start).min(program.metadata().unwrap().len() - offset);
        let mut code = [(); 2].map(|()| vec![0; usize::try_from(in_file).unwrap()]);
        memory.read_exact_at(&mut code[0], start).unwrap();
        program.read_exact_at(&mut code[1], offset).unwrap();
        let changed = code[0].iter().zip(&code[1]).position(|(here, there)| here != there);
        assert_eq!(changed, None, "a byte of {path} in {pid} that is not as in its file: {line}");
        compared += in_file;
    }
    assert!(compared > 0, "{pid} has no code of {path}");
}
