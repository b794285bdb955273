//! A profile in pprof's format, the rules of its readers, and `go tool pprof`.
//!
//! | module | what it is |
//! |---|---|
//! | [`proto`] | the format's messages, declared here again: the product's own cannot hide its mistakes |
//! | [`rules`] | what Parca and Pyroscope refuse, from their sources |
//! | [`tool`] | `go tool pprof` of a release of Go |

pub mod proto;
pub mod rules;
pub mod tool;
