//! Which of its addresses the node would send from: the route's, else the best on the link, else any.

use super::Address;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The node's usable addresses by link.
pub(super) struct Sources<'f> {
    by_link: BTreeMap<u32, Vec<&'f Address>>,
    global: Vec<&'f Address>,
}

impl<'f> Sources<'f> {
    pub(super) fn new(addresses: &'f [Address]) -> Self {
        let mut sources = Self { by_link: BTreeMap::new(), global: Vec::new() };
        for address in addresses.iter().filter(|own| own.usable && !own.address.is_loopback()) {
            sources.by_link.entry(address.link).or_default().push(address);
            if address.global {
                sources.global.push(address);
            }
        }
        sources
    }

    /// The source for packets to `destination` that leave by `link` towards `next_hop`.
    ///
    /// RFC 6724 in the small: the scope must fit, an address in the next hop's subnet is preferred, then the longest
    /// common prefix with the destination; for IPv4 the kernel's order decides instead.
    pub(super) fn choose(
        &self,
        preferred: Option<IpAddr>,
        link: u32,
        next_hop: IpAddr,
        destination: IpAddr,
    ) -> Option<IpAddr> {
        if preferred.is_some_and(|source| source.is_ipv4() == destination.is_ipv4()) {
            return preferred;
        }
        let fits = |own: &&&Address| {
            own.address.is_ipv4() == destination.is_ipv4()
                && (own.global || destination.is_ipv4() || is_link_local(destination))
        };
        let rank = |own: &&&Address| {
            let wrong_subnet = !in_subnet(own, next_hop);
            // Towards a neighbour's link-local address the own link-local one is the natural source.
            let wrong_scope = own.global == is_link_local(destination);
            (wrong_subnet, wrong_scope, Reverse(common_bits(own.address, destination)))
        };
        let on_link = self.by_link.get(&link).into_iter().flatten().filter(fits).min_by_key(rank);
        on_link.or_else(|| self.global.iter().filter(fits).min_by_key(rank)).map(|own| own.address)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn in_subnet(own: &Address, address: IpAddr) -> bool {
    ipnetwork::IpNetwork::new(own.address, own.prefix_len).is_ok_and(|subnet| subnet.contains(address))
}

/// How many leading bits two IPv6 addresses share; 0 for IPv4, where it means nothing.
fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V4(_), _) | (_, IpAddr::V4(_)) => 0,
    }
}
