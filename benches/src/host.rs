//! The machine that the numbers come from.
//!
//! In: `/proc`. Out: one line of text.

use std::fs;
use std::time::SystemTime;

/// Processor, kernel and date.
pub(crate) fn describe() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let date = now.split('T').next().unwrap_or_default();
    format!("{}, Linux {}, {date}", processor(&processors), kernel.trim())
}

fn processor(processors: &str) -> String {
    let values = |name: &'static str| {
        let fields = processors.lines().filter_map(|line| line.split_once(':'));
        fields.filter(move |field| field.0.trim() == name).map(|field| field.1.trim())
    };
    let model = values("model name").next().unwrap_or("unnamed processor");
    let is_virtual = values("flags").any(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let place = if is_virtual { ", in a virtual machine" } else { "" };
    format!("{model}, {} processors{place}", values("processor").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_and_named() {
        let text = "processor\t: 0\nmodel name\t: Fast One\nflags\t\t: fpu hypervisor\n\n\
            processor\t: 1\nmodel name\t: Fast One\nflags\t\t: fpu hypervisor\n";
        assert_eq!(processor(text), "Fast One, 2 processors, in a virtual machine");
    }
}
