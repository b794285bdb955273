//! The worker process: reads debug information, so that no file can harm the tracer.
//!
//! In: requests on standard input. Out: replies on standard output. It may use so much memory and no more, the kernel's out-of-memory
//! killer prefers it to everything else, and it ends with its parent.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};

use nix::sys::resource::{Resource, setrlimit};

use super::lookup::Lookup;
use super::protocol::{Reply, Request, Usage};
use crate::sys::usage;

/// Most memory of its own; files are mapped and do not count.
const MAX_MEMORY_BYTES: u64 = 2 << 30;

/// Serves until standard input ends.
pub fn serve() -> io::Result<()> {
    restrict();
    let mut lookup = Lookup::default();
    let mut output = io::stdout().lock();
    for line in BufReader::new(io::stdin().lock()).lines() {
        let request: Request = serde_json::from_str(&line?)?;
        let answer = lookup.answer(request);
        let usage =
            Usage { cpu_s: usage::own_cpu_time().as_secs_f64(), rss_bytes: usage::own_rss_bytes() };
        let mut reply = serde_json::to_vec(&Reply { answer, usage })?;
        reply.push(b'\n');
        output.write_all(&reply)?;
        output.flush()?;
    }
    Ok(())
}

/// What is refused here is refused to a caller with few rights, whose files are its own.
fn restrict() {
    let outcomes = [
        setrlimit(Resource::RLIMIT_DATA, MAX_MEMORY_BYTES, MAX_MEMORY_BYTES)
            .map_err(io::Error::from),
        setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(io::Error::from),
        fs::write("/proc/self/oom_score_adj", "1000"),
    ];
    for error in outcomes.into_iter().filter_map(Result::err) {
        tracing::debug!("a limit of the worker process is not in force: {error}");
    }
}
