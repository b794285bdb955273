//! Parsers of text and records: what the kernel shows of a process, what a user types, what the worker process answers.

use super::word;
use crate::allocators::named::NamedFunction;
use crate::allocators::usdt;
use crate::collector::event::decode;
use crate::golang::version::GoVersion;
use crate::symbolise;
use crate::target::container::container_id;
use crate::target::mapped;
use crate::target::maps::parse_executable;
use crate::target::memory::limit;
use crate::target::status::Status;
use crate::units::{Size, Span, human_age, human_count, human_size};

/// What `/proc/PID` says: a process chooses its name, the paths that it maps, and its control group.
pub fn proc_files(bytes: &[u8]) {
    for mapping in parse_executable(bytes) {
        mapping.size();
        mapping.is_file();
    }
    mapped::parse_ranges(bytes);
    mapped::parse_heap_end(bytes);
    mapped::parse_start_break(bytes);
    let text = String::from_utf8_lossy(bytes);
    let (first, second) = text.split_once("\n\n").unwrap_or((&text, ""));
    Status::parse(first, second);
    container_id(&text);
    limit(first, second, &|_| Some(first.to_owned()));
}

/// What a user types.
pub fn arguments(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(size) = text.parse::<Size>() {
        size.to_string();
    }
    text.parse::<Span>().ok();
    NamedFunction::parse_all(&text).ok();
    GoVersion::parse(&text);
    usdt::argument(&text);
    for number in [word(bytes, 0) as f64, f64::from_bits(word(bytes, 0))] {
        human_size(number);
        human_age(number);
        human_count(number);
    }
}

/// What the worker process answers: it has read the target's debug information, and may be its puppet.
pub fn worker(bytes: &[u8]) {
    symbolise::is_reply(bytes);
}

/// A record of the ring buffer.
pub fn records(bytes: &[u8]) {
    decode(bytes);
}
