//! Which way a packet to an address leaves the node: the longest matching route, its next hop, that next hop's MAC.

use super::source::Sources;
use super::{Address, Facts, Link, Mac, NextHop, Route, RouteAction};
use ipnetwork::IpNetwork;
use prefix_trie::PrefixMap;
use std::collections::HashSet;
use std::net::IpAddr;

/// The way to an address, down to the Ethernet header.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Path {
    /// The link that the packet leaves by.
    pub device: String,
    /// That link's interface index, now.
    pub ifindex: u32,
    /// The link's MTU or the route's, whichever is smaller, in bytes.
    pub mtu: u32,
    /// The address whose MAC is asked for: the router, or the destination itself.
    pub next_hop: IpAddr,
    /// The next hop's Ethernet address.
    pub destination_mac: Mac,
    /// The link's Ethernet address.
    pub source_mac: Mac,
    /// The address that the node itself would use as source.
    pub source: IpAddr,
}

/// Why there is no path to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No route matches, or one that discards, or one that netd does not follow.
    #[error("no route to {0}")]
    NoRoute(IpAddr),
    /// The address is the node's own.
    #[error("{0} is an address of this node")]
    Local(IpAddr),
    /// The address stands for all machines of one of the node's networks.
    #[error("{0} is the broadcast address of a network of this node")]
    Broadcast(IpAddr),
    /// The next hop is known, its MAC is not (yet).
    #[error("next hop {next_hop} on {device} is not resolved")]
    Unresolved {
        /// The address whose MAC is asked for.
        next_hop: IpAddr,
        /// The link's name.
        device: String,
        /// The link's interface index.
        ifindex: u32,
    },
    /// The link cannot be used: it is down, or not Ethernet.
    #[error("{device} cannot be used: {reason}")]
    Device {
        /// The link's name.
        device: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node has no address of the family to send from.
    #[error("no source address towards {0}")]
    NoSource(IpAddr),
}

/// Finds the path to one `destination`; for many, keep a [`PathResolver`].
///
/// # Errors
///
/// Says what is missing; see [`PathError`].
pub fn resolve(facts: &Facts, destination: IpAddr) -> Result<Path, PathError> {
    PathResolver::new(facts).resolve(destination)
}

/// The first step towards an address, as the routes say it: no neighbour was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop<'f> {
    /// The link that the packet leaves by; it is up.
    pub link: &'f Link,
    /// The router; `None` when the destination is on the link itself.
    pub via: Option<IpAddr>,
    /// The address whose MAC is asked for: the router, or the destination itself.
    pub next_hop: IpAddr,
    /// The route that matched.
    pub route: &'f Route,
}

/// Facts arranged for finding many paths.
pub struct PathResolver<'f> {
    facts: &'f Facts,
    v4: PrefixMap<(u32, u8), Vec<&'f Route>>,
    v6: PrefixMap<(u128, u8), Vec<&'f Route>>,
    own: HashSet<IpAddr>,
    broadcasts: HashSet<IpAddr>,
    sources: Sources<'f>,
}

impl<'f> PathResolver<'f> {
    /// Arranges the facts.
    #[must_use]
    pub fn new(facts: &'f Facts) -> Self {
        Self::among(facts, |_| true)
    }

    /// Arranges the facts; only routes that are `meant` lead anywhere.
    #[must_use]
    pub fn among(facts: &'f Facts, meant: impl Fn(&Route) -> bool) -> Self {
        let mut resolver = Self {
            facts,
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
            own: facts.addresses.iter().map(|own| own.address).collect(),
            broadcasts: facts.addresses.iter().filter_map(broadcast).collect(),
            sources: Sources::new(&facts.addresses),
        };
        for route in facts.routes.iter().filter(|route| meant(route)) {
            match route.destination {
                IpNetwork::V4(prefix) => {
                    let prefix = (prefix.network().to_bits(), prefix.prefix());
                    resolver.v4.entry(prefix).or_default().push(route);
                }
                IpNetwork::V6(prefix) => {
                    let prefix = (prefix.network().to_bits(), prefix.prefix());
                    resolver.v6.entry(prefix).or_default().push(route);
                }
            }
        }
        // Stable: among equal metrics the kernel's order stays.
        resolver.v4.values_mut().for_each(|routes| routes.sort_by_key(|route| route.metric));
        resolver.v6.values_mut().for_each(|routes| routes.sort_by_key(|route| route.metric));
        resolver
    }

    /// Finds the path to `destination`.
    ///
    /// # Errors
    ///
    /// Says what is missing; see [`PathError`].
    pub fn resolve(&self, destination: IpAddr) -> Result<Path, PathError> {
        let Hop { link, next_hop, route, via: _ } = self.hop(destination)?;
        let source_mac = link.mac.ok_or_else(|| PathError::Device {
            device: link.name.clone(),
            reason: "it has no Ethernet address".into(),
        })?;
        let neighbour = self.facts.neighbours.get(&(link.index, next_hop)).filter(|found| found.valid);
        let destination_mac = neighbour.and_then(|found| found.mac).ok_or_else(|| PathError::Unresolved {
            next_hop,
            device: link.name.clone(),
            ifindex: link.index,
        })?;
        let source = self
            .sources
            .choose(route.source, link.index, next_hop, destination)
            .ok_or(PathError::NoSource(destination))?;
        let mtu = route.mtu.filter(|&mtu| mtu > 0).unwrap_or(u32::MAX).min(link.mtu);
        Ok(Path {
            device: link.name.clone(),
            ifindex: link.index,
            mtu,
            next_hop,
            destination_mac,
            source_mac,
            source,
        })
    }

    /// Finds the first step towards `destination`, whether or not its MAC is known.
    ///
    /// # Errors
    ///
    /// [`PathError::Local`], [`PathError::Broadcast`], [`PathError::NoRoute`], or [`PathError::Device`] when the link is
    /// down or gone.
    pub fn hop(&self, destination: IpAddr) -> Result<Hop<'f>, PathError> {
        if destination.is_loopback() || self.own.contains(&destination) {
            return Err(PathError::Local(destination));
        }
        if self.broadcasts.contains(&destination) {
            return Err(PathError::Broadcast(destination));
        }
        if destination.is_multicast() || destination.is_unspecified() {
            return Err(PathError::NoRoute(destination));
        }
        let route = self.route(destination).ok_or(PathError::NoRoute(destination))?;
        let RouteAction::Forward(hops) = &route.action else {
            return Err(PathError::NoRoute(destination));
        };
        let chosen = self.one_of(hops, destination).ok_or(PathError::NoRoute(destination))?;
        let link = self.facts.links.get(&chosen.link).ok_or_else(|| PathError::Device {
            device: format!("interface {}", chosen.link),
            reason: "it is gone".into(),
        })?;
        if !link.up {
            return Err(PathError::Device { device: link.name.clone(), reason: "it is down".into() });
        }
        let via = chosen.via.filter(|via| !via.is_unspecified());
        Ok(Hop { link, via, next_hop: via.unwrap_or(destination), route })
    }

    /// The route that decides: of the longest prefix the lowest metric; one whose next hops are all dead is passed
    /// over, as the kernel does.
    fn route(&self, destination: IpAddr) -> Option<&'f Route> {
        let alive = |routes: &Vec<&'f Route>| routes.iter().copied().find(|route| is_alive(route));
        match destination {
            IpAddr::V4(address) => {
                let address = (address.to_bits(), 32);
                match self.v4.get_lpm(&address).map(|(_, routes)| alive(routes))? {
                    Some(route) => Some(route),
                    None => self.v4.cover(&address).filter_map(|(_, routes)| alive(routes)).last(),
                }
            }
            IpAddr::V6(address) => {
                let address = (address.to_bits(), 128);
                match self.v6.get_lpm(&address).map(|(_, routes)| alive(routes))? {
                    Some(route) => Some(route),
                    None => self.v6.cover(&address).filter_map(|(_, routes)| alive(routes)).last(),
                }
            }
        }
    }

    /// One next hop of several, always the same for the same destination, in proportion to the weights.
    fn one_of(&self, hops: &'f [NextHop], destination: IpAddr) -> Option<&'f NextHop> {
        if let [only] = hops {
            return Some(only);
        }
        let is_up = |hop: &&NextHop| self.facts.links.get(&hop.link).is_some_and(|link| link.up);
        let usable: Vec<&NextHop> = hops.iter().filter(is_up).collect();
        let total: u64 = usable.iter().map(|hop| u64::from(hop.weight)).sum();
        if total == 0 {
            return hops.first();
        }
        let mut at = match destination {
            IpAddr::V4(address) => xxhash_rust::xxh3::xxh3_64(&address.octets()),
            IpAddr::V6(address) => xxhash_rust::xxh3::xxh3_64(&address.octets()),
        } % total;
        usable.into_iter().find(|hop| match at.checked_sub(u64::from(hop.weight)) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        })
    }
}

/// The broadcast address of an address's network; none for IPv6, and where RFC 3021 leaves no address for it.
fn broadcast(own: &Address) -> Option<IpAddr> {
    match IpNetwork::new(own.address, own.prefix_len) {
        Ok(IpNetwork::V4(network)) if network.prefix() < 31 => Some(network.broadcast().into()),
        _ => None,
    }
}

/// Whether the route still decides about packets.
fn is_alive(route: &Route) -> bool {
    !matches!(&route.action, RouteAction::Forward(hops) if hops.is_empty())
}

#[cfg(test)]
mod tests;
