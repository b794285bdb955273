//! Where exactly to probe a function, and the links that do it.
//!
//! In: [`crate::allocators::Hook`]s of a module. Out: a plan (pure), and links that detach when dropped.

pub mod attach;
pub mod exits;
pub mod features;
pub mod flow;
pub mod mapping_calls;
pub mod module_code;
pub mod object;
pub mod placement;
pub mod plan;
pub mod verify;
