//! What the tests against the real kernel stand on: network namespaces that they make and remove themselves.
//!
//! A test begins with `let Some(lab) = Lab::new() else { return };`, which prints why when it cannot run.

mod lab;

pub use lab::{Lab, Namespace};
