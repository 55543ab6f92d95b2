//! Strict mode of WireGuard: programs on the devices by which packets reach other nodes and the world, which drop what is to
//! be encrypted and is not.
//!
//! Key: the device's name. Mark of ownership: links pinned under netd's own directory. They come first of all and go last,
//! so that no route leads past them, and are before every other program of a device. An update costs no packet: what the
//! programs go by changes entry by entry, and other programs are filled before the links are turned over to them.

mod target;
mod ways;

pub use target::{StrictTarget, counted, told};

use crate::facts::{Facts, Link, PathResolver};
use crate::kinds::attachment::{Program, default_devices, index_word};
use crate::kinds::this_node;
use crate::reach::device_name;
use crate::wireguard::Lane;
use ipnetwork::IpNetwork;
use netd_bpf::decap::Prefix;
use netd_bpf::strict;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, StrictEgress, TunnelKind, Wireguard};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "strict";

/// The key under which the lack of a device is reported.
const NO_DEVICES: &str = "devices";

/// The programs on one device, and what they go by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrictSpec {
    /// The device's name.
    pub device: String,
    /// The device's interface index; 0 for links whose device is gone.
    pub ifindex: u32,
    /// Which programs they are; those of a device that lacks one of them are earlier ones.
    pub program: Program,
    /// The same for all devices.
    pub rules: Arc<Rules>,
}

/// What the programs go by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// Destinations for which nothing leaves in clear.
    #[serde(serialize_with = "as_texts")]
    pub destinations: BTreeSet<IpNetwork>,
    /// Sources from which nothing comes in in clear.
    #[serde(serialize_with = "as_texts")]
    pub sources: BTreeSet<IpNetwork>,
    /// The mark of WireGuard's own packets.
    pub mark: u32,
    /// The nodes' tunnel, whose packets are looked into: its kind and its UDP port.
    pub tunnel: Option<(String, u16)>,
}

/// The devices by which packets may leave for what is to be encrypted.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let Some(wireguard) = &config.wireguard else { return Ok(desired) };
    let rules = Rules::wanted(config, wireguard);
    let me = this_node(config, facts)?;
    if rules.destinations.is_empty() && rules.sources.is_empty() {
        return Ok(desired);
    }
    let rules = Arc::new(rules);
    // A route that comes and goes must not take the programs off a device that packets leave by.
    desired.kept = facts.links.values().map(|link| Key::new(&link.name)).collect();
    let devices = devices(config, wireguard, facts, me, &rules);
    if devices.is_empty() {
        let reason = "no device is known by which packets leave the node: there is neither a way to another node nor a \
                      default route";
        desired.held.insert(Key::new(NO_DEVICES), reason.to_owned());
    }
    for link in devices {
        let key = Key::new(&link.name);
        // The programs read behind an Ethernet header; without one they would find no packet, and let all pass.
        if link.mac.is_none() {
            let name = &link.name;
            desired.held.insert(key, format!("{name} is no Ethernet device: nothing could be read there"));
            continue;
        }
        let (device, program, rules) = (link.name.clone(), Program::Current, Arc::clone(&rules));
        desired.table.insert(key, Arc::new(StrictSpec { device, ifindex: link.index, program, rules }));
    }
    Ok(desired)
}

/// By which packets reach other nodes or leave the network, and whatever else a prefix that is watched may be reached by:
/// the device of each route of the main table that covers one or is part of one, and physical ones, which routes of tables
/// that netd does not know may lead to. Not those towards the node's own pods, those that encrypt, and the tunnel's: what
/// these carry leaves by another one.
fn devices<'f>(
    config: &Config,
    wireguard: &Wireguard,
    facts: &'f Facts,
    me: Option<&netd_schema::Node>,
    rules: &Rules,
) -> Vec<&'f Link> {
    let resolver = PathResolver::new(facts);
    let others = config.nodes.iter().filter(|node| me.is_none_or(|me| me.name != node.name));
    let addresses = others.flat_map(|node| {
        let endpoint = node.wireguard.endpoint.map(|endpoint| endpoint.ip());
        node.addresses.iter().copied().chain(endpoint)
    });
    let towards = addresses.filter_map(|address: IpAddr| Some(resolver.hop(address).ok()?.link.name.clone()));
    let mut names: BTreeSet<String> = towards.chain(default_devices(facts)).collect();
    let leads_to_pods = ways::to_pods(facts, me);
    let more = ways::carrying(facts, rules.destinations.union(&rules.sources));
    let physical = facts.links.values().filter(|link| link.kind.is_empty() && link.up && link.mac.is_some());
    let more = more.into_iter().chain(physical.map(|link| link.index));
    let more =
        more.filter(|index| !leads_to_pods.contains(index)).filter_map(|index| facts.links.get(&index));
    names.extend(more.map(|link| link.name.clone()));
    let lanes = [0, 1].map(|generation| Lane::of(wireguard, generation).interface);
    let tunnel = config.network.tunnel.map(|tunnel| device_name(facts, tunnel.kind));
    // Somebody else's device of such a name is watched.
    for name in lanes.iter().chain(&tunnel).filter(|name| facts.own_link(name).is_some()) {
        names.remove(name);
    }
    names.iter().filter_map(|name| facts.link_named(name)).filter(|link| link.name != "lo").collect()
}

impl Rules {
    /// What the file asks for.
    fn wanted(config: &Config, wireguard: &Wireguard) -> Self {
        let pods = || config.nodes.iter().flat_map(|node| node.pod_cidrs.iter().copied()).collect();
        Self {
            destinations: match &wireguard.strict.egress {
                StrictEgress::Off => BTreeSet::new(),
                StrictEgress::Pods => pods(),
                StrictEgress::Listed(listed) => listed.iter().copied().collect(),
            },
            sources: if wireguard.strict.ingress { pods() } else { BTreeSet::new() },
            mark: wireguard.mark,
            tunnel: config.network.tunnel.map(|tunnel| (tunnel.kind.word().to_owned(), tunnel.port)),
        }
    }

    /// What programs are found to go by.
    fn held(rules: &strict::Rules) -> Self {
        let networks = |prefixes: &BTreeSet<Prefix>| {
            prefixes.iter().filter_map(|&(address, bits)| IpNetwork::new(address, bits).ok()).collect()
        };
        let tunnel = rules.tunnel.map(|tunnel| match tunnel {
            strict::Tunnel::Vxlan(port) => (TunnelKind::Vxlan, port),
            strict::Tunnel::Geneve(port) => (TunnelKind::Geneve, port),
        });
        Self {
            destinations: networks(&rules.destinations),
            sources: networks(&rules.sources),
            mark: rules.mark,
            tunnel: tunnel.map(|(kind, port)| (kind.word().to_owned(), port)),
        }
    }

    fn for_program(&self) -> strict::Rules {
        let prefixes = |networks: &BTreeSet<IpNetwork>| {
            networks.iter().map(|network| (network.network(), network.prefix())).collect()
        };
        let tunnel = self.tunnel.as_ref().map(|(kind, port)| {
            if kind == TunnelKind::Geneve.word() {
                strict::Tunnel::Geneve(*port)
            } else {
                strict::Tunnel::Vxlan(*port)
            }
        });
        let (destinations, sources) = (prefixes(&self.destinations), prefixes(&self.sources));
        strict::Rules { destinations, sources, mark: self.mark, tunnel }
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let mut changes = Vec::new();
        for (name, now, before) in [
            ("destination", &self.destinations, &observed.destinations),
            ("source", &self.sources, &observed.sources),
        ] {
            changes.extend(before.difference(now).map(|gone| FieldChange::removed(name, gone)));
            changes.extend(now.difference(before).map(|new| FieldChange::added(name, new)));
        }
        let mark = |mark: u32| format!("{mark:#x}");
        changes.extend(FieldChange::between("mark", mark(observed.mark), mark(self.mark)));
        let tunnel = |rules: &Self| match &rules.tunnel {
            Some((kind, port)) => format!("{kind} at UDP port {port}"),
            None => "none".to_owned(),
        };
        changes.extend(FieldChange::between("tunnel", tunnel(observed), tunnel(self)));
        changes
    }
}

impl Described for StrictSpec {
    fn summary(&self) -> String {
        let texts = |networks: &BTreeSet<IpNetwork>| {
            networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let Rules { destinations, sources, .. } = &*self.rules;
        let mut said = Vec::new();
        if !destinations.is_empty() {
            said.push(format!("nothing leaves in clear to {}", texts(destinations)));
        }
        if !sources.is_empty() {
            said.push(format!("nothing comes in in clear from {}", texts(sources)));
        }
        said.join("; ")
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let compared = [
            FieldChange::between("interface index", index_word(observed.ifindex), index_word(self.ifindex)),
            FieldChange::between("programs", observed.program.word(), self.program.word()),
        ];
        compared.into_iter().flatten().chain(self.rules.changes(&observed.rules)).collect()
    }
}

fn as_texts<S: Serializer>(networks: &BTreeSet<IpNetwork>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(networks.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests;
