//! How this node reaches the pods of the others: directly, or in the tunnel. Decided from the file and the facts.
//!
//! Routes, the tunnel device and the programs on devices all follow from what is said here.

use crate::facts::{Facts, Link, PathError, PathResolver, RouteAction, Tunnel};
use crate::kinds::this_node;
use crate::netlink::PROTOCOL;
use crate::wireguard::Mesh;
use ipnetwork::IpNetwork;
use netd_schema::{Config, Mtu, NetworkMode, Node, TunnelKind, Underlay};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The longest name of a device: `IFNAMSIZ` without the terminating zero.
const DEVICE_NAME_BYTES_MAX: usize = 15;

/// What VXLAN and Geneve without options put around an Ethernet frame: 8 bytes, after 8 of UDP, and the frame's own
/// header of 14.
const TUNNEL_BYTES: u32 = 8 + 8 + 14;

/// The outer IP header, of either family.
const OUTER_V4_BYTES: u32 = 20;
const OUTER_V6_BYTES: u32 = 40;

/// The ways to other nodes' pods.
pub(crate) struct Reach<'a> {
    config: &'a Config,
    facts: &'a Facts,
    /// This node.
    me: &'a Node,
    resolver: PathResolver<'a>,
}

/// The way to the pods of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leg<'a> {
    /// By the node's address on a link of this one.
    Direct { via: IpAddr, link: &'a Link },
    /// In the tunnel, by this device.
    Tunnel { ends: Tunnel, link: &'a Link },
}

impl<'a> Reach<'a> {
    /// `None` where the file lists no nodes.
    ///
    /// # Errors
    ///
    /// When it lists nodes and this one is not among them.
    pub(crate) fn new(config: &'a Config, facts: &'a Facts) -> Result<Option<Self>, String> {
        let me = this_node(config, facts)?;
        Ok(me.map(|me| Self { config, facts, me, resolver: PathResolver::new(facts) }))
    }

    /// Whether a packet can be sent to an address on a link at once: its Ethernet address is known.
    pub(crate) fn is_resolved(&self, link: &Link, address: IpAddr) -> bool {
        let known = self.facts.neighbours.get(&(link.index, address));
        known.is_some_and(|neighbour| neighbour.valid && neighbour.mac.is_some())
    }

    /// Whether the node is this one.
    pub(crate) fn is_me(&self, node: &Node) -> bool {
        self.me.name == node.name
    }

    /// The other nodes.
    pub(crate) fn others(&self) -> impl Iterator<Item = &'a Node> + use<'a> {
        let me = self.me;
        self.config.nodes.iter().filter(move |node| node.name != me.name)
    }

    /// The tunnel's device, as it is called here; `None` without a tunnel.
    pub(crate) fn tunnel_device(&self) -> Option<(netd_schema::Tunnel, String)> {
        self.config.network.tunnel.map(|tunnel| (tunnel, device_name(self.facts, tunnel.kind)))
    }

    /// The way to a node's pods of the prefix's family; else why there is none now.
    pub(crate) fn leg(&self, node: &Node, prefix: IpNetwork) -> Result<Leg<'a>, String> {
        match self.config.network.mode {
            NetworkMode::Direct => self.directly(node, prefix),
            NetworkMode::Tunnel => self.in_tunnel(node),
            NetworkMode::CrossSubnet => self.directly(node, prefix).or_else(|_| self.in_tunnel(node)),
        }
    }

    /// Whether netd's routes to some pods lead as they did, because there is no way yet that the file asks for.
    pub(crate) fn is_led_as_before(&self) -> bool {
        let own = self.facts.routes.iter().filter(|route| route.protocol == PROTOCOL);
        let is_way =
            |action: &RouteAction| matches!(action, RouteAction::Forward(_) | RouteAction::Tunnel(..));
        let led: BTreeSet<IpNetwork> =
            own.filter(|route| is_way(&route.action)).map(|route| route.destination).collect();
        let waits =
            |node: &Node, prefix: &IpNetwork| led.contains(prefix) && self.leg(node, *prefix).is_err();
        self.others().any(|node| node.pod_cidrs.iter().any(|prefix| waits(node, prefix)))
    }

    /// The two ends of the tunnel to a node.
    ///
    /// # Errors
    ///
    /// When the two nodes have no addresses of the family that it takes.
    pub(crate) fn ends(&self, node: &Node) -> Result<(IpAddr, IpAddr), String> {
        let of = |node: &Node, v4: bool| node.addresses.iter().copied().find(|it| it.is_ipv4() == v4);
        let both = |v4: bool| of(self.me, v4).zip(of(node, v4));
        let underlay = self.config.network.tunnel.map(|tunnel| tunnel.underlay).unwrap_or_default();
        let (ends, word) = match underlay {
            Underlay::Ipv4 => (both(true), "IPv4 "),
            Underlay::Ipv6 => (both(false), "IPv6 "),
            Underlay::Auto => (both(true).or_else(|| both(false)), ""),
        };
        let name = &node.name;
        ends.ok_or_else(|| format!("this node and {name} have no {word}addresses for a tunnel between them"))
    }

    /// The largest packet between pods that the tunnel takes with what is below it now, and the device that bounds it;
    /// `None` while there is no way to any other node.
    pub(crate) fn room(&self) -> Option<(u32, &'a Link)> {
        let mesh = Mesh::of(self.config, self.facts).ok().flatten();
        let room = |node: &Node| {
            let (_, remote) = self.ends(node).ok()?;
            let hop = self.resolver.hop(remote).ok()?;
            let mtu = hop.route.mtu.filter(|&mtu| mtu > 0).unwrap_or(u32::MAX).min(hop.link.mtu);
            let mtu = mesh.as_ref().map_or(mtu, |mesh| mesh.left_for_tunnel(node, mtu));
            Some((mtu.saturating_sub(overhead(remote)), hop.link))
        };
        self.others().filter_map(room).min_by_key(|(mtu, _)| *mtu)
    }

    /// The largest packet that a direct way admits; `None`: what its device admits.
    pub(crate) fn direct_mtu(&self, link: &Link) -> Option<u32> {
        match self.config.network.mtu {
            Mtu::Fixed(mtu) => Some(mtu).filter(|mtu| *mtu < link.mtu),
            Mtu::Auto => None,
        }
    }

    fn directly(&self, node: &Node, prefix: IpNetwork) -> Result<Leg<'a>, String> {
        let name = &node.name;
        let word = if prefix.is_ipv4() { "IPv4" } else { "IPv6" };
        let address = node.addresses.iter().copied().find(|it| it.is_ipv4() == prefix.is_ipv4());
        let address = address
            .ok_or_else(|| format!("node {name} has no {word} address to route its {word} pods by"))?;
        let hop = self.hop(node, address)?;
        match hop.1 {
            None => Ok(Leg::Direct { via: address, link: hop.0 }),
            Some(router) => {
                let reason =
                    format!("node {name} ({address}) is not directly reachable: it is behind {router}");
                Err(format!("{reason}; network.mode \"cross-subnet\" would send in a tunnel"))
            }
        }
    }

    fn in_tunnel(&self, node: &Node) -> Result<Leg<'a>, String> {
        let (tunnel, device) = self.tunnel_device().ok_or("the file has no tunnel")?;
        let (local, remote) = self.ends(node)?;
        self.hop(node, remote)?;
        let link = self.facts.link_named(&device).filter(|link| link.kind == tunnel.kind.word());
        let link = link.ok_or_else(|| format!("there is no {} device {device} yet", tunnel.kind.word()))?;
        if !link.up {
            return Err(format!("{device} is down"));
        }
        // An address that this node does not have itself (behind NAT) cannot be that of its packets.
        let local = Some(local).filter(|local| self.facts.is_own_address(*local));
        Ok(Leg::Tunnel { ends: Tunnel { id: tunnel.vni.into(), local, remote }, link })
    }

    /// The link that an address of a node is reached by, and the router on the way.
    fn hop(&self, node: &Node, address: IpAddr) -> Result<(&'a Link, Option<IpAddr>), String> {
        let name = &node.name;
        let hop = self.resolver.hop(address).map_err(|error| match error {
            PathError::Local(_) => format!("the address {address} of node {name} is one of this node"),
            PathError::NoRoute(_)
            | PathError::Broadcast(_)
            | PathError::Unresolved { .. }
            | PathError::Device { .. }
            | PathError::NoSource(_) => format!("node {name} ({address}) is not reachable: {error}"),
        })?;
        Ok((hop.link, hop.via))
    }
}

/// The devices of tunnels into which routes of netd's lead now: while they do, a change to another way is not done.
pub(crate) fn tunnels_in_use(facts: &Facts) -> BTreeSet<&str> {
    let own = facts.routes.iter().filter(|route| route.protocol == PROTOCOL);
    let hops = own.filter_map(|route| match &route.action {
        RouteAction::Tunnel(hop, _) => facts.links.get(&hop.link),
        RouteAction::Forward(_) | RouteAction::Discard | RouteAction::Other => None,
    });
    hops.map(|link| link.name.as_str()).collect()
}

/// What this instance calls its device of a tunnel.
pub(crate) fn device_name(facts: &Facts, kind: TunnelKind) -> String {
    let instance = facts.instance.as_str();
    let start = if instance == crate::instance::DEFAULT_NAME { "netd" } else { instance };
    let end = format!("_{}", kind.word());
    let room = DEVICE_NAME_BYTES_MAX.saturating_sub(end.len());
    format!("{}{end}", start.get(..room).unwrap_or(start))
}

/// What a packet in the tunnel to this end has around it, in bytes.
pub(crate) fn overhead(remote: IpAddr) -> u32 {
    TUNNEL_BYTES + if remote.is_ipv4() { OUTER_V4_BYTES } else { OUTER_V6_BYTES }
}
