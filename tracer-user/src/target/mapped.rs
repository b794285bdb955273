//! What a process has mapped now, by address, and where its break is.
//!
//! In: `/proc/PID/maps` and `/proc/PID/stat`. Out: [`PageRange`]s; nothing read is trusted.

use std::io;

use super::maps::{field, pair};
use super::page_range::PageRange;
use super::proc_dir::ProcDir;
use super::{VirtAddr, page_range};

/// Number of `start_brk` in `/proc/PID/stat`, counted from the field after the name (`proc_pid_stat(5)`: 47, the state is 3).
const START_BRK: usize = 47 - 3;

/// Everything mapped, in order, neighbours joined.
pub fn mapped_ranges(process: &ProcDir) -> io::Result<Vec<PageRange>> {
    Ok(parse_ranges(&process.read("maps")?))
}

/// The end of the page that the break lies in. `None` when it cannot be known.
pub fn break_end(process: &ProcDir) -> Option<VirtAddr> {
    let maps = process.read("maps").ok()?;
    parse_heap_end(&maps).or_else(|| parse_start_break(&process.read("stat").ok()?))
}

pub(crate) fn parse_ranges(maps: &[u8]) -> Vec<PageRange> {
    let mut ranges: Vec<PageRange> = Vec::new();
    for range in maps.split(|byte| *byte == b'\n').filter_map(line_range) {
        match ranges.last_mut() {
            Some(last) if last.end() == range.start() => {
                if let Some(joined) = PageRange::between(last.start(), range.end()) {
                    *last = joined;
                }
            }
            // The kernel writes them in order; what is not is no line of the kernel's.
            Some(last) if last.end() > range.start() => {}
            _ => ranges.push(range),
        }
    }
    ranges
}

fn line_range(line: &[u8]) -> Option<PageRange> {
    let (start, end) = pair(field(line)?.0, '-')?;
    PageRange::between(VirtAddr(start), VirtAddr(end))
}

pub(crate) fn parse_heap_end(maps: &[u8]) -> Option<VirtAddr> {
    let lines = maps.split(|byte| *byte == b'\n');
    let heap = lines.filter(|line| line.trim_ascii_end().ends_with(b" [heap]"));
    heap.filter_map(line_range).map(PageRange::end).max()
}

pub(crate) fn parse_start_break(stat: &[u8]) -> Option<VirtAddr> {
    // The name may hold anything, a bracket too: the last one ends it.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let first = text.split_ascii_whitespace().nth(START_BRK)?.parse().ok()?;
    (first != 0).then(|| page_range::page_end(VirtAddr(first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Pid;

    const MAPS: &str = "\
00400000-00401000 r-xp 00000000 fe:00 7 /bin/a [heap]
00600000-00621000 rw-p 00000000 00:00 0                                  [heap]
00621000-00630000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 
";

    #[test]
    fn neighbours_are_one_range() {
        let ends: Vec<_> = parse_ranges(MAPS.as_bytes())
            .into_iter()
            .map(|range| (range.start().0, range.end().0))
            .collect();
        assert_eq!(
            ends,
            [(0x40_0000, 0x40_1000), (0x60_0000, 0x63_0000), (0x7f00_0000_0000, 0x7f00_0000_1000)]
        );
        assert!(parse_ranges(b"2000-1000 x\n-\nzz-zz \n5000-6000 r\n4000-5800 r\n").len() == 1);
    }

    #[test]
    fn the_break_is_the_heaps_end_or_where_it_would_start() {
        assert_eq!(parse_heap_end(MAPS.as_bytes()), Some(VirtAddr(0x63_0000)));
        let process = ProcDir::open(Pid(std::process::id())).expect("own process");
        let maps = process.read("maps").expect("maps");
        let stat = process.read("stat").expect("stat");
        let first = parse_start_break(&stat).expect("own break");
        assert!(parse_heap_end(&maps).is_none_or(|end| first <= end));
        assert_eq!(break_end(&process), parse_heap_end(&maps).or(Some(first)));
        assert_eq!(parse_start_break(b"1 (a) b) R 1"), None);
    }
}
