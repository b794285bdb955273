//! The protocol of `c/protocol.h`, spoken without a buffer, which would be an allocation.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

/// Standard input and output.
pub struct Conversation {
    input: ManuallyDrop<File>,
    output: ManuallyDrop<File>,
}

impl Conversation {
    /// Says that the program is ready, and awaits the word to go.
    pub fn begin() -> Self {
        // SAFETY: both are open, and neither is closed by this program.
        let (input, output) = unsafe { (File::from_raw_fd(0), File::from_raw_fd(1)) };
        let mut talk =
            Self { input: ManuallyDrop::new(input), output: ManuallyDrop::new(output) };
        talk.output.write_all(b"ready\n").expect("the test listens");
        talk.await_word("go");
        talk
    }

    /// Tells what was allocated and kept, and awaits the word to exit.
    pub fn end(mut self, count: u64, bytes: u64) {
        writeln!(
            *self.output,
            "{{\"allocated_count\":{count},\"allocated_bytes\":{bytes},\"freed_count\":0,\"freed_bytes\":0,\
             \"live_count\":{count},\"live_bytes\":{bytes}}}"
        )
        .expect("the test listens");
        self.await_word("exit");
    }

    fn await_word(&mut self, word: &str) {
        let mut got = [0; 64];
        let mut length = 0;
        loop {
            let mut byte = [0];
            if self.input.read(&mut byte).ok() != Some(1) {
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
}
