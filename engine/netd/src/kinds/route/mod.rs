//! Routes to the pods of the other nodes, each by the address of the node that has them; and for aggregates of VIPs that
//! are announced by BGP, routes that refuse what nothing has.
//!
//! Key: the prefix, `10.244.2.0/24`. Mark of ownership: the protocol number [`PROTOCOL`] in the main table. An update
//! costs no packet: the new next hop is added beside the old one, which then goes. Nothing is ever replaced: a route of
//! another protocol to the same prefix with the same metric is a conflict, one with another metric, table or traffic
//! class is nobody's business.

mod target;
mod wire;

pub use target::RouteTarget;
pub use wire::{Beside, adding, deleting};

use super::{bgp_path, this_node};
use crate::facts::{Facts, PathError, PathResolver, TABLE_MAIN};
use ipnetwork::IpNetwork;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName};
use netd_schema::{Config, Node};
use serde::{Serialize, Serializer};
use std::net::IpAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "route";

/// `rtm_protocol` and `NDA_PROTOCOL` of everything that netd makes.
pub const PROTOCOL: u8 = 177;

/// The kernel's own default for IPv4 routes.
const METRIC_V4: u32 = 0;
/// The kernel's own default for IPv6 routes.
const METRIC_V6: u32 = 1024;

/// The metric of routes that refuse: any other route to the same prefix wins.
const METRIC_REFUSAL: u32 = 4_000_000_000;

/// The metric of netd's routes to prefixes of this family.
#[must_use]
pub fn metric(prefix: IpNetwork) -> u32 {
    match prefix {
        IpNetwork::V4(_) => METRIC_V4,
        IpNetwork::V6(_) => METRIC_V6,
    }
}

/// A route to a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteSpec {
    /// The destination, masked.
    #[serde(serialize_with = "as_text")]
    pub prefix: IpNetwork,
    /// The way there.
    #[serde(flatten)]
    pub way: Way,
    /// The routing table.
    pub table: u32,
    /// Who made it: `RTPROT_*`.
    pub protocol: u8,
    /// Further routes of ours to the same prefix, which an interrupted update left; never wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub surplus: Vec<Way>,
}

/// One way to a prefix: what the kernel tells routes to the same prefix apart by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// The router; always there in what is wanted, but for a refusal.
    pub via: Option<IpAddr>,
    /// The device's name; empty for a refusal.
    pub device: String,
    /// The device's interface index; 0 for a refusal: packets are answered with an ICMP error.
    pub ifindex: u32,
    /// Lower wins among routes to the same prefix.
    pub metric: u32,
}

fn as_text<S: Serializer>(prefix: &IpNetwork, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(prefix)
}

impl Way {
    /// No way: packets are refused.
    #[must_use]
    pub fn refusal() -> Self {
        Self { via: None, device: String::new(), ifindex: 0, metric: METRIC_REFUSAL }
    }

    /// Whether packets are refused.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.ifindex == 0
    }

    fn text(&self) -> String {
        match self.via {
            _ if self.is_refusal() => "unreachable".to_owned(),
            Some(via) => format!("via {via} dev {}", self.device),
            None => format!("dev {}", self.device),
        }
    }
}

impl Described for RouteSpec {
    fn summary(&self) -> String {
        self.way.text()
    }

    fn changes(&self, observed: &Self) -> Vec<FieldChange> {
        let Self { prefix, way, table, protocol, surplus: _ } = self;
        let compared = [
            FieldChange::between("prefix", observed.prefix, prefix),
            FieldChange::between("way", observed.way.text(), way.text()),
            FieldChange::between("interface index", observed.way.ifindex, way.ifindex),
            FieldChange::between("metric", observed.way.metric, way.metric),
            FieldChange::between("table", observed.table, table),
            FieldChange::between("protocol", observed.protocol, protocol),
        ];
        let surplus = observed.surplus.iter().map(|way| FieldChange::removed("also", way.text()));
        compared.into_iter().flatten().chain(surplus).collect()
    }
}

/// The routes that the file asks for: to every pod prefix of every other node, and for every aggregate one that refuses.
///
/// # Errors
///
/// When the file lists nodes and this one is not among them: routes to all of them would be wrong.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    for prefix in bgp_path::aggregates(config, facts) {
        let (way, surplus) = (Way::refusal(), Vec::new());
        let spec = RouteSpec { prefix, way, table: TABLE_MAIN, protocol: PROTOCOL, surplus };
        desired.table.insert(Key::new(prefix.to_string()), Arc::new(spec));
    }
    if this_node(config, facts)?.is_none() {
        return Ok(desired);
    }
    let resolver = PathResolver::new(facts);
    for node in config.nodes.iter().filter(|node| node.name != facts.node) {
        let v4 = way(&resolver, node, Family::V4);
        let v6 = way(&resolver, node, Family::V6);
        for &prefix in &node.pod_cidrs {
            let key = Key::new(prefix.to_string());
            let way = match prefix {
                IpNetwork::V4(_) => &v4,
                IpNetwork::V6(_) => &v6,
            };
            match way {
                Ok(way) => {
                    let way = Way { metric: metric(prefix), ..way.clone() };
                    let (table, protocol, surplus) = (TABLE_MAIN, PROTOCOL, Vec::new());
                    let spec = RouteSpec { prefix, way, table, protocol, surplus };
                    desired.table.insert(key, Arc::new(spec));
                }
                Err(reason) => {
                    desired.held.insert(key, reason.clone());
                }
            }
        }
    }
    Ok(desired)
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// The way to a node's own address of the family, which must be on a link of this node; else why there is none.
fn way(resolver: &PathResolver<'_>, node: &Node, family: Family) -> Result<Way, String> {
    let name = &node.name;
    let (address, word) = match family {
        Family::V4 => (node.addresses.iter().find(|address| address.is_ipv4()), "IPv4"),
        Family::V6 => (node.addresses.iter().find(|address| address.is_ipv6()), "IPv6"),
    };
    let Some(&address) = address else {
        return Err(format!("node {name} has no {word} address to route its {word} pods by"));
    };
    let hop = resolver.hop(address).map_err(|error| match error {
        PathError::Local(_) => format!("the address {address} of node {name} is one of this node"),
        PathError::NoRoute(_)
        | PathError::Broadcast(_)
        | PathError::Unresolved { .. }
        | PathError::Device { .. }
        | PathError::NoSource(_) => format!("node {name} ({address}) is not reachable: {error}"),
    })?;
    match hop.via {
        None => {
            Ok(Way { via: Some(address), device: hop.link.name.clone(), ifindex: hop.link.index, metric: 0 })
        }
        Some(router) => {
            Err(format!("node {name} ({address}) is not directly reachable: it is behind {router}"))
        }
    }
}

#[cfg(test)]
mod tests;
