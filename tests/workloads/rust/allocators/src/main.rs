//! What Rust programs allocate with, counted at the interface that all of them have: `GlobalAlloc`.
//!
//! The allocator is the system's, or with the feature `jemalloc` the one of that crate, linked in beside the C library's, which is
//! then called too. Speaks as `c/protocol.h` has it, without touching the allocator.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[cfg(feature = "jemalloc")]
type Inner = tikv_jemallocator::Jemalloc;
#[cfg(feature = "jemalloc")]
const INNER: Inner = tikv_jemallocator::Jemalloc;
#[cfg(not(feature = "jemalloc"))]
type Inner = std::alloc::System;
#[cfg(not(feature = "jemalloc"))]
const INNER: Inner = std::alloc::System;

struct Counting(Inner);

#[global_allocator]
static ALLOCATOR: Counting = Counting(INNER);

static ALLOCATED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
static FREED: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

fn count(what: &[AtomicU64; 2], bytes: usize) {
    what[0].fetch_add(1, Relaxed);
    what[1].fetch_add(bytes as u64, Relaxed);
}

fn given(block: *mut u8, bytes: usize) -> *mut u8 {
    if !block.is_null() {
        count(&ALLOCATED, bytes);
    }
    block
}

// SAFETY: every call is handed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        given(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        given(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let new = unsafe { self.0.realloc(block, layout, size) };
        if !new.is_null() {
            count(&FREED, layout.size());
        }
        given(new, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(&FREED, layout.size());
        unsafe { self.0.dealloc(block, layout) }
    }
}

#[derive(Clone)]
#[repr(align(256))]
struct Wide([u8; 512]);

/// What programs are made of; half of it is kept.
fn collections() {
    for round in 0..20_usize {
        let mut numbers = Vec::new();
        let mut words = String::new();
        let mut map = HashMap::new();
        let mut tree = BTreeMap::new();
        for i in 0..500 + round {
            numbers.push(i as u64);
            words.push_str("word ");
            map.insert(i, vec![0_u8; i]);
            tree.insert(i, Box::new(i as u32));
        }
        numbers.shrink_to_fit();
        let wide = vec![Wide([round as u8; 512]); 3];
        let mut growing: Vec<Wide> = Vec::with_capacity(1);
        growing.extend_from_slice(&wide);
        assert!(growing.iter().all(|wide| wide.0[511] == round as u8));
        if round % 2 == 0 {
            std::mem::forget((numbers, words, map, tree, wide, growing));
        }
    }
}

/// The C library's allocator, called as a C library that is linked in would.
#[cfg(feature = "jemalloc")]
fn c_library() {
    use std::hint::black_box;

    unsafe extern "C" {
        fn malloc(bytes: usize) -> *mut u8;
        fn realloc(block: *mut u8, bytes: usize) -> *mut u8;
        fn free(block: *mut u8);
    }
    for bytes in 1000..1200 {
        // SAFETY: blocks are used as the C standard has it.
        unsafe {
            // Seen by somebody: the compiler leaves out blocks that nobody looks at.
            let block = black_box(given(malloc(bytes), bytes));
            let block = black_box(given(realloc(block, 2 * bytes), 2 * bytes));
            count(&FREED, bytes);
            if bytes % 2 == 0 {
                free(block);
                count(&FREED, 2 * bytes);
            }
        }
    }
}

fn say(line: &[u8]) {
    // SAFETY: the descriptor is open as long as the program runs, and stays so.
    let mut output = ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    output.write_all(line).expect("the test listens");
}

fn hear(word: &[u8]) {
    // SAFETY: as above.
    let mut input = ManuallyDrop::new(unsafe { File::from_raw_fd(0) });
    let mut got = [0; 16];
    let got = got.get_mut(..word.len()).expect("a short word");
    input.read_exact(got).expect("the test speaks");
    assert!(got == word);
}

fn main() {
    // The first map asks for the seed of its hashes.
    drop(HashMap::from([(1, 2)]));
    say(b"ready\n");
    let before = [&ALLOCATED, &FREED].map(|[count, bytes]| [count, bytes].map(|n| n.load(Relaxed)));
    hear(b"go\n");
    collections();
    #[cfg(feature = "jemalloc")]
    c_library();
    let now = [&ALLOCATED, &FREED].map(|[count, bytes]| [count, bytes].map(|n| n.load(Relaxed)));
    let [allocated, freed] =
        [0, 1].map(|which| [0, 1].map(|part| now[which][part] - before[which][part]));
    let mut line = [0_u8; 512];
    let mut text = Cursor::new(line.as_mut_slice());
    writeln!(
        text,
        r#"{{"allocated_count":{},"allocated_bytes":{},"freed_count":{},"freed_bytes":{},"live_count":{},"live_bytes":{}}}"#,
        allocated[0],
        allocated[1],
        freed[0],
        freed[1],
        allocated[0] - freed[0],
        allocated[1] - freed[1],
    )
    .expect("the line is long enough");
    let length = text.position() as usize;
    say(&line[..length]);
    hear(b"exit\n");
}
