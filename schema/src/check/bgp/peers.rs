//! Peers: each once per node, none of them the node itself, and nothing that contradicts itself.

use super::families;
use crate::check::Once;
use crate::check::reference::Reference;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::Family;
use crate::raw::{Bgp, BgpPeer, Top, each, shown};
use crate::span::{At, Span};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

pub(super) fn check(bgp: &Bgp, top: &Top, diagnoses: &mut Diagnoses) {
    let mut earlier: Vec<&At<BgpPeer>> = Vec::new();
    for at in each(&bgp.peers) {
        twice(at, &earlier, diagnoses);
        earlier.push(at);
        let peer = &at.value;
        itself(peer, top, diagnoses);
        nodes(peer, top, diagnoses);
        timers(peer, diagnoses);
        distance(peer, bgp, diagnoses);
        own_families(peer, diagnoses);
        if let (Some(passive), None) = (peer.passive.filter(|at| at.value), bgp.listen_port) {
            diagnoses.push(|| {
                Draft::error("a passive peer needs `bgp.listen_port`")
                    .label(passive.span, "the peer is to open the session")
                    .label(at.span, "and nothing listens for it")
                    .help("write `listen_port = 179` in `[bgp]`")
            });
        }
    }
}

/// Whether there may be a node that has both.
fn meet(one: &BgpPeer, other: &BgpPeer) -> bool {
    if one.nodes.is_none() || other.nodes.is_none() {
        return true;
    }
    each(&one.nodes).any(|name| each(&other.nodes).any(|own| own.value == name.value))
}

/// What a peer is called: its name, else its address.
fn name(peer: &BgpPeer) -> Option<(String, Span)> {
    match (&peer.name, peer.address) {
        (Some(name), _) => Some((name.value.0.clone(), name.span)),
        (None, Some(address)) => Some((address.value.0.to_string(), address.span)),
        (None, None) => None,
    }
}

fn twice(at: &At<BgpPeer>, earlier: &[&At<BgpPeer>], diagnoses: &mut Diagnoses) {
    let peer = &at.value;
    let others = || earlier.iter().map(|other| &other.value).filter(|other| meet(peer, other));
    if let Some(address) = peer.address {
        let same = others().filter_map(|other| other.address).find(|other| other.value == address.value);
        if let Some(first) = same {
            diagnoses.push(|| {
                Draft::error(format!("the peer {} is given twice", address.value.0))
                    .label(address.span, "here again")
                    .label(first.span, "first here")
                    .help("a node has one session with an address; `nodes` says which node has which")
            });
            return;
        }
    }
    let Some((own, span)) = name(peer) else { return };
    if let Some((_, first)) = others().filter_map(name).find(|(other, _)| *other == own) {
        diagnoses.push(|| {
            Draft::error(format!("two peers are called `{own}`"))
                .label(span, "here again")
                .label(first, "first here")
        });
    }
}

/// With one file for all nodes, a node must not be told to speak with itself.
fn itself(peer: &BgpPeer, top: &Top, diagnoses: &mut Diagnoses) {
    let Some(address) = peer.address else { return };
    for node in each(&top.nodes).map(|at| &at.value) {
        let Some(node_name) = &node.name else { continue };
        let Some(own) = each(&node.addresses).find(|own| own.value == address.value) else { continue };
        let listed = each(&peer.nodes).find(|listed| listed.value == node_name.value);
        if peer.nodes.is_some() && listed.is_none() {
            continue;
        }
        diagnoses.push(|| {
            let node_name = &node_name.value.0;
            let draft =
                Draft::error(format!("the peer {} is the node `{node_name}` itself", address.value.0))
                    .label(address.span, if listed.is_some() { "the peer" } else { "a peer of every node" })
                    .label(own.span, "an address of this node");
            match listed {
                Some(listed) => draft.label(listed.span, "has itself as a peer"),
                None => draft.help("name the other nodes in `bgp.peers.nodes`"),
            }
        });
    }
}

fn nodes(peer: &BgpPeer, top: &Top, diagnoses: &mut Diagnoses) {
    let mut own = Once::new();
    let is_whole = top.nodes.as_ref().is_none_or(|nodes| nodes.value.complete)
        && each(&top.nodes).all(|node| node.value.name.is_some());
    let names: Vec<&str> = each(&top.nodes)
        .filter_map(|node| node.value.name.as_ref())
        .map(|name| name.value.0.as_str())
        .collect();
    for node in each(&peer.nodes) {
        let (name, span) = (node.value.0.as_str(), node.span);
        if !own.claim(&node.value, span, diagnoses, || format!("the node `{name}` is given twice")) {
            continue;
        }
        if is_whole && !names.contains(&name) {
            Reference { what: "node", header: "[[nodes]]", name, span }
                .unknown(names.iter().copied(), diagnoses);
        }
    }
}

/// Keepalives come before the session is given up.
fn timers(peer: &BgpPeer, diagnoses: &mut Diagnoses) {
    let Some(keepalive) = peer.keepalive else { return };
    let hold = peer.hold.map_or(crate::model::BgpPeer::default().hold, |at| at.value.0);
    if hold == Duration::ZERO {
        diagnoses.push(|| {
            let draft = Draft::error("`hold = \"0s\"` turns keepalives off")
                .label(keepalive.span, "asks for keepalives");
            match peer.hold {
                Some(hold) => draft.label(hold.span, "the session never expires"),
                None => draft,
            }
        });
        return;
    }
    if keepalive.value.0 < hold {
        return;
    }
    diagnoses.push(|| {
        let (own, most) = (shown(keepalive.value.0), shown(hold));
        let draft = Draft::error(format!("the `keepalive` {own} is not shorter than the `hold` {most}"))
            .label(keepalive.span, "the session would break before it comes");
        match peer.hold {
            Some(hold) => draft.label(hold.span, "after so long without a message"),
            None => draft.help(format!("`hold` is {most} if it is not given")),
        }
    });
}

/// How far away it may be.
fn distance(peer: &BgpPeer, bgp: &Bgp, diagnoses: &mut Diagnoses) {
    let Some(multihop) = peer.multihop_ttl else { return };
    if let Some(security) = peer.ttl_security.filter(|at| at.value) {
        diagnoses.push(|| {
            Draft::error("`ttl_security` and `multihop_ttl` contradict each other")
                .label(security.span, "the peer is one hop away")
                .label(multihop.span, "the peer is further away")
        });
    }
    if let Some(bfd) = &peer.bfd {
        diagnoses.push(|| {
            Draft::error("`bfd` and `multihop_ttl` contradict each other")
                .label(bfd.span, "works on one link only")
                .label(multihop.span, "the peer is not on a link of the node")
        });
    }
    let (Some(own), Some(asn)) = (bgp.asn, peer.asn) else { return };
    if own.value == asn.value {
        diagnoses.push(|| {
            Draft::warning("`multihop_ttl` has no meaning for an iBGP peer")
                .label(multihop.span, "iBGP peers may be any number of hops away")
                .label(asn.span, "the own ASN")
        });
    }
}

/// The families that are exchanged, and those of the session's addresses.
fn own_families(peer: &BgpPeer, diagnoses: &mut Diagnoses) {
    let mut given: BTreeMap<Family, Span> = BTreeMap::new();
    for family in each(&peer.families) {
        if let Some(first) = given.insert(family.value, family.span) {
            let name = family.value.name();
            diagnoses.push(|| {
                Draft::error(format!("the family `{name}` is given twice"))
                    .label(family.span, "here again")
                    .label(first, "first here")
            });
        }
    }
    let Some(address) = peer.address else { return };
    if let Some(source) = peer.source {
        one_family(source.value.0, source.span, address.value.0, address.span, diagnoses);
    }
    let Some(extended) = peer.extended_next_hop.filter(|at| at.value) else { return };
    if address.value.0.is_ipv4() {
        diagnoses.push(|| {
            Draft::error("an IPv4 session has no IPv6 next hop")
                .label(extended.span, "asks for IPv6 next hops")
                .label(address.span, "an IPv4 address")
                .help("give the peer's IPv6 address, or leave `extended_next_hop` out")
        });
    } else if !families(peer).contains(&Family::Ipv4)
        && let Some(written) = &peer.families
    {
        diagnoses.push(|| {
            Draft::error("`extended_next_hop` is for IPv4 prefixes, and the peer gets none")
                .label(extended.span, "gives IPv4 prefixes an IPv6 next hop")
                .label(written.span, "no `\"ipv4\"` here")
        });
    }
}

fn one_family(source: IpAddr, at: Span, address: IpAddr, of: Span, diagnoses: &mut Diagnoses) {
    let (own, other) = (Family::of(source).word(), Family::of(address).word());
    if source == address {
        diagnoses.push(|| {
            Draft::error(format!("the peer {address} is this node itself"))
                .label(at, "the own address of the session")
                .label(of, "the peer's address")
        });
    } else if own != other {
        diagnoses.push(|| {
            Draft::error("a session has addresses of one family")
                .label(at, format!("an {own} address"))
                .label(of, format!("an {other} address"))
        });
    }
}
