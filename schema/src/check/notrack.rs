//! Connection tracking: pods' packets only, and only where nothing of netd's would need it.

use super::network::is_direct;
use super::prefixes::{Ranges, holds};
use crate::diagnostic::{Diagnoses, Draft};
use crate::raw::{Notrack, Top, each};
use crate::span::At;

pub(super) fn check(notrack: &At<Notrack>, top: &Top, diagnoses: &mut Diagnoses) {
    let (place, notrack) = (notrack.span, &notrack.value);
    let own = each(&notrack.cidrs).map(|at| (at.value.0, at.span)).collect();
    Ranges::new(own).refuse_overlaps("prefix", diagnoses);
    pods_only(notrack, top, diagnoses);
    let has_pods = each(&top.nodes).any(|node| node.value.pod_cidrs.is_some());
    if notrack.cidrs.is_none() && !has_pods {
        diagnoses.push(|| {
            Draft::error("nobody's packets are left out of connection tracking")
                .label(place, "there is no `cidrs` here, and no node has `pod_cidrs`")
                .help("add `cidrs` with the prefixes of the pods")
        });
    }
    if let Some(network) = &top.network
        && !is_direct(&network.value)
    {
        let mode = network.value.mode.map_or(network.span, |at| at.span);
        diagnoses.push(|| {
            Draft::error("`[notrack]` needs `network.mode = \"direct\"`")
                .label(place, "asks for packets of pods that are not tracked")
                .label(mode, "packets travel in a tunnel")
                .help("remove `[notrack]`, or route directly")
        });
    }
}

/// The node's own sockets are protected by firewalls that ask for the state of connections.
fn pods_only(notrack: &Notrack, top: &Top, diagnoses: &mut Diagnoses) {
    let nodes: Vec<_> = each(&top.nodes).flat_map(|node| each(&node.value.addresses)).collect();
    for cidr in each(&notrack.cidrs) {
        let network = cidr.value.0;
        if network.prefix() == 0 {
            diagnoses.push(|| {
                Draft::error(format!("`notrack.cidrs` cannot have {network}"))
                    .label(cidr.span, "the node's own packets would be among them")
            });
        } else if let Some(address) = nodes.iter().find(|address| holds(network, address.value.0)) {
            diagnoses.push(|| {
                Draft::error(format!("{} is a node, and its packets would not be tracked", address.value.0))
                    .label(cidr.span, "packets from and to here are pods'")
                    .label(address.span, "in that prefix")
            });
        }
    }
}
