//! The contract between the kernel programs and the collector, and the algorithms both sides run.
//!
//! Nothing here touches the kernel or an allocator: everything is plain data with a fixed layout, or a pure function
//! that is tested on the host.
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

pub mod counter;
pub mod event;
pub mod exit;
pub mod function;
pub mod golang;
pub mod limits;
pub mod live;
pub mod mapping;
pub mod process;
pub mod sampling;
pub mod stack;
pub mod target;
pub mod unwind;
pub mod usdt;
