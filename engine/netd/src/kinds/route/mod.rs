//! Routes to the pods of the other nodes, each by the address of the node that has them; and for aggregates of VIPs that
//! are announced by BGP, routes that refuse what nothing has.
//!
//! Key: the prefix, `10.244.2.0/24`; the kinds of routes in other tables add that, `10.244.2.0/24 table 201`. Mark of
//! ownership: the protocol number [`PROTOCOL`] in the main table. An update costs no packet: the new way is added beside
//! the old one, which then goes. Nothing is ever replaced: a route of another protocol to the same prefix with the same
//! metric is a conflict, one with another metric, table or traffic class is nobody's business. A route to pods whose
//! packets are to be encrypted comes after what refuses them in clear.

mod target;
mod wire;

pub use target::RouteTarget;
pub use wire::{Beside, adding, deleting};

use super::{bgp_path, link, overlay, wireguard_route};
use crate::facts::{Facts, Link, Route, TABLE_MAIN, Tunnel};
pub use crate::netlink::PROTOCOL;
use crate::reach::{Leg, Reach};
use ipnetwork::IpNetwork;
use netd_core::{Described, DesiredKind, FieldChange, Key, KindName, Need, ResourceId};
use netd_schema::Config;
use serde::{Serialize, Serializer};
use std::net::IpAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "route";

/// The kernel's own default for IPv4 routes.
const METRIC_V4: u32 = 0;
/// The kernel's own default for IPv6 routes.
const METRIC_V6: u32 = 1024;

/// The metric of routes that refuse: any other route to the same prefix wins.
const METRIC_REFUSAL: u32 = 4_000_000_000;

/// The metric of the main table's routes that refuse what would go past a tunnel: what the tunnel's own routes, and any other
/// to the same prefix, do not take.
const METRIC_GUARD: u32 = METRIC_REFUSAL + 1;

/// The metric of routes that BGP peers sent, which no other route of netd's has: any other route to the same prefix
/// wins.
pub const METRIC_RECEIVED: u32 = 1_770_179;

/// Whether a route of the kernel's is one of netd's that a BGP peer sent.
#[must_use]
pub fn is_received(route: &Route) -> bool {
    route.protocol == PROTOCOL && route.metric == METRIC_RECEIVED
}

/// The metric of netd's routes to prefixes of this family.
#[must_use]
pub fn metric(prefix: IpNetwork) -> u32 {
    match prefix {
        IpNetwork::V4(_) => METRIC_V4,
        IpNetwork::V6(_) => METRIC_V6,
    }
}

/// The key of the route to a prefix in a table.
#[must_use]
pub fn key(prefix: IpNetwork, table: u32) -> Key {
    match table {
        TABLE_MAIN => Key::new(prefix.to_string()),
        other => Key::new(format!("{prefix} table {other}")),
    }
}

/// What a route is for, where a table has one of each to the same prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Packets go somewhere.
    Forward,
    /// Packets are refused, unless another route takes them.
    Refuse,
    /// As `Refuse`, in the main table, for what is to go into a tunnel that is encrypted.
    Guard,
}

/// The key of a route for this purpose. The main table has either a way or a refusal, and besides a guard.
#[must_use]
pub fn key_of(prefix: IpNetwork, table: u32, purpose: Purpose) -> Key {
    match purpose {
        Purpose::Refuse if table != TABLE_MAIN => Key::new(format!("unreachable {prefix} table {table}")),
        Purpose::Guard => Key::new(format!("unreachable {prefix}")),
        Purpose::Refuse | Purpose::Forward => key(prefix, table),
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
    /// The router; `None` where the device leads to the destination by itself, and for a refusal.
    pub via: Option<IpAddr>,
    /// The device's name; empty for a refusal.
    pub device: String,
    /// The device's interface index; 0 for a refusal: packets are answered with an ICMP error.
    pub ifindex: u32,
    /// The tunnel into which the route puts packets before the device gets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// The largest packet that the route admits, in bytes; `None`: what the device admits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The address that the node's own packets bear there; `None`: what the kernel chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
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
        let (device, ifindex, metric) = (String::new(), 0, METRIC_REFUSAL);
        Self { via: None, device, ifindex, tunnel: None, mtu: None, source: None, metric }
    }

    /// No way in the main table: packets that a tunnel does not take are refused.
    #[must_use]
    pub fn guard() -> Self {
        Self { metric: METRIC_GUARD, ..Self::refusal() }
    }

    /// Into a device that leads to `prefix` by itself.
    #[must_use]
    pub fn into_device(link: &Link, prefix: IpNetwork) -> Self {
        let (device, ifindex, metric) = (link.name.clone(), link.index, metric(prefix));
        Self { via: None, device, ifindex, tunnel: None, mtu: None, source: None, metric }
    }

    /// By a router, or an end that has the prefix, on the device's link.
    #[must_use]
    pub fn via(router: IpAddr, link: &Link, prefix: IpNetwork) -> Self {
        Self { via: Some(router), ..Self::into_device(link, prefix) }
    }

    /// Whether packets are refused.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.ifindex == 0
    }

    fn purpose(&self) -> Purpose {
        match self.metric {
            METRIC_GUARD if self.is_refusal() => Purpose::Guard,
            _ if self.is_refusal() => Purpose::Refuse,
            _ => Purpose::Forward,
        }
    }

    fn text(&self) -> String {
        if self.is_refusal() {
            return "unreachable".to_owned();
        }
        let mut text = String::new();
        if let Some(Tunnel { id, local: _, remote }) = self.tunnel {
            text += &format!("in tunnel {id} to {remote} ");
        }
        if let Some(via) = self.via {
            text += &format!("via {via} ");
        }
        text += &format!("dev {}", self.device);
        if let Some(source) = self.source {
            text += &format!(" src {source}");
        }
        if let Some(mtu) = self.mtu {
            text += &format!(" mtu {mtu}");
        }
        text
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
        desired.table.insert(key(prefix, TABLE_MAIN), Arc::new(spec));
    }
    let Some(reach) = Reach::new(config, facts)? else { return Ok(desired) };
    let guards = wireguard_route::guards(config, facts)?;
    for node in reach.others() {
        for &prefix in &node.pod_cidrs {
            let key = key(prefix, TABLE_MAIN);
            let mut needs = guards.get(&node.name).cloned().unwrap_or_default();
            let way = match reach.leg(node, prefix) {
                Ok(Leg::Direct { via, link }) => {
                    Way { mtu: reach.direct_mtu(link), ..Way::via(via, link, prefix) }
                }
                Ok(Leg::Tunnel { ends, link }) => {
                    needs.extend(tunnel_needs(&link.name));
                    Way { tunnel: Some(ends), ..Way::into_device(link, prefix) }
                }
                Err(reason) => {
                    desired.held.insert(key, reason);
                    continue;
                }
            };
            let (table, protocol, surplus) = (TABLE_MAIN, PROTOCOL, Vec::new());
            let spec = RouteSpec { prefix, way, table, protocol, surplus };
            if !needs.is_empty() {
                desired.needs.insert(key.clone(), needs.into());
            }
            desired.table.insert(key, Arc::new(spec));
        }
    }
    Ok(desired)
}

/// A tunnel's device, and the program that takes the answers out of it.
fn tunnel_needs(device: &str) -> [Need; 2] {
    [link::NAME, overlay::NAME].map(|kind| Need::One(ResourceId { kind, key: Key::new(device) }))
}

#[cfg(test)]
mod tests;
