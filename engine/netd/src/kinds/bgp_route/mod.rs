//! Routes that BGP peers sent, in the routing tables that the file chose for them.
//!
//! Key: that of a route, the prefix and the table. Mark of ownership: protocol 177 with the metric
//! [`METRIC_RECEIVED`], in every table. They are there as long as the session is, and
//! while gobgpd cannot be asked they stay as they are. Of two peers that sent one prefix for the same table, the one with
//! the lower address is followed. What is not taken is a note on the peer: what nobody has a route to, what is inside
//! VIPs, pools and pod prefixes of the file, and what this node itself announces. A next hop is looked up among routes
//! that no peer sent (RFC 4271, 9.1.2.1): a route that leads to its own next hop would hold itself up.

mod refused;

use super::bgp_path::aggregates;
use super::bgp_peer::peers_of;
use super::route::{METRIC_RECEIVED, PROTOCOL, RouteSpec, Way, is_received, key};
use crate::facts::{Facts, Hop, PathError, PathResolver};
use ipnetwork::IpNetwork;
use netd_core::{DesiredKind, Key, KindName};
use netd_schema::Config;
use refused::Refused;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The kind's name.
pub const NAME: KindName = "bgp_route";

/// The routes that the file asks for, of those that peers sent.
///
/// # Errors
///
/// What peers sent is not known.
pub fn desired(config: &Config, facts: &Facts) -> Result<DesiredKind, String> {
    let mut desired = DesiredKind::default();
    let mut wanted: BTreeMap<(u32, IpNetwork), Sent> = BTreeMap::new();
    let mut peers = peers_of(config, facts);
    peers.sort_by_key(|peer| peer.address);
    if peers.iter().all(|peer| peer.import.is_none()) {
        return Ok(desired);
    }
    let received = facts.received.0.as_ref().map_err(Clone::clone)?;
    let refused = Refused::of(config, facts);
    for peer in peers {
        let (Some(import), Some(from)) = (peer.import, received.get(&peer.address)) else { continue };
        let choice = refused.choose(import, &from.routes);
        for &(prefix, next_hop) in &choice.taken {
            wanted.entry((import.table, prefix)).or_insert(Sent { next_hop, by: peer.address });
        }
        if let Some(remark) = choice.remark(import, from.left_out, from.unreadable) {
            desired.notes.insert(Key::new(peer.address.to_string()), remark);
        }
    }
    if wanted.is_empty() {
        return Ok(desired);
    }
    let resolver = PathResolver::among(facts, |route| !is_received(route));
    for ((table, prefix), sent) in wanted {
        let (key, router) = (key(prefix, table), sent.next_hop);
        if prefix.is_ipv6() && router.is_ipv4() {
            desired.held.insert(key, format!("its next hop {router} is no IPv6 address"));
            continue;
        }
        match sent.hop(&resolver) {
            Ok(Hop { link, next_hop, .. }) => {
                let way = Way { metric: METRIC_RECEIVED, ..Way::via(next_hop, link, prefix) };
                let spec = RouteSpec { prefix, way, table, protocol: PROTOCOL, surplus: Vec::new() };
                desired.table.insert(key, Arc::new(spec));
            }
            Err(why) => {
                desired.held.insert(key, why.to_string());
            }
        }
    }
    Ok(desired)
}

/// What a peer said of a prefix.
struct Sent {
    next_hop: IpAddr,
    by: IpAddr,
}

impl Sent {
    /// The first step. A link-local address says nothing of its link: it is the one that the peer is on (RFC 2545, 3).
    fn hop<'f>(&self, resolver: &PathResolver<'f>) -> Result<Hop<'f>, PathError> {
        let is_link_local = matches!(self.next_hop, IpAddr::V6(hop) if hop.is_unicast_link_local());
        if !is_link_local {
            return resolver.hop(self.next_hop);
        }
        match resolver.hop(self.by)? {
            hop if hop.via.is_none() => Ok(Hop { next_hop: self.next_hop, ..hop }),
            _ => Err(PathError::NoRoute(self.next_hop)),
        }
    }
}

#[cfg(test)]
mod tests;
