//! BGP: a gobgpd that can be reached, peers that can be had, and rules that speak of something.

mod announcements;
mod gobgpd;
mod peers;

use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{Announced, Family};
use crate::raw::{Bgp, BgpPeer, Top, each};
use crate::span::{At, Span};
use std::collections::BTreeMap;

pub(super) fn check(at: &At<Bgp>, top: &Top, diagnoses: &mut Diagnoses) {
    let bgp = &at.value;
    gobgpd::check(bgp, diagnoses);
    one_router_id(bgp, top, diagnoses);
    peers::check(bgp, top, diagnoses);
    announcements::check(bgp, top, diagnoses);
    if bgp.peers.as_ref().is_none_or(|peers| peers.value.complete && peers.value.items.is_empty()) {
        diagnoses.push(|| {
            Draft::warning("nothing is announced: there is no BGP peer")
                .label(at.span, "no `[[bgp.peers]]` here")
        });
        return;
    }
    families_without_peers(bgp, top, diagnoses);
}

/// The families of a peer, as far as they could be read: those written, else those of its address.
fn families(peer: &BgpPeer) -> Vec<Family> {
    if peer.families.is_some() {
        return each(&peer.families).map(|family| family.value).collect();
    }
    if peer.extended_next_hop.is_some_and(|at| at.value) {
        return vec![Family::Ipv4, Family::Ipv6];
    }
    peer.address.iter().map(|address| Family::of(address.value.0)).collect()
}

/// Two routers with one identifier do not speak with each other, and others take them for one.
fn one_router_id(bgp: &Bgp, top: &Top, diagnoses: &mut Diagnoses) {
    let Some(id) = bgp.router_id else { return };
    let mut nodes = each(&top.nodes).filter_map(|node| node.value.name.as_ref());
    let (Some(_), Some(second)) = (nodes.next(), nodes.next()) else { return };
    diagnoses.push(|| {
        Draft::warning(format!("every node has the router identifier {}", id.value.0))
            .label(id.span, "given to all nodes of the file")
            .label(second.span, "there is more than one node")
            .help("leave it out: each node then has one of its own")
    });
}

/// VIPs of a family that no peer takes.
fn families_without_peers(bgp: &Bgp, top: &Top, diagnoses: &mut Diagnoses) {
    let is_announced = bgp
        .announce
        .as_ref()
        .is_none_or(|list| list.value.items.iter().any(|class| class.value == Announced::Vips));
    let Some(peers) = bgp.peers.as_ref().filter(|peers| is_announced && peers.value.complete) else { return };
    let taken: Vec<Family> = each(&bgp.peers).flat_map(|peer| families(&peer.value)).collect();
    let mut first: BTreeMap<Family, Span> = BTreeMap::new();
    for vip in each(&top.services).flat_map(|service| each(&service.value.vips)) {
        first.entry(Family::of(vip.value.0)).or_insert(vip.span);
    }
    for (family, span) in first {
        if taken.contains(&family) {
            continue;
        }
        let (name, called) = (family.name(), family.word());
        diagnoses.push(|| {
            Draft::warning(format!("no peer is told of the {called} VIPs"))
                .label(span, format!("an {called} VIP"))
                .label(peers.span, format!("none of the peers has the family `{name}`"))
        });
    }
}
