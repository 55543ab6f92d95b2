//! The configuration file: text in, a typed and canonical [`Config`] out, or every mistake that it has.
//!
//! This crate does no I/O. It knows nothing of kernels.

mod model;

pub use model::*;
