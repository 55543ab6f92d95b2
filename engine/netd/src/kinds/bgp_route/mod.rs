//! Routes that BGP peers sent, in the routing tables that the file chose for them.
//!
//! Key: that of a route, the prefix and the table. Mark of ownership: protocol 177 with the metric
//! [`METRIC_RECEIVED`], in every table. They are there as long as the session is, and
//! while gobgpd cannot be asked they stay as they are. Of two peers that sent one prefix for the same table, the one with
//! the lower address is followed.

use super::bgp_peer::peers_of;
use super::route::{METRIC_RECEIVED, PROTOCOL, RouteSpec, Way, key};
use crate::facts::{Facts, Hop, PathResolver};
use ipnetwork::IpNetwork;
use netd_core::{DesiredKind, KindName};
use netd_schema::Config;
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
    let mut wanted: BTreeMap<(u32, IpNetwork), IpAddr> = BTreeMap::new();
    let mut peers = peers_of(config, facts);
    peers.sort_by_key(|peer| peer.address);
    for peer in peers {
        let Some(table) = peer.import else { continue };
        let received = facts.received.0.as_ref().map_err(Clone::clone)?;
        for (&prefix, &next_hop) in received.get(&peer.address).into_iter().flat_map(|routes| routes.iter()) {
            wanted.entry((table, prefix)).or_insert(next_hop);
        }
    }
    if wanted.is_empty() {
        return Ok(desired);
    }
    let resolver = PathResolver::new(facts);
    for ((table, prefix), router) in wanted {
        let key = key(prefix, table);
        if prefix.is_ipv6() && router.is_ipv4() {
            desired.held.insert(key, format!("its next hop {router} is no IPv6 address"));
            continue;
        }
        match resolver.hop(router) {
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

#[cfg(test)]
mod tests;
