//! Kernel programs of outlive. Entries are thin; each subject has its file, and each early return that loses something
//! is a counted cause.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod allocate;
mod call;
mod code;
mod counters;
mod emit;
mod golang;
mod golang_exact;
mod mappings;
mod maps;
mod private_stack;
mod process;
mod process_row;
mod release;
mod sample;
mod stack;
mod usdt;

/// The verifier rejects a program that can reach this: nothing here may panic.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
