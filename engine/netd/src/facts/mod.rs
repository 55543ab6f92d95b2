//! What the node is: links, addresses, routes, neighbours. Read from the kernel before each pass, decided upon purely.

mod decode;
mod monitor;
mod path;
mod read;
mod source;

pub use decode::TABLE_MAIN;
pub use monitor::{Listener, Monitor, Stale};
pub use read::FactsReader;
pub(crate) use read::{links, neighbours, routes_of};

pub use path::{Hop, Path, PathError, PathResolver, resolve};

use crate::failover::Seen;
use crate::health::Verdicts;
use crate::instance::InstanceName;
use crate::kinds::rule::RuleSpec;
use ipnetwork::IpNetwork;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// One consistent view of the node, taken at the start of a pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The name by which this node finds itself in `[[nodes]]`.
    pub node: String,
    /// The instance that looks, by which its devices are called and marked.
    pub instance: InstanceName,
    /// The links by interface index. Indices are used again by the kernel: never keep one beyond a pass.
    pub links: BTreeMap<u32, Link>,
    /// The addresses of the node.
    pub addresses: Vec<Address>,
    /// The unicast, blackhole, unreachable and prohibit routes of the main table, of both families, in the kernel's
    /// order. Routes that only match some packets to their destination (by traffic class or source) are left out.
    pub routes: Vec<Route>,
    /// netd's own routes in other tables than the main one: rules send some packets there.
    pub routes_elsewhere: Vec<Route>,
    /// netd's own policy rules.
    pub rules: BTreeSet<RuleSpec>,
    /// Neighbours with a link-layer address or a state worth knowing, by interface index and address.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    /// The links that are known not to take packets that a program in another driver redirects to them.
    pub no_redirects: BTreeSet<u32>,
    /// What is known of the backends' health. Not the kernel's: netd's own checks find it out.
    pub health: Arc<Verdicts>,
    /// What is known of the gateways of egress policies; `None` where nobody watches them. Not the kernel's: nodes ask
    /// each other.
    pub gateways: Option<Arc<Seen>>,
    /// What BGP peers sent, of those whose routes go into a table. Not the kernel's: gobgpd tells it.
    pub received: Arc<Received>,
}

/// The routes of BGP peers; a session that is not established has none. Or why they are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received(pub Result<BTreeMap<IpAddr, FromPeer>, String>);

/// What one peer sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromPeer {
    /// By their prefixes with the next hop.
    pub routes: Arc<BTreeMap<IpNetwork, IpAddr>>,
    /// So many more, which are too many to be looked at.
    pub left_out: u64,
    /// So many that make no sense.
    pub unreadable: u64,
}

impl Default for Received {
    fn default() -> Self {
        Self(Ok(BTreeMap::new()))
    }
}

impl Facts {
    /// Whether packets leave both nodes by the same ways: links, addresses, routes and neighbours are equal.
    #[must_use]
    pub fn has_ways_of(&self, other: &Self) -> bool {
        self.links == other.links
            && self.addresses == other.addresses
            && self.routes == other.routes
            && self.routes_elsewhere == other.routes_elsewhere
            && self.rules == other.rules
            && self.neighbours == other.neighbours
    }

    /// The link with this name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The link with this name, if it is this instance's.
    #[must_use]
    pub fn own_link(&self, name: &str) -> Option<&Link> {
        self.link_named(name).filter(|link| link.alias == self.instance.alias())
    }

    /// Whether the address is one of the node's own.
    #[must_use]
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.address == address)
    }
}

/// Checks that an interface index still belongs to the device that was meant: the kernel gives indices again.
///
/// # Errors
///
/// A sentence, when it does not.
pub(crate) fn same_device(links: &BTreeMap<u32, Link>, index: u32, device: &str) -> Result<(), String> {
    match links.get(&index) {
        Some(link) if link.name == device => Ok(()),
        Some(_) | None => Err(format!("{device} is not interface {index} any more")),
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its interface index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; `None` if it has none of six bytes.
    pub mac: Option<Mac>,
    /// Its largest packet, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// What rtnetlink calls its kind: `veth`, `bridge`, …; empty for a physical device.
    pub kind: String,
    /// What somebody marked it with: `netd:INSTANCE` is netd's; empty if nobody did.
    pub alias: String,
    /// The XDP program on it, if any.
    pub xdp: Option<Xdp>,
}

/// An XDP program on a link, as rtnetlink reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// Where it runs.
    pub mode: AttachedMode,
    /// The program's kernel-wide identifier; 0 if it was not reported.
    pub program_id: u32,
}

/// Where an attached XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// On the device itself.
    Offloaded,
}

/// An address of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link that holds it.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix, in bits.
    pub prefix_len: u8,
    /// Whether it can be used as a source: not tentative, not deprecated.
    pub usable: bool,
    /// Whether it goes after a while, as one of IPv6 does that stands in for another for privacy (RFC 8981).
    pub temporary: bool,
    /// Whether its scope is the whole network (not link, not host).
    pub global: bool,
}

/// A route of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its destination; the default route has length 0.
    pub destination: IpNetwork,
    /// The routing table.
    pub table: u32,
    /// Lower wins among routes to the same destination.
    pub metric: u32,
    /// Who made it: `RTPROT_*`.
    pub protocol: u8,
    /// What becomes of a packet that it matches.
    pub action: RouteAction,
    /// The source address that the route prefers.
    pub source: Option<IpAddr>,
    /// The largest packet that the route admits, in bytes, if it says so.
    pub mtu: Option<u32>,
}

/// What becomes of a packet that matches a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// It is sent by one of these next hops; next hops that the kernel holds for dead are left out.
    Forward(Vec<NextHop>),
    /// It is put into a tunnel by the route itself, and sent by this next hop.
    Tunnel(NextHop, Tunnel),
    /// It is dropped, silently or not.
    Discard,
    /// Something that netd does not follow (a next-hop object it could not read, an encapsulation of another kind).
    Other,
}

/// One next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The link that it leaves by.
    pub link: u32,
    /// The router; `None` when the destination is on the link itself.
    pub via: Option<IpAddr>,
    /// Its share, 1 to 256.
    pub weight: u16,
}

/// The tunnel that a route puts packets into (Linux calls it lightweight): `encap ip id 7 dst 10.0.0.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tunnel {
    /// What the tunnel's header says: a VNI, for one of VXLAN or Geneve.
    pub id: u64,
    /// This end; `None`: the kernel's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The other end.
    pub remote: IpAddr,
}

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Its Ethernet address, when resolved.
    pub mac: Option<Mac>,
    /// Whether packets may be sent to it: reachable, stale, delay, probe, permanent or noarp.
    pub valid: bool,
    /// Whether the kernel keeps it resolved by itself (`NTF_MANAGED`).
    pub managed: bool,
    /// Whether somebody fixed its address, so that the kernel never asks for it: permanent or noarp.
    pub permanent: bool,
    /// Who made it: `RTPROT_*`, 0 if nobody said.
    pub protocol: u8,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl serde::Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
