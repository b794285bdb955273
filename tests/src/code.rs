//! The code of a running process, compared with its file: a probe that is left behind shows as a changed byte.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Insists that the code of the process's program and libraries is as it is in their files.
pub fn assert_unchanged(pid: u32) {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let memory = File::open(process.join("mem"));
    let memory = memory.unwrap_or_else(|error| panic!("the memory of {pid}: {error}"));
    let maps = fs::read_to_string(process.join("maps")).unwrap();
    let mut compared = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if !fields[1].contains('x') || fields[4] == "0" {
            continue;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = fields[0].split_once('-').unwrap();
        let (start, end, offset) = (number(start), number(end), number(fields[2]));
        // The file that is mapped, whatever its name leads to now.
        let file = File::open(process.join(format!("map_files/{start:x}-{end:x}")));
        let file = file.unwrap_or_else(|error| panic!("{line}: {error}"));
        let in_file = (end - start).min(file.metadata().unwrap().len() - offset);
        let mut code = [(); 2].map(|()| vec![0; usize::try_from(in_file).unwrap()]);
        memory.read_exact_at(&mut code[0], start).unwrap();
        file.read_exact_at(&mut code[1], offset).unwrap();
        let changed = code[0].iter().zip(&code[1]).position(|(here, there)| here != there);
        assert_eq!(changed, None, "a byte of the code of {pid} that is not as in its file: {line}");
        compared += in_file;
    }
    assert!(compared > 0, "{pid} has no code");
}
