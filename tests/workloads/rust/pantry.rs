//! pantry: allocations of Rust's standard library, kept for ever. Speaks the protocol of `c/protocol.h`.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

mod shelf {
    #[expect(dead_code, reason = "only its size matters")]
    pub struct Jar([u64; 8]);

    #[inline(never)]
    pub fn stock(jars: usize) -> Vec<Jar> {
        Vec::with_capacity(jars) // SITE stock
    }

    impl Jar {
        #[inline(never)]
        pub fn boxed(filling: u64) -> Box<Self> {
            Box::new(Self([filling; 8])) // SITE boxed
        }
    }
}

/// Reads a line without a buffer, which would be an allocation.
fn await_word(input: &mut File, word: &str) {
    let mut got = [0; 64];
    let mut length = 0;
    loop {
        let mut byte = [0];
        if input.read(&mut byte).ok() != Some(1) {
            std::process::exit(98);
        }
        if byte[0] == b'\n' {
            break;
        }
        got[length] = byte[0];
        length += 1;
    }
    assert_eq!(&got[..length], word.as_bytes());
}

fn main() {
    // SAFETY: both are open, and neither is closed by this program.
    let (input, output) = unsafe { (File::from_raw_fd(0), File::from_raw_fd(1)) };
    let (mut input, mut output) = (ManuallyDrop::new(input), ManuallyDrop::new(output));
    output.write_all(b"ready\n").expect("the test listens");
    await_word(&mut input, "go");
    for _ in 0..10 {
        std::mem::forget(shelf::stock(100));
        Box::leak(shelf::Jar::boxed(7));
    }
    let (count, bytes) = (20, 10 * (100 * 64 + 64));
    writeln!(
        *output,
        "{{\"allocated_count\":{count},\"allocated_bytes\":{bytes},\"freed_count\":0,\"freed_bytes\":0,\
         \"live_count\":{count},\"live_bytes\":{bytes}}}"
    )
    .expect("the test listens");
    await_word(&mut input, "exit");
}
