//! Functions of outlive itself to put probes on, so as to measure what a hit costs on this machine.

use std::arch::naked_asm;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Looks like malloc to a probe: gives its argument back. Its first instruction is one that the kernel emulates.
#[unsafe(naked)]
pub extern "C" fn allocate_like(size: usize) -> usize {
    naked_asm!("nop", "mov rax, rdi", "ret")
}

/// Looks like free to a probe. Its first instruction is one that the kernel emulates.
#[unsafe(naked)]
pub extern "C" fn release_like(address: usize) -> usize {
    naked_asm!("nop", "xor eax, eax", "ret")
}

/// As [`release_like`]; never probed.
#[unsafe(naked)]
pub extern "C" fn bare_like(address: usize) -> usize {
    naked_asm!("nop", "xor eax, eax", "nop", "ret")
}

/// As [`release_like`], but its first instruction is one that the kernel single-steps.
#[unsafe(naked)]
pub extern "C" fn stepped_release_like(address: usize) -> usize {
    naked_asm!("xor eax, eax", "ret")
}

/// CPU time of this thread.
pub fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// CPU time of a process, of all its threads, those that have ended included; `None` when it is gone.
pub fn process_cpu_time(pid: u32) -> Option<Duration> {
    let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(pid as i32)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_do_what_their_callers_count_on() {
        assert_eq!(allocate_like(7), 7);
        assert_eq!((bare_like(7), release_like(7), stepped_release_like(7)), (0, 0, 0));
    }

    #[test]
    fn cpu_time_is_told_of_processes_that_are_there() {
        let own = process_cpu_time(std::process::id()).expect("this process is there");
        assert!(own >= thread_cpu_time());
        // Above the largest number that the kernel gives.
        assert_eq!(process_cpu_time((1 << 22) + 1), None);
    }
}
