//! Network namespaces, from the crate that tests of other crates stand on, too.

pub use netd_lab::{Lab, Namespace};
