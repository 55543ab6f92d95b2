//! What follows for this node from the file's words about WireGuard: who the others are, which addresses are theirs, and
//! which routes and rules lead there. Pure.

use crate::facts::{Facts, Link, PathResolver, RouteAction};
use ipnetwork::IpNetwork;
use netd_schema::{Config, Mtu, Node, Wireguard, WireguardMode};
use netd_wireguard::PublicKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// What WireGuard adds to a packet: an IPv6 header of 40 bytes, UDP's of 8, and 32 of its own.
pub const UNDERLAY_OVERHEAD: u32 = 80;

/// The MTU where no way to another node is known: that of Ethernet, less what is added.
const MTU_UNKNOWN: u32 = 1500 - UNDERLAY_OVERHEAD;

/// The longest name of a device: `IFNAMSIZ` without the terminating zero.
const DEVICE_NAME_BYTES_MAX: usize = 15;

/// The smallest MTU over which IPv6 works (RFC 8200, section 5).
const MTU_MIN: u32 = 1280;

/// The network as this node sees it.
pub struct Mesh<'c> {
    /// The words of the file.
    pub settings: &'c Wireguard,
    /// This node.
    pub me: &'c Node,
    /// The other nodes that have a key, unless this node has none: then nobody would understand it.
    pub others: Vec<Other<'c>>,
}

/// Another node.
pub struct Other<'c> {
    /// It.
    pub node: &'c Node,
    /// Its key.
    pub key: PublicKey,
    /// The key that it changes to.
    pub next_key: Option<PublicKey>,
}

/// One of this node's two devices: each generation of keys has the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The device's name.
    pub interface: String,
    /// How many ports it is after the first device's: 0 or 1.
    pub step: u16,
    /// Whether packets are sent by it; by the other one they are only taken.
    pub sends: bool,
}

impl Lane {
    /// The one that sends in a generation.
    #[must_use]
    pub fn of(settings: &Wireguard, generation: u32) -> Self {
        if generation.is_multiple_of(2) {
            return Self { interface: settings.interface.clone(), step: 0, sends: true };
        }
        let room = DEVICE_NAME_BYTES_MAX - 1;
        let start = settings.interface.get(..room).unwrap_or(&settings.interface);
        let letter = if settings.interface.get(room..) == Some("b") { 'c' } else { 'b' };
        Self { interface: format!("{start}{letter}"), step: 1, sends: true }
    }

    /// Where it is, by where the first device is.
    #[must_use]
    pub fn port(&self, first: u16) -> u16 {
        first.saturating_add(self.step)
    }
}

impl Other<'_> {
    /// The key by which it speaks there.
    #[must_use]
    pub fn key_of_lane(&self, lane: &Lane) -> PublicKey {
        self.next_key.filter(|_| !lane.sends).unwrap_or(self.key)
    }
}

impl<'c> Mesh<'c> {
    /// What the file says of it; `None` where it asks for no WireGuard.
    ///
    /// # Errors
    ///
    /// When the file lists nodes and this one is not among them.
    pub fn of(config: &'c Config, facts: &Facts) -> Result<Option<Self>, String> {
        let Some(settings) = &config.wireguard else { return Ok(None) };
        let Some(me) = crate::kinds::this_node(config, facts)? else { return Ok(None) };
        let key = |key: netd_schema::PublicKey| PublicKey::from_bytes(key.0);
        let others =
            config.nodes.iter().filter(|node| node.name != me.name && me.wireguard.public_key.is_some());
        let others = others.filter_map(|node| {
            let next_key = node.wireguard.next_public_key.map(key);
            Some(Other { node, key: key(node.wireguard.public_key?), next_key })
        });
        Ok(Some(Self { settings, me, others: others.collect() }))
    }

    /// The device that sends, and, while keys change, a second one beside it.
    #[must_use]
    pub fn lanes(&self) -> Vec<Lane> {
        let sends = self.sending();
        let is_changing = self.me.wireguard.next_public_key.is_some()
            || self.others.iter().any(|other| other.next_key.is_some());
        let beside =
            || Lane { sends: false, ..Lane::of(self.settings, self.settings.generation.wrapping_add(1)) };
        std::iter::once(sends).chain((is_changing && self.own_key().is_some()).then(beside)).collect()
    }

    /// A device of netd's that nobody wants any more, and that packets are still led into: why it stays, and its peers.
    #[must_use]
    pub fn retiring<'f>(&self, facts: &'f Facts) -> Option<&'f Link> {
        let lanes = self.lanes();
        let hops = facts.routes_elsewhere.iter().filter_map(|route| match &route.action {
            RouteAction::Forward(hops) => hops.first(),
            RouteAction::Tunnel(..) | RouteAction::Discard | RouteAction::Other => None,
        });
        let mut links = hops.filter_map(|hop| facts.links.get(&hop.link));
        links.find(|link| {
            link.alias == facts.instance.alias() && lanes.iter().all(|lane| lane.interface != link.name)
        })
    }

    /// The device that sends.
    #[must_use]
    pub fn sending(&self) -> Lane {
        Lane::of(self.settings, self.settings.generation)
    }

    /// The public key of this node's by which it speaks there.
    #[must_use]
    pub fn key_of_lane(&self, lane: &Lane) -> Option<PublicKey> {
        let next = self.me.wireguard.next_public_key.filter(|_| !lane.sends);
        next.map(|key| PublicKey::from_bytes(key.0)).or(self.own_key())
    }

    /// Whether the file lists a second key of this node's.
    #[must_use]
    pub fn has_another_key(&self) -> bool {
        self.me.wireguard.next_public_key.is_some()
    }

    /// The public key that the file lists for this node.
    #[must_use]
    pub fn own_key(&self) -> Option<PublicKey> {
        self.me.wireguard.public_key.map(|key| PublicKey::from_bytes(key.0))
    }

    /// The addresses of another node's packets inside of WireGuard, sorted.
    #[must_use]
    pub fn prefixes(&self, other: &Other<'_>) -> BTreeSet<IpNetwork> {
        let pods = other.node.pod_cidrs.iter().copied();
        let nodes = other.node.addresses.iter().map(|address| IpNetwork::from(*address));
        match self.settings.mode {
            WireguardMode::Pods => pods.collect(),
            WireguardMode::Nodes => pods.chain(nodes).collect(),
            WireguardMode::Overlay => nodes.collect(),
        }
    }

    /// Where another node's first device listens, and the link towards it.
    ///
    /// # Errors
    ///
    /// A sentence, when there is no way there.
    pub fn endpoint<'f>(
        &self,
        other: &Other<'_>,
        resolver: &PathResolver<'f>,
    ) -> Result<(SocketAddr, &'f Link), String> {
        let port = self.settings.port;
        let given = other.node.wireguard.endpoint.into_iter();
        let own = other.node.addresses.iter().map(|address| SocketAddr::new(*address, port));
        let candidates: Vec<SocketAddr> = match other.node.wireguard.endpoint {
            Some(_) => given.collect(),
            None => own.collect(),
        };
        let mut why = None;
        for candidate in candidates {
            match resolver.hop(candidate.ip()) {
                Ok(hop) => return Ok((candidate, hop.link)),
                Err(error) => why = why.or(Some(error)),
            }
        }
        let name = &other.node.name;
        Err(why.map_or_else(
            || format!("node {name} has no address"),
            |error| format!("node {name} is not reachable: {error}"),
        ))
    }

    /// The MTU of the device.
    ///
    /// # Errors
    ///
    /// A sentence, where IPv6 would not work over it.
    pub fn mtu(&self, resolver: &PathResolver<'_>) -> Result<u32, String> {
        match (self.settings.mtu, self.room(resolver)) {
            (Mtu::Fixed(bytes), _) => Ok(bytes),
            (Mtu::Auto, None) => Ok(MTU_UNKNOWN),
            (Mtu::Auto, Some((most, _))) if most >= MTU_MIN => Ok(most),
            (Mtu::Auto, Some((_, link))) => Err(format!(
                "packets of {} bytes on {} leave too little for IPv6 inside of WireGuard: it needs {MTU_MIN}, and \
                 {UNDERLAY_OVERHEAD} are added",
                link.mtu, link.name
            )),
        }
    }

    /// The largest packet that fits inside with what is below it now, and the link that bounds it; `None` while there is
    /// no way to another node.
    #[must_use]
    pub fn room<'f>(&self, resolver: &PathResolver<'f>) -> Option<(u32, &'f Link)> {
        let below = self.others.iter().filter_map(|other| self.endpoint(other, resolver).ok());
        let link = below.map(|(_, link)| link).min_by_key(|link| link.mtu)?;
        Some((link.mtu.saturating_sub(UNDERLAY_OVERHEAD), link))
    }

    /// What is left for the packets of a tunnel to this node, of `mtu` bytes that packets to it may have.
    #[must_use]
    pub fn left_for_tunnel(&self, node: &Node, mtu: u32) -> u32 {
        let is_inside = self.settings.mode == WireguardMode::Overlay
            && self.own_key().is_some()
            && node.wireguard.public_key.is_some();
        let most = match self.settings.mtu {
            Mtu::Fixed(bytes) => bytes,
            Mtu::Auto => u32::MAX,
        };
        if is_inside { mtu.saturating_sub(UNDERLAY_OVERHEAD).min(most) } else { mtu }
    }

    /// The file of the secret that this node and another share besides their keys: that of the one whose name comes
    /// first, where both have one.
    #[must_use]
    pub fn preshared_key_file(&self, other: &Other<'c>) -> Option<&'c Path> {
        let (first, second) =
            if self.me.name < other.node.name { (self.me, other.node) } else { (other.node, self.me) };
        let file = |node: &'c Node| node.wireguard.preshared_key_file.as_deref();
        file(first).or(file(second))
    }

    /// The address that this node's own packets to others bear: one that the others know it by, and that it has.
    #[must_use]
    pub fn source(&self, facts: &Facts, family_of: IpAddr) -> Option<IpAddr> {
        let mut own = self.me.addresses.iter().copied();
        own.find(|own| own.is_ipv4() == family_of.is_ipv4() && facts.is_own_address(*own))
    }
}

/// What the nodes of the keys are called.
#[must_use]
pub fn names(config: &Config) -> BTreeMap<PublicKey, String> {
    let of = |node: &Node| {
        let key = |key: netd_schema::PublicKey| PublicKey::from_bytes(key.0);
        let present = node.wireguard.public_key.map(|it| (key(it), node.name.clone()));
        let next = node.wireguard.next_public_key.map(|it| (key(it), format!("{} (other key)", node.name)));
        present.into_iter().chain(next)
    };
    config.nodes.iter().flat_map(of).collect()
}
