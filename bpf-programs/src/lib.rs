//! The kernel programs of the load balancer, embedded, and the thin access to their maps and links.
//!
//! [`abi`] is what both sides share. [`Maps`] is what the service logic reads and writes; [`FakeMaps`] is the same in
//! memory. Everything unsafe of netd is in this crate, behind safe functions.

pub mod abi;
mod error;
mod fake;
mod maps;

pub use error::{Error, Result};
pub use fake::{FakeMaps, Operation};
pub use maps::{Capacity, Maps};
