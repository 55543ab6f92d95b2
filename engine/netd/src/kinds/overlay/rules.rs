//! Decides what the programs go by: who is believed, where packets for other nodes' pods go, which pods are here.

use super::{Role, is_of_pods};
use crate::facts::{Facts, RouteAction};
use crate::kinds::rule;
use crate::reach::{Leg, Reach};
use crate::wireguard::Mesh;
use ipnetwork::IpNetwork;
use netd_bpf::overlay::{self, Way};
use netd_core::FieldChange;
use netd_schema::{Config, Family, Mtu, WireguardMode};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the programs go by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// The virtual network; 0 without a tunnel.
    pub vni: u32,
    /// The largest packet of a pod that is sent on past the stack, in bytes; `None`: what the device takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The ends of the other nodes.
    pub peers: BTreeSet<IpAddr>,
    /// The ways to the pods of other nodes, for packets that come from pods.
    #[serde(serialize_with = "as_texts")]
    pub ways: BTreeMap<IpNetwork, Way>,
    /// The pods of this node, and the interface index of the device that leads to each.
    pub pods: BTreeMap<IpAddr, u32>,
}

impl Rules {
    /// What the file asks for on this node.
    pub(super) fn wanted(config: &Config, facts: &Facts, reach: &Reach<'_>) -> Self {
        let ways = ways(config, facts, reach);
        let mtu = match config.network.mtu {
            Mtu::Fixed(mtu) if !ways.is_empty() => Some(mtu),
            Mtu::Fixed(_) | Mtu::Auto => None,
        };
        let Some(tunnel) = config.network.tunnel else { return Self { ways, mtu, ..Self::default() } };
        Self {
            vni: tunnel.vni,
            mtu,
            peers: reach.others().filter_map(|node| reach.ends(node).ok()).map(|(_, end)| end).collect(),
            ways,
            pods: pods(config, facts),
        }
    }

    /// What the programs are found to go by.
    pub(super) fn held(rules: overlay::Rules) -> Self {
        let overlay::Rules { vni, mtu, peers, ways, pods } = rules;
        let network = |((address, bits), way)| Some((IpNetwork::new(address, bits).ok()?, way));
        Self { vni, mtu, peers, ways: ways.into_iter().filter_map(network).collect(), pods }
    }

    pub(super) fn for_program(&self) -> overlay::Rules {
        let Self { vni, mtu, peers, ways, pods } = self.clone();
        let prefix = |(network, way): (IpNetwork, Way)| ((network.network(), network.prefix()), way);
        overlay::Rules { vni, mtu, peers, ways: ways.into_iter().map(prefix).collect(), pods }
    }

    pub(super) fn summary(&self, role: Role) -> String {
        let Self { vni, mtu: _, peers, ways, pods } = self;
        match role {
            Role::Receive => {
                format!("of {} nodes with VNI {vni}, {} pods past the stack", peers.len(), pods.len())
            }
            Role::Send => format!("to {} prefixes of other nodes past the stack", ways.len()),
        }
    }

    /// What of these a program of this role goes by, and is otherwise.
    pub(super) fn changes(&self, role: Role, observed: &Self) -> Vec<FieldChange> {
        let mut changes: Vec<FieldChange> =
            FieldChange::between("VNI", observed.vni, self.vni).into_iter().collect();
        match role {
            Role::Receive => {
                let (gone, new) =
                    (observed.peers.difference(&self.peers), self.peers.difference(&observed.peers));
                changes.extend(gone.map(|gone| FieldChange::removed("peer", gone)));
                changes.extend(new.map(|new| FieldChange::added("peer", new)));
                let device = |index: &u32| format!("interface {index}");
                changes.extend(differing("pod", &observed.pods, &self.pods, device));
            }
            Role::Send => {
                let word =
                    |mtu: Option<u32>| mtu.map_or("what the device takes".to_owned(), |mtu| mtu.to_string());
                changes.extend(FieldChange::between("largest packet", word(observed.mtu), word(self.mtu)));
                changes.extend(differing("way", &observed.ways, &self.ways, |way| text(*way)));
            }
        }
        changes
    }
}

/// What differs between two tables, each entry as a field of its own.
fn differing<K: Ord + std::fmt::Display, V: PartialEq>(
    what: &str,
    before: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
    text: impl Fn(&V) -> String,
) -> Vec<FieldChange> {
    let keys: BTreeSet<&K> = before.keys().chain(now.keys()).collect();
    let change = |key: &K| {
        let field = format!("{what} {key}");
        match (before.get(key), now.get(key)) {
            (Some(from), Some(to)) if from != to => Some(FieldChange::changed(field, text(from), text(to))),
            (Some(from), None) => Some(FieldChange::removed(field, text(from))),
            (None, Some(to)) => Some(FieldChange::added(field, text(to))),
            (Some(_), Some(_)) | (None, None) => None,
        }
    };
    keys.into_iter().filter_map(change).collect()
}

fn text(way: Way) -> String {
    match way {
        Way::Tunnel { local: Some(local), remote, ifindex } => {
            format!("in the tunnel from {local} to {remote} by interface {ifindex}")
        }
        Way::Tunnel { local: None, remote, ifindex } => {
            format!("in the tunnel to {remote} by interface {ifindex}")
        }
        Way::Direct { via, ifindex } => format!("via {via} by interface {ifindex}"),
    }
}

/// None where nothing comes from pods past the stack. What is encrypted is the stack's: its rules lead there.
fn ways(config: &Config, facts: &Facts, reach: &Reach<'_>) -> BTreeMap<IpNetwork, Way> {
    if config.network.pod_devices.is_empty() {
        return BTreeMap::new();
    }
    let mesh = Mesh::of(config, facts).ok().flatten();
    let encrypted: BTreeSet<IpNetwork> =
        mesh.iter().flat_map(|mesh| mesh.others.iter().flat_map(|other| mesh.prefixes(other))).collect();
    let way = |leg| match leg {
        Leg::Direct { via, link } => Way::Direct { via, ifindex: link.index },
        Leg::Tunnel { ends, link } => {
            Way::Tunnel { local: ends.local, remote: ends.remote, ifindex: link.index }
        }
    };
    let still_in_clear = mesh.as_ref().map(|mesh| still_in_clear(mesh, config, facts)).unwrap_or_default();
    let is_safe = |leg: &Leg<'_>| match leg {
        Leg::Tunnel { ends, .. } => !still_in_clear.contains(&ends.remote),
        Leg::Direct { .. } => true,
    };
    let of_node = |node: &netd_schema::Node| {
        let by_program = node.pod_cidrs.iter().filter(|prefix| !encrypted.contains(prefix));
        let legs = by_program.filter_map(|prefix| Some((*prefix, reach.leg(node, *prefix).ok()?)));
        legs.filter(|(_, leg)| is_safe(leg)).map(|(prefix, leg)| (prefix, way(leg))).collect::<Vec<_>>()
    };
    reach.others().flat_map(of_node).collect()
}

/// The ends of a tunnel that is to be inside of WireGuard, and to which its packets would go past that: without the rule
/// that asks for them, or the routes that it asks. The ways of programs come when both are there, one look later.
fn still_in_clear(mesh: &Mesh<'_>, config: &Config, facts: &Facts) -> BTreeSet<IpAddr> {
    if mesh.settings.mode != WireguardMode::Overlay {
        return BTreeSet::new();
    }
    let led = facts.routes_elsewhere.iter().filter(|route| route.table == mesh.settings.table);
    let led: BTreeSet<IpNetwork> = led.map(|route| route.destination).collect();
    let [v4, v6] = [Family::Ipv4, Family::Ipv6].map(|family| rule::leads_tunnel(mesh, config, facts, family));
    let has_rule = |end: &IpAddr| if end.is_ipv4() { v4 } else { v6 };
    let ends = mesh.others.iter().flat_map(|other| other.node.addresses.iter().copied());
    ends.filter(|end| !has_rule(end) || !led.contains(&IpNetwork::from(*end))).collect()
}

/// Addresses that the node has a route to by the device of one pod, if that is a veth: only there can a packet be handed
/// to the other end.
fn pods(config: &Config, facts: &Facts) -> BTreeMap<IpAddr, u32> {
    let mut pods = BTreeMap::new();
    for route in &facts.routes {
        let whole = if route.destination.is_ipv4() { 32 } else { 128 };
        let RouteAction::Forward(hops) = &route.action else { continue };
        let [hop] = hops.as_slice() else { continue };
        let Some(link) = facts.links.get(&hop.link) else { continue };
        let is_pod = route.destination.prefix() == whole && hop.via.is_none() && link.kind == "veth";
        if is_pod && link.up && is_of_pods(config, link) {
            pods.insert(route.destination.ip(), link.index);
        }
    }
    pods
}

fn as_texts<S: serde::Serializer>(ways: &BTreeMap<IpNetwork, Way>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(ways.iter().map(|(prefix, way)| (prefix.to_string(), text(*way))))
}
