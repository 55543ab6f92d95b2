//! The kernel programs of the load balancer, embedded, and the thin access to their maps and links.
//!
//! [`abi`] is what both sides share. [`Maps`] is what the service logic reads and writes; [`FakeMaps`] is the same in
//! memory. Everything unsafe of netd is in this crate, behind safe functions.

pub mod abi;
mod arithmetic;
mod bpffs;
mod datapath;
pub mod decap;
mod entries;
mod error;
mod fake;
mod filters;
mod frontends;
mod generations;
mod grace;
mod kernel;
mod kernel_maps;
pub mod links;
mod loader;
mod maps;
mod mmap;
pub mod nat;
pub mod overlay;
pub mod probe_tunnel;
pub mod recorder;
pub mod strict;
mod sys;
pub mod tc;
#[cfg(test)]
mod trace;

pub use bpffs::mount_bpffs_if_missing;
pub use datapath::{Datapath, Verdict};
pub use error::{Error, Result};
pub use fake::{FakeMaps, Operation};
pub use grace::grace;
pub use kernel::check_kernel;
pub use links::{LinkError, LinkInfo, Mode};
pub use loader::embedded_digest;
pub use maps::{Capacity, Maps};
pub use sys::send_frame;
