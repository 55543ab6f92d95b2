//! WireGuard: keys that are each one node's, and nodes that can be reached.

use super::Once;
use super::prefixes::holds;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::WireguardMode;
use crate::raw::{Node, Top, Wireguard, each};
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
