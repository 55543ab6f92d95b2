//! The kinds of resources, from the ground up: bring-up walks the list forwards, tear-down backwards.

pub mod address;
pub mod attachment;
pub mod balancer;
pub mod bgp_instance;
pub mod bgp_path;
pub mod bgp_peer;
pub mod bgp_route;
pub mod capture;
pub mod decap;
pub mod egress;
pub mod link;
pub mod masquerade;
pub mod metrics;
pub mod neighbour;
pub mod notrack;
pub mod overlay;
pub mod route;
pub mod rule;
pub mod service;
pub mod strict;
pub mod vip;
pub mod wireguard_device;
pub mod wireguard_peer;
pub mod wireguard_route;

use crate::balancer::Balancer;
use crate::facts::Facts;
use crate::metrics::Page;
use crate::speaker;
use crate::target::{KindEntry, Target};
use crate::wireguard;
use capture::Recording;
use netd_core::KindName;
use netd_schema::{Config, Node};
use std::path::PathBuf;
use std::sync::Arc;

/// What the kinds need to know of the instance.
#[derive(Clone)]
pub struct Context {
    /// Where maps and links are pinned, on a bpf file system.
    pub bpf_dir: PathBuf,
    /// The program and maps of the load balancer, which lie there.
    pub balancer: Arc<Balancer>,
    /// What a listener of a daemon serves; commands have none.
    pub page: Option<Arc<Page>>,
    /// By which the node speaks BGP.
    pub speaker: speaker::Shared,
    /// Who records packets.
    pub recording: Recording,
    /// By which packets between nodes are encrypted.
    pub wireguard: wireguard::Shared,
}

/// The kinds whose resources are programs that are pinned.
pub const PINNED: &[KindName] =
    &[attachment::NAME, decap::NAME, masquerade::NAME, overlay::NAME, strict::NAME];

/// Every kind, in bring-up order.
#[must_use]
pub fn all(context: &Context) -> Vec<KindEntry> {
    let balancer = Arc::clone(&context.balancer);
    let mut kinds = vec![
        // Before whatever leads packets anywhere, and gone after it.
        KindEntry {
            name: strict::NAME,
            guarded: false,
            carries_traffic: false,
            desired: strict::desired,
            again: None,
            target: Box::new(strict::StrictTarget::new(&context.bpf_dir)),
        },
        KindEntry {
            name: link::NAME,
            guarded: false,
            carries_traffic: true,
            desired: link::desired,
            again: None,
            target: Box::new(link::LinkTarget),
        },
        KindEntry {
            name: overlay::NAME,
            guarded: false,
            carries_traffic: true,
            desired: overlay::desired,
            again: None,
            target: Box::new(overlay::OverlayTarget::new(&context.bpf_dir)),
        },
        KindEntry {
            name: neighbour::NAME,
            guarded: false,
            carries_traffic: true,
            desired: neighbour::desired,
            again: Some(neighbour::again),
            target: Box::new(neighbour::NeighbourTarget::default()),
        },
        // First what refuses, then what leads there, and only then what takes it.
        KindEntry {
            name: wireguard_route::NAME,
            guarded: false,
            carries_traffic: true,
            desired: wireguard_route::desired,
            again: None,
            target: Box::new(route::RouteTarget::encrypted()),
        },
        KindEntry {
            name: rule::NAME,
            guarded: false,
            carries_traffic: true,
            desired: rule::desired,
            again: None,
            target: Box::new(rule::RuleTarget::default()),
        },
        KindEntry {
            name: wireguard_device::NAME,
            guarded: false,
            carries_traffic: true,
            desired: wireguard_device::desired,
            again: None,
            target: Box::new(wireguard_device::DeviceTarget::new(Arc::clone(&context.wireguard))),
        },
        KindEntry {
            name: wireguard_peer::NAME,
            guarded: true,
            carries_traffic: true,
            desired: wireguard_peer::desired,
            again: None,
            target: Box::new(wireguard_peer::PeerTarget::new(Arc::clone(&context.wireguard))),
        },
        // After what refuses in clear what is to be encrypted: else it would be led there for a moment.
        KindEntry {
            name: route::NAME,
            guarded: true,
            carries_traffic: true,
            desired: route::desired,
            again: None,
            target: Box::new(route::RouteTarget::default()),
        },
        KindEntry {
            name: notrack::NAME,
            guarded: false,
            carries_traffic: false,
            desired: notrack::desired,
            again: None,
            target: Box::new(notrack::NotrackTarget::default()),
        },
        KindEntry {
            name: masquerade::NAME,
            guarded: false,
            carries_traffic: true,
            desired: masquerade::desired,
            again: None,
            target: Box::new(masquerade::MasqueradeTarget::new(&context.bpf_dir)),
        },
        KindEntry {
            name: egress::NAME,
            guarded: true,
            carries_traffic: true,
            desired: egress::desired,
            again: None,
            target: Box::new(egress::EgressTarget::new(&context.bpf_dir)),
        },
        KindEntry {
            name: address::NAME,
            guarded: false,
            carries_traffic: true,
            desired: address::desired,
            again: None,
            target: Box::new(address::AddressTarget::new(&context.bpf_dir)),
        },
        KindEntry {
            name: decap::NAME,
            guarded: false,
            carries_traffic: true,
            desired: decap::desired,
            again: None,
            target: Box::new(decap::DecapTarget::new(&context.bpf_dir)),
        },
        KindEntry {
            name: balancer::NAME,
            guarded: false,
            carries_traffic: true,
            desired: balancer::desired,
            again: None,
            target: Box::new(balancer::BalancerTarget::new(Arc::clone(&balancer))),
        },
        KindEntry {
            name: service::NAME,
            guarded: true,
            carries_traffic: true,
            desired: service::desired,
            again: Some(service::again),
            target: Box::new(service::ServiceTarget::new(Arc::clone(&balancer))),
        },
        KindEntry {
            name: vip::NAME,
            guarded: false,
            carries_traffic: true,
            desired: vip::desired,
            again: Some(vip::again),
            target: Box::new(vip::VipTarget::new(Arc::clone(&balancer))),
        },
        KindEntry {
            name: attachment::NAME,
            guarded: false,
            carries_traffic: true,
            desired: attachment::desired,
            again: None,
            target: Box::new(attachment::AttachmentTarget::new(balancer)),
        },
    ];
    kinds.extend(announcing(&context.speaker));
    kinds.extend(context.page.clone().map(|page| KindEntry {
        name: metrics::NAME,
        guarded: false,
        carries_traffic: false,
        desired: metrics::desired,
        again: None,
        target: Box::new(metrics::MetricsTarget::new(page)),
    }));
    kinds.push(KindEntry {
        name: capture::NAME,
        guarded: false,
        carries_traffic: false,
        desired: match &context.recording {
            Recording::Here(_) | Recording::Elsewhere(_) => capture::desired,
            Recording::Nowhere(_) => capture::desired_without_daemon,
        },
        again: None,
        target: Box::new(capture::CaptureTarget::new(context.recording.clone())),
    });
    kinds
}

/// This node in the file; `None` in a file without nodes.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn this_node<'c>(config: &'c Config, facts: &Facts) -> Result<Option<&'c Node>, String> {
    match config.node(&facts.node) {
        Some(node) => Ok(Some(node)),
        None if config.nodes.is_empty() => Ok(None),
        None => Err(format!(
            "this node is called {:?}, which [[nodes]] does not list; its name can be given with --node",
            facts.node
        )),
    }
}

/// What tells the network of this node: after the datapath, and gone before it. The paths come before the peers, so that a
/// session that opens anew begins with all of them: a peer that kept the routes meanwhile would drop what is missing.
fn announcing(speaker: &speaker::Shared) -> Vec<KindEntry> {
    let entry = |name, guarded, desired, target| KindEntry {
        name,
        guarded,
        carries_traffic: false,
        desired,
        again: None,
        target,
    };
    let instance: Box<dyn Target> = Box::new(bgp_instance::InstanceTarget::new(Arc::clone(speaker)));
    let path = Box::new(bgp_path::PathTarget::new(Arc::clone(speaker)));
    let peer = Box::new(bgp_peer::PeerTarget::new(Arc::clone(speaker)));
    vec![
        entry(bgp_instance::NAME, false, bgp_instance::desired, instance),
        entry(bgp_path::NAME, true, bgp_path::desired, path),
        entry(bgp_peer::NAME, true, bgp_peer::desired, peer),
        // Not listed by anybody in the file: how many there are is the peers' to say.
        entry(bgp_route::NAME, false, bgp_route::desired, Box::new(route::RouteTarget::received())),
    ]
}
