//! Well-formed input for each parser: where fuzzing begins, and what tests cut and change.
//!
//! In: the files of real programs, for those parsers that read files. Out: inputs; made by hand where a running process would have to
//! be read.

use super::go_memory::{self, OLDEST};
use super::remote_image::START;
use crate::golang::debug_info;
use crate::golang::layout::{GoroutineLayout, Layout};
use crate::golang::pclntab;
use crate::target::{Image, vdso};
use crate::unwind::cache;
use crate::unwind::compile::compile_image;
use crate::unwind::pack::pack;

/// The newest version whose records count bytes, and the one after it.
const VERSIONS: [u32; 3] = [OLDEST, 26, 27];

/// Inputs for a parser of this name. `programs` are files of programs.
pub fn seeds(parser: &str, programs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let files = || programs.iter().cloned().chain(vdso::image());
    match parser {
        "elf" | "unwind" | "code" => files().collect(),
        "go_program" | "moduledata" => files().chain(VERSIONS.map(go_program)).collect(),
        "pclntab" => {
            files().filter_map(|file| function_table(&file)).chain([pclntab::sample()]).collect()
        }
        "debug_info" => vec![debug_info()],
        "unwind_table" => {
            let tables = files().filter_map(|file| pack(&compile_image(file.as_slice())));
            tables.map(|table| cache::encode(&table)).collect()
        }
        "stack_walk" => vec![stack()],
        "notes" => vec![notes()],
        "buckets" => VERSIONS.map(|minor| of_version(minor, &profile(layout(minor)))).into(),
        "specials" => VERSIONS.map(|minor| of_version(minor, &spans(layout(minor)))).into(),
        "goroutines" => {
            VERSIONS.map(|minor| of_version(minor, &goroutines(&layout(minor).goroutine))).into()
        }
        "records" => {
            (0..32_u64).map(|kind| words(&[kind, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])).collect()
        }
        _ => texts(parser),
    }
}

fn texts(parser: &str) -> Vec<Vec<u8>> {
    let texts: &[&str] = match parser {
        "proc_files" => &[
            "55d0c0a00000-55d0c0a21000 r-xp 00002000 fe:01 1234567    /usr/bin/a\\040b (deleted)\n\
             55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0          [heap]\n",
            "Name:\ta\nState:\tS (sleeping)\nTgid:\t7\nNSpid:\t7\t1\nUid:\t0\t0\t0\t0\nVmRSS:\t 12 kB\n\n\
             7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1 18446744073709551615 1 1 1",
            "4:memory:/a\n0::/kubepods/pod1/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n\n\
             30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
        ],
        "arguments" => &[
            "16MiB",
            "1h30m",
            "4096",
            "500ms",
            "malloc=my_alloc,free=my_free",
            "go1.26.1 X:nogreenteagc",
            "-4@$5",
            "8@-16(%rbp)",
            "8@(%rax,%rbx,8)",
            "1.5GiB",
        ],
        "worker" => &[
            r#"{"answer":{"Opened":{"chosen":0,"refused":[[1,"why"]],"own":null}},"usage":{"cpu_s":0.5,"rss_bytes":1}}"#,
            r#"{"answer":{"Names":{"names":[null,[{"function":"f","file":"a.c","line":3,"inlined":true}]],"broken":1}},"usage":{"cpu_s":0.5,"rss_bytes":1}}"#,
        ],
        _ => &[],
    };
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn put(bytes: &mut [u8], at: u64, value: u64) {
    bytes[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
}

fn layout(minor: u32) -> &'static Layout {
    go_memory::layout(minor).expect("a version that the table has")
}

fn of_version(minor: u32, memory: &[u8]) -> Vec<u8> {
    [&[(minor - OLDEST) as u8], memory].concat()
}

/// The sections as the parser takes them.
fn debug_info() -> Vec<u8> {
    let (abbreviations, entries) = debug_info::sample();
    [vec![abbreviations.len() as u8], abbreviations, entries].concat()
}

/// The function table of a Go program.
fn function_table(file: &[u8]) -> Option<Vec<u8>> {
    let image = Image::read(super::file(file)?).ok()?;
    let section = image.section(".gopclntab")?;
    image.bytes(section.address, section.size)
}

/// The smallest file that is read as a Go program: one segment with its version, its function table and its description.
fn go_program(minor: u32) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let layout = &layout(minor).moduledata;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend(words(&[BASE, 64, 0]));
    // Flags, size of this header, one program header of 56 bytes, sections of 64 bytes of which there are none.
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    let table = pclntab::sample();
    let (version_at, table_at) = (128_u64, 192_u64);
    let data_at = (table_at + table.len() as u64).next_multiple_of(8);
    let end = data_at + layout.size + 64;
    // A segment to be loaded, that may be read, written and executed.
    file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    file.extend(words(&[0, BASE, BASE, end, end, 4096]));
    file.resize(end as usize, 0);
    let version = format!("go1.{minor}.1");
    let block = [b"\xff Go buildinf:\x08\x02".as_slice(), &[0; 16]].concat();
    let block = [block, vec![version.len() as u8], version.into_bytes()].concat();
    file[version_at as usize..version_at as usize + block.len()].copy_from_slice(&block);
    file[table_at as usize..table_at as usize + table.len()].copy_from_slice(&table);
    for (field, value) in [
        (0, BASE + table_at),
        (layout.ftab + 8, 3),
        (layout.text, BASE),
        (layout.etext, BASE + 64),
        (layout.minpc, BASE),
        (layout.maxpc, BASE + 32),
        (layout.types, BASE),
        (layout.etypes, BASE + 64),
        (layout.gofunc, BASE + table_at),
    ] {
        put(&mut file, data_at + field, value);
    }
    file
}

/// A list of two call sites.
fn profile(layout: &Layout) -> Vec<u8> {
    let layout = &layout.bucket;
    let size = layout.size + 2 * 8 + 4 * layout.cycle_size;
    let at = [16, 16 + size];
    let mut bytes = vec![0; (16 + 2 * size) as usize];
    put(&mut bytes, 0, START + at[0]);
    put(&mut bytes, 8, 4);
    for (number, at) in at.iter().enumerate() {
        let next = if number == 0 { START + 16 + size } else { 0 };
        for (field, value) in
            [(layout.allnext, next), (layout.typ, 1), (layout.object_size, 64), (layout.nstk, 2)]
        {
            put(&mut bytes, at + field, value);
        }
        for word in 0..2 {
            put(&mut bytes, at + layout.size + 8 * word, START + word);
        }
        put(&mut bytes, at + layout.size + 16 + layout.allocs, 5);
        put(&mut bytes, at + layout.size + 16 + layout.frees, 2);
    }
    bytes
}

/// A span with two records.
fn spans(layout: &Layout) -> Vec<u8> {
    let (heap, special) = (&layout.heap, &layout.special);
    let span_at = 40;
    let records = [span_at + heap.span_size, span_at + heap.span_size + special.size];
    let mut bytes = vec![0; (records[1] + special.size + 8) as usize];
    // The list, and the one address in it.
    for (number, value) in [START + 32, 1, 1, 0, START + span_at].into_iter().enumerate() {
        put(&mut bytes, 8 * number as u64, value);
    }
    for (field, value) in [
        (heap.start, 0x2000),
        (heap.npages, 1),
        (heap.elemsize, 64),
        (heap.specials, START + records[0]),
    ] {
        put(&mut bytes, span_at + field, value);
    }
    bytes[(span_at + heap.state) as usize] = 1;
    for (number, at) in records.into_iter().enumerate() {
        let next = if number == 0 { START + records[1] } else { 0 };
        put(&mut bytes, at + special.next, next);
        put(&mut bytes, at + special.bucket, START);
        bytes[(at + special.offset) as usize] = 64 * number as u8;
        bytes[(at + special.kind) as usize] = special.kind_profile;
    }
    bytes
}

/// A goroutine that waits, with a stack of one frame.
fn goroutines(layout: &GoroutineLayout) -> Vec<u8> {
    let (record, stack) = (40, 40 + layout.size);
    let mut bytes = vec![0; (stack + 128) as usize];
    for (number, value) in [START + 32, 1, 1, START + 32, START + record].into_iter().enumerate() {
        put(&mut bytes, 8 * number as u64, value);
    }
    for (field, value) in [
        (layout.stack + layout.stack_low, START + stack),
        (layout.stack + layout.stack_high, START + stack + 128),
        (layout.sched + layout.saved_pc, START),
        (layout.sched + layout.saved_sp, START + stack + 8),
        (layout.sched + layout.saved_bp, START + stack + 16),
        (layout.goid, 7),
    ] {
        put(&mut bytes, record + field, value);
    }
    bytes[(record + layout.status) as usize] = 4;
    bytes[(record + layout.waitreason) as usize] = 14;
    put(&mut bytes, stack + 16, START + stack + 64);
    put(&mut bytes, stack + 24, START);
    bytes
}

/// Registers, four rules, and a stack with a frame of each.
fn stack() -> Vec<u8> {
    let mut bytes = words(&[1, 0x1000, 0x1010, 0x1000]);
    for kind in 1..5_u32 {
        for half in [kind, 16, 0, 8] {
            bytes.extend(half.to_le_bytes());
        }
    }
    bytes.extend(words(&[1, 2, 0x1020, 3, 0x1030, 4, 0x1040, 0, 0, 0]));
    bytes
}

/// Two points of a sampler.
fn notes() -> Vec<u8> {
    let mut bytes = Vec::new();
    for texts in [
        b"otel_memory\0alloc\08@%rdi -4@$5\0\0".as_slice(),
        b"otel_memory\0free\08@-16(%rbp)\0\0\0\0",
    ] {
        for number in [8, 24 + texts.len() as u32, 3] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"stapsdt\0");
        bytes.extend(words(&[0x1000, 0x2000, 0x3000]));
        bytes.extend(texts);
    }
    bytes
}
