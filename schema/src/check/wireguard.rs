//! WireGuard: keys that are each one node's, and nodes that can be reached.

use super::Once;
use super::network::tunnel_port;
use super::prefixes::holds;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{WIREGUARD_PORT_DEFAULT, WireguardMode};
use crate::raw::{NetworkModeWord, Node, Top, Wireguard, each};
use crate::span::{At, Span};
use ipnetwork::IpNetwork;

pub(super) fn check(top: &Top, diagnoses: &mut Diagnoses) {
    let (mut keys, mut endpoints) = (Once::new(), Once::new());
    for node in each(&top.nodes).map(|at| &at.value) {
        let Some(wireguard) = &node.wireguard else { continue };
        for key in [wireguard.value.public_key, wireguard.value.next_public_key].into_iter().flatten() {
            keys.claim(key.value, key.span, diagnoses, || "the same public key is given twice".to_owned());
        }
        if let Some(endpoint) = wireguard.value.endpoint {
            let what = || format!("two nodes have the endpoint {}", endpoint.value.0);
            endpoints.claim(endpoint.value, endpoint.span, diagnoses, what);
        }
        unreachable(node, diagnoses);
    }
    if let Some(wireguard) = &top.wireguard {
        nobody_to_talk_to(wireguard, top, diagnoses);
        addresses_among_pods(&wireguard.value, top, diagnoses);
        nothing_to_be_inside_of(&wireguard.value, top, diagnoses);
        second_port(wireguard, top, diagnoses);
    }
}

/// What is not in the tunnel would be in clear.
fn nothing_to_be_inside_of(wireguard: &Wireguard, top: &Top, diagnoses: &mut Diagnoses) {
    let Some(place) = wireguard.mode.filter(|mode| mode.value == WireguardMode::Overlay) else { return };
    let network = top.network.as_ref();
    let mode = network.and_then(|network| network.value.mode);
    let why = match mode.map(|at| at.value) {
        Some(NetworkModeWord::Vxlan | NetworkModeWord::Geneve) => return,
        Some(NetworkModeWord::CrossSubnet) => "sends past the tunnel to nodes that are on link",
        Some(NetworkModeWord::Direct) | None => "sends to the pods of other nodes without a tunnel",
    };
    diagnoses.push(|| {
        let draft = Draft::error("what pods say would be in clear: it is not in a tunnel")
            .label(place.span, "encrypts the packets of the tunnel, and no others");
        let draft = match mode.map(|at| at.span).or(network.map(|network| network.span)) {
            Some(span) => draft.label(span, why),
            None => draft,
        };
        draft.help(
            "`mode = \"vxlan\"` in `[network]` has one; or `wireguard.mode = \"pods\"`, which needs none",
        )
    });
}

/// While keys change, every node listens at the next port, too.
fn second_port(wireguard: &At<Wireguard>, top: &Top, diagnoses: &mut Diagnoses) {
    let next =
        each(&top.nodes).find_map(|node| Some(node.value.wireguard.as_ref()?.value.next_public_key?.span));
    let counted = wireguard.value.generation.filter(|at| at.value.wide() % 2 == 1).map(|at| at.span);
    let Some(reason) = next.or(counted) else { return };
    let (first, place) =
        wireguard.value.port.map_or((WIREGUARD_PORT_DEFAULT, wireguard.span), |at| (at.value.get(), at.span));
    let second = first.checked_add(1);
    if second.is_none() {
        diagnoses.push(|| {
            Draft::error("the second device of WireGuard has no port")
                .label(place, "is the last one; the second device has the next")
                .label(reason, "asks for a second device")
        });
    }
    if let Some((port, tunnel)) = top.network.as_ref().and_then(|network| tunnel_port(&network.value))
        && second == Some(port)
    {
        diagnoses.push(|| {
            Draft::error(format!("two would listen at UDP port {port} of every node"))
                .label(tunnel, "the tunnel")
                .label(reason, "asks for a second device of WireGuard, at the port after the first's")
        });
    }
}

/// A peer needs somewhere to be sent to.
fn unreachable(node: &Node, diagnoses: &mut Diagnoses) {
    let Some(wireguard) = &node.wireguard else { return };
    let (Some(key), None) = (wireguard.value.public_key, wireguard.value.endpoint) else { return };
    if each(&node.addresses).next().is_some()
        || node.addresses.as_ref().is_some_and(|all| !all.value.complete)
    {
        return;
    }
    diagnoses.push(|| {
        Draft::error("the node has a WireGuard key, and nowhere to reach it")
            .label(key.span, "its key")
            .help("give it `addresses`, or `wireguard.endpoint`")
    });
}

fn nobody_to_talk_to(wireguard: &At<Wireguard>, top: &Top, diagnoses: &mut Diagnoses) {
    let has_key = |node: &Node| node.wireguard.as_ref().is_some_and(|it| it.value.public_key.is_some());
    for node in each(&top.nodes) {
        if let Some(name) = &node.value.name
            && !has_key(&node.value)
        {
            diagnoses.push(|| {
                Draft::warning(format!(
                    "nothing to or from node `{}` is encrypted: it has no key",
                    name.value.0
                ))
                .label(name.span, "has no `wireguard.public_key`")
                .help("`netd wireguard pubkey --write`, on that node, puts it here")
            });
        }
    }
    if each(&top.nodes).next().is_none() && top.nodes.as_ref().is_none_or(|nodes| nodes.value.complete) {
        diagnoses.push(|| {
            Draft::warning("nothing is encrypted")
                .label(wireguard.span, "the file lists no nodes in `[[nodes]]`")
        });
    }
}

/// Between nodes, an address belongs to the node that has it: one that another's pods could have belongs to nobody.
fn addresses_among_pods(wireguard: &Wireguard, top: &Top, diagnoses: &mut Diagnoses) {
    if wireguard.mode.is_none_or(|mode| mode.value != WireguardMode::Nodes) {
        return;
    }
    let nodes = || each(&top.nodes).enumerate();
    let mut prefixes: Vec<(IpNetwork, Span, usize)> = nodes()
        .flat_map(|(at, node)| each(&node.value.pod_cidrs).map(move |it| (it.value.0, it.span, at)))
        .collect();
    prefixes.sort();
    for (at, node) in nodes() {
        for address in each(&node.value.addresses) {
            let ip = address.value.0;
            // Prefixes are apart, so only the last that begins before the address can hold it.
            let after = prefixes.partition_point(|(prefix, _, _)| prefix.network() <= ip);
            let Some((prefix, span, owner)) = after.checked_sub(1).and_then(|last| prefixes.get(last)) else {
                continue;
            };
            if *owner != at && holds(*prefix, ip) {
                diagnoses.push(|| {
                    Draft::error(format!("packets to {ip} would be for two nodes"))
                        .label(address.span, "an address of this node")
                        .label(*span, "and of the pods of that one")
                });
            }
        }
    }
}
