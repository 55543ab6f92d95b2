//! The kinds of resources, from the ground up: bring-up walks the list forwards, tear-down backwards.

pub mod attachment;
pub mod service;

use crate::balancer::Balancer;
use crate::target::KindEntry;
use std::path::PathBuf;
use std::sync::Arc;

/// What the kinds need to know of the instance.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where maps and links are pinned, on a bpf file system.
    pub bpf_dir: PathBuf,
}

/// Every kind, in bring-up order.
#[must_use]
pub fn all(context: &Context) -> Vec<KindEntry> {
    let _balancer = Arc::new(Balancer::new(context.bpf_dir.clone()));
    Vec::new()
}
