//! What a workload says it allocated and freed: the truth that reports are compared with.

use serde_json::Value;

/// Requested sizes and numbers of blocks, by the program's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that gave out a block.
    pub allocated_count: u64,
    /// Bytes asked for by them.
    pub allocated_bytes: u64,
    /// Blocks given back.
    pub freed_count: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Blocks not given back.
    pub live_count: u64,
    /// Their bytes.
    pub live_bytes: u64,
}

impl Counts {
    /// Reads a workload's line.
    pub fn parse(line: &str) -> Self {
        let field = |name: &str| number(line, name);
        Self {
            allocated_count: field("allocated_count"),
            allocated_bytes: field("allocated_bytes"),
            freed_count: field("freed_count"),
            freed_bytes: field("freed_bytes"),
            live_count: field("live_count"),
            live_bytes: field("live_bytes"),
        }
    }
}

/// One number of a workload's line.
pub fn number(line: &str, name: &str) -> u64 {
    let value: Value = serde_json::from_str(line)
        .unwrap_or_else(|error| panic!("the workload's line {line:?} is not JSON: {error}"));
    value[name].as_u64().unwrap_or_else(|| panic!("the workload's line {line:?} has no {name}"))
}
