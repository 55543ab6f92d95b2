//! The network between the nodes: one tunnel, nodes that it can reach, a port of its own.

use super::Once;
use crate::diagnostic::{Diagnoses, Draft};
use crate::model::{TunnelKind, Underlay, WIREGUARD_PORT_DEFAULT};
use crate::raw::{Network, NetworkModeWord, Node, Top, each};
use crate::span::{At, Span};

pub(super) fn check(network: &Network, top: &Top, diagnoses: &mut Diagnoses) {
    one_tunnel(network, diagnoses);
    let mut devices = Once::new();
    for device in each(&network.pod_devices) {
        let what = || "the devices towards pods are given twice".to_owned();
        devices.claim(&device.value, device.span, diagnoses, what);
    }
    let Some((kind, place)) = tunnel(network) else {
        return without_a_tunnel(network, diagnoses);
    };
    port_of_its_own(network, kind, place, top, diagnoses);
    if !is_direct(network) {
        ends(network, place, top, diagnoses);
    }
}

/// How packets are sent to pods of another family than the way between their nodes.
pub(super) fn carries_both_families(top: &Top) -> bool {
    top.network.as_ref().is_some_and(|network| !is_direct(&network.value))
}

/// Whether packets travel as they are to all pods.
pub(super) fn is_direct(network: &Network) -> bool {
    mode(network) == NetworkModeWord::Direct
}

fn mode(network: &Network) -> NetworkModeWord {
    network.mode.map_or(NetworkModeWord::Direct, |at| at.value)
}

/// The tunnel that is asked for, and where.
fn tunnel(network: &Network) -> Option<(TunnelKind, Span)> {
    let named = network.tunnel.map(|at| (at.value, at.span));
    let at = network.mode?;
    match at.value {
        NetworkModeWord::Direct => named,
        NetworkModeWord::CrossSubnet => Some(named.unwrap_or((TunnelKind::default(), at.span))),
        NetworkModeWord::Vxlan | NetworkModeWord::Geneve => at.value.tunnel().map(|kind| (kind, at.span)),
    }
    .or(named)
}

fn one_tunnel(network: &Network, diagnoses: &mut Diagnoses) {
    let (Some(mode), Some(tunnel)) = (network.mode, network.tunnel) else { return };
    if let Some(kind) = mode.value.tunnel()
        && kind != tunnel.value
    {
        diagnoses.push(|| {
            Draft::error("there can be one tunnel only")
                .label(mode.span, format!("a tunnel of {}", kind.word()))
                .label(tunnel.span, format!("a tunnel of {}", tunnel.value.word()))
                .help("remove `network.tunnel`, or write the same word")
        });
    }
}

fn without_a_tunnel(network: &Network, diagnoses: &mut Diagnoses) {
    let of_tunnels = [
        network.port.map(|at| ("port", at.span)),
        network.vni.map(|at| ("vni", at.span)),
        network.underlay.map(|at| ("underlay", at.span)),
    ];
    for (key, span) in of_tunnels.into_iter().flatten() {
        diagnoses.push(|| {
            Draft::warning(format!("`network.{key}` says nothing"))
                .label(span, "there is no tunnel")
                .help("`tunnel = \"vxlan\"` keeps one ready; `mode = \"vxlan\"` uses it")
        });
    }
}

/// The UDP port of the tunnel, and where it is asked for.
pub(super) fn tunnel_port(network: &Network) -> Option<(u16, Span)> {
    let (kind, place) = tunnel(network)?;
    Some(network.port.map_or((kind.port_default(), place), |at| (at.value.get(), at.span)))
}

/// Two cannot listen at the same UDP port of the same node.
fn port_of_its_own(network: &Network, kind: TunnelKind, place: Span, top: &Top, diagnoses: &mut Diagnoses) {
    let Some(wireguard) = &top.wireguard else { return };
    let own = network.port.map_or(kind.port_default(), |at| at.value.get());
    let other = wireguard.value.port.map_or(WIREGUARD_PORT_DEFAULT, |at| at.value.get());
    if own == other {
        let (own_place, other_place) = (
            network.port.map_or(place, |at| at.span),
            wireguard.value.port.map_or(wireguard.span, |at| at.span),
        );
        diagnoses.push(|| {
            Draft::error(format!("two would listen at UDP port {own} of every node"))
                .label(own_place, "the tunnel")
                .label(other_place, "WireGuard")
        });
    }
}

/// Every node that sends or has pods needs an address that the tunnel can end at, and every two of them of the same
/// family.
fn ends(network: &Network, place: Span, top: &Top, diagnoses: &mut Diagnoses) {
    let underlay = network.underlay.map_or(Underlay::Auto, |at| at.value);
    let place = network.underlay.map_or(place, |at| at.span);
    let nodes: Vec<&At<Node>> = each(&top.nodes)
        .filter(|node| node.value.addresses.as_ref().is_none_or(|at| at.value.complete))
        .collect();
    let has = |node: &Node, v4: bool| each(&node.addresses).any(|at| at.value.0.is_ipv4() == v4);
    for node in &nodes {
        let lacks = match underlay {
            Underlay::Ipv4 if !has(&node.value, true) => "IPv4 address",
            Underlay::Ipv6 if !has(&node.value, false) => "IPv6 address",
            Underlay::Auto if each(&node.value.addresses).next().is_none() => "address",
            Underlay::Auto | Underlay::Ipv4 | Underlay::Ipv6 => continue,
        };
        diagnoses.push(|| {
            Draft::error(format!("{} has no end for the tunnel", called(&node.value)))
                .label(named(node), format!("has no {lacks}"))
                .label(place, "asks for one of every node")
        });
    }
    if underlay == Underlay::Auto {
        let only = |v4: bool| nodes.iter().find(|node| has(&node.value, v4) && !has(&node.value, !v4));
        if let (Some(v4), Some(v6)) = (only(true), only(false)) {
            diagnoses.push(|| {
                Draft::error("two nodes have no addresses of the same family for the tunnel between them")
                    .label(named(v4), "has only IPv4 addresses")
                    .label(named(v6), "has only IPv6 addresses")
            });
        }
    }
}

fn called(node: &Node) -> String {
    node.name.as_ref().map_or("a node".to_owned(), |name| format!("node `{}`", name.value.0))
}

fn named(node: &At<Node>) -> Span {
    node.value.name.as_ref().map_or(node.span, |name| name.span)
}
