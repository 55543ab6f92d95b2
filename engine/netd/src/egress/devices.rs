//! By which devices packets of egress policies could leave the node: a program has to be on each of them.

use super::compile::contains;
use super::{cluster, never_taken};
use crate::facts::{Facts, Link, Route, RouteAction};
use ipnetwork::IpNetwork;
use netd_schema::Config;
use std::collections::{BTreeMap, BTreeSet};

/// What carries packets between the nodes, which get to the gateway by it: what leaves by it has been looked at, or is
/// looked at there.
const TUNNELS: [&str; 3] = ["vxlan", "geneve", "wireguard"];

/// The devices to which the node's routes lead from the destinations of policies, except those to what is in the cluster.
#[must_use]
pub fn devices(config: &Config, facts: &Facts) -> BTreeSet<String> {
    let destinations: BTreeSet<IpNetwork> =
        config.egress.iter().flat_map(|policy| &policy.destinations).copied().collect();
    if destinations.is_empty() {
        return BTreeSet::new();
    }
    let all_is_taken = config.egress.iter().any(|policy| policy.in_cluster);
    let cluster = if all_is_taken { never_taken().collect() } else { cluster(config) };
    let mut routes: BTreeMap<IpNetwork, Vec<&Route>> = BTreeMap::new();
    for route in &facts.routes {
        routes.entry(route.destination).or_default().push(route);
    }
    // What lies inside a destination is meant, and what each destination lies in.
    let inside = routes.keys().filter(|to| outer(**to).any(|outer| destinations.contains(&outer)));
    let around = destinations.iter().filter_map(|to| outer(*to).find(|outer| routes.contains_key(outer)));
    let meant: BTreeSet<IpNetwork> = inside.copied().chain(around).collect();
    let is_outside = |to: &&IpNetwork| !cluster.iter().any(|prefix| contains(*prefix, **to));
    let leading = meant.iter().filter(is_outside).filter_map(|to| routes.get(to)).flatten();
    let links = leading.flat_map(|route| hops(route)).filter_map(|index| facts.links.get(&index));
    links.filter(|link| is_looked_at(link)).map(|link| link.name.clone()).collect()
}

/// The prefixes that hold this one, itself first.
fn outer(prefix: IpNetwork) -> impl Iterator<Item = IpNetwork> {
    (0..=prefix.prefix()).rev().filter_map(move |length| {
        let around = IpNetwork::new(prefix.network(), length).ok()?;
        IpNetwork::new(around.network(), length).ok()
    })
}

fn hops(route: &Route) -> Vec<u32> {
    match &route.action {
        RouteAction::Forward(hops) => hops.iter().map(|hop| hop.link).collect(),
        RouteAction::Tunnel(..) | RouteAction::Discard | RouteAction::Other => Vec::new(),
    }
}

/// Programs read behind an Ethernet header.
fn is_looked_at(link: &Link) -> bool {
    link.mac.is_some() && !TUNNELS.contains(&link.kind.as_str())
}
