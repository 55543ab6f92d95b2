//! The kinds of resources, from the ground up: bring-up walks the list forwards, tear-down backwards.

pub mod attachment;
pub mod balancer;
pub mod metrics;
pub mod neighbour;
pub mod route;
pub mod service;
pub mod vip;

use crate::balancer::Balancer;
use crate::metrics::Page;
use crate::target::KindEntry;
use std::path::PathBuf;
use std::sync::Arc;

/// What the kinds need to know of the instance.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where maps and links are pinned, on a bpf file system.
    pub bpf_dir: PathBuf,
    /// What a listener of a daemon serves; commands have none.
    pub page: Option<Arc<Page>>,
}

/// Every kind, in bring-up order.
#[must_use]
pub fn all(context: &Context) -> Vec<KindEntry> {
    let balancer = Arc::new(Balancer::new(context.bpf_dir.clone()));
    let mut kinds = vec![
        KindEntry {
            name: neighbour::NAME,
            guarded: false,
            desired: neighbour::desired,
            target: Box::new(neighbour::NeighbourTarget::default()),
        },
        KindEntry {
            name: route::NAME,
            guarded: true,
            desired: route::desired,
            target: Box::new(route::RouteTarget::default()),
        },
        KindEntry {
            name: balancer::NAME,
            guarded: false,
            desired: balancer::desired,
            target: Box::new(balancer::BalancerTarget::new(Arc::clone(&balancer))),
        },
        KindEntry {
            name: service::NAME,
            guarded: true,
            desired: service::desired,
            target: Box::new(service::ServiceTarget::new(Arc::clone(&balancer))),
        },
        KindEntry {
            name: vip::NAME,
            guarded: false,
            desired: vip::desired,
            target: Box::new(vip::VipTarget::new(Arc::clone(&balancer))),
        },
        KindEntry {
            name: attachment::NAME,
            guarded: false,
            desired: attachment::desired,
            target: Box::new(attachment::AttachmentTarget::new(balancer)),
        },
    ];
    kinds.extend(context.page.clone().map(|page| KindEntry {
        name: metrics::NAME,
        guarded: false,
        desired: metrics::desired,
        target: Box::new(metrics::MetricsTarget::new(page)),
    }));
    kinds
}
