//! The pipeline put together: processes in, reports out, until time is up, the target ends, or the user has enough.

pub mod calibration;
pub mod following;
pub mod golang;
pub mod golang_exact;
mod governing;
pub mod hooks;
pub mod kernel;
mod naming;
pub mod options;
pub mod places;
pub mod planning;
pub mod process;
pub mod progress;
mod reporting;
pub mod session;
pub mod spending;
pub mod stacks;
pub mod start;
pub mod summary;
pub mod unwinding;
