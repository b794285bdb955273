//! Keeps a program on the kernel's own stack.
//!
//! From 6.13 on the kernel gives a kprobe program whose functions use 64 bytes of stack or more one stack for each CPU
//! (kernel/bpf/verifier.c, `bpf_enable_priv_stack`). It takes for granted that nobody else runs the program on that CPU
//! meanwhile. That does not hold for probes of user space, which can be preempted: another task then writes over the
//! variables of the first, and the kernel reads wherever they lead. Seen with 7.2 and lazy preemption as a crash of the
//! kernel in the traced process.

use core::arch::asm;

use aya_ebpf::Global;

/// Never set. The verifier knows its value and removes what depends on it, the compiler does not.
#[unsafe(no_mangle)]
static NEVER: Global<u64> = Global::new(0);

/// Declines the private stack: programs that hold a tail call have none. This one is never reached, and the verifier takes
/// it out after it has seen that it is there.
#[inline(always)]
pub fn decline() {
    if NEVER.load() != 0 {
        // SAFETY: not reached; helper 12 is `bpf_tail_call`, and what a call may change is named.
        unsafe {
            asm!("call 12", out("r0") _, out("r1") _, out("r2") _, out("r3") _, out("r4") _, out("r5") _)
        };
    }
}
