//! By which devices packets of egress policies could leave the node: a program has to be on each of them.

use super::compile::contains;
use super::{cluster, never_taken, uplink};
use crate::facts::{Facts, Link, Route, RouteAction};
use crate::kinds::this_node;
use crate::reach::{Leg, Reach};
use crate::wireguard::Mesh;
use ipnetwork::IpNetwork;
use netd_schema::{Config, Egress};
use std::collections::{BTreeMap, BTreeSet};

/// What carries packets between the nodes, which get to the gateway by it: what leaves by it has been looked at, or is
/// looked at there.
const TUNNELS: [&str; 2] = ["vxlan", "geneve"];

/// The devices that packets of policies could leave by, or their answers come by.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Those with Ethernet headers: a program has to be there.
    pub looked_at: BTreeSet<String>,
    /// Those without: what leaves by them is not covered.
    pub passed_over: BTreeSet<String>,
}

/// The devices to which the node's routes lead from the destinations of policies, except those to what is in the cluster;
/// those of the egress addresses that the node has or may have; and those to gateways on link, by which packets leave again.
#[must_use]
pub fn devices(config: &Config, facts: &Facts) -> Devices {
    let mut found = Devices::default();
    let links = leading(config, facts).into_iter().filter_map(|index| facts.links.get(&index));
    // Also before it is this node's turn: the programs are there then.
    let me = this_node(config, facts).ok().flatten().map(|me| me.name.as_str());
    let may_have = |policy: &&Egress| policy.gateways.iter().any(|gateway| Some(gateway.node.as_str()) == me);
    let addresses = config.egress.iter().filter(may_have).flat_map(|policy| &policy.ips);
    let uplinks = addresses.filter_map(|address| uplink(facts, *address));
    let mesh = Mesh::of(config, facts).ok().flatten().map(|mesh| mesh.lanes()).unwrap_or_default();
    for link in links.chain(uplinks).chain(to_gateways(config, facts)) {
        let is_between_nodes =
            TUNNELS.contains(&link.kind.as_str()) || mesh.iter().any(|lane| lane.interface == link.name);
        match link.mac {
            _ if is_between_nodes => false,
            Some(_) => found.looked_at.insert(link.name.clone()),
            None => found.passed_over.insert(link.name.clone()),
        };
    }
    found
}

/// By which devices, by their indices, the node's routes lead from the destinations.
fn leading(config: &Config, facts: &Facts) -> BTreeSet<u32> {
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
    leading.flat_map(|route| hops(route)).collect()
}

/// The links of gateways that packets are sent to directly, in force or not.
fn to_gateways<'f>(config: &'f Config, facts: &'f Facts) -> Vec<&'f Link> {
    let Ok(Some(reach)) = Reach::new(config, facts) else { return Vec::new() };
    let mut links = BTreeMap::new();
    for policy in &config.egress {
        for gateway in policy.gateways.iter().filter_map(|gateway| config.node(&gateway.node)) {
            for ip in policy.ips.iter().filter(|_| !reach.is_me(gateway)) {
                if let Ok(Leg::Direct { link, .. }) = reach.leg(gateway, IpNetwork::from(*ip)) {
                    links.insert(link.index, link);
                }
            }
        }
    }
    links.into_values().collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::facts::Mac;
    use crate::fake::{self, link, route};
    use netd_schema::{EgressGateway, Node};

    /// Node "gw" is the gateway; "worker" has it on link.
    fn config() -> Config {
        let node = |name: &str, address: &str| Node {
            name: name.into(),
            addresses: vec![address.parse().unwrap()],
            ..Node::default()
        };
        let policy = Egress {
            name: "legacy".into(),
            sources: vec!["10.244.0.0/16".parse().unwrap()],
            destinations: vec!["203.0.113.0/24".parse().unwrap()],
            ips: vec!["192.168.33.100".parse().unwrap()],
            gateways: vec![EgressGateway { node: "gw".into(), priority: 0 }],
            ..Egress::default()
        };
        let nodes = vec![node("gw", "10.0.0.1"), node("worker", "10.0.0.2")];
        Config { nodes, egress: vec![policy], ..Config::default() }
    }

    /// A default route by eth0, the nodes' link eth1, and eth2 in the network of the egress address.
    fn facts(name: &str, own: &str) -> Facts {
        let mut facts = Facts { node: name.into(), ..Facts::default() };
        for (index, device) in [(2, "eth0"), (3, "eth1"), (4, "eth2")] {
            let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
            facts.links.insert(index, Link { mac, up: true, ..link(index, device) });
        }
        facts.routes.push(route("0.0.0.0/0".parse().unwrap(), 2, Some("10.9.0.254".parse().unwrap())));
        facts.routes.push(route("10.0.0.0/24".parse().unwrap(), 3, None));
        for (link, address) in [(3, own), (4, "192.168.33.7")] {
            let address = address.parse().unwrap();
            facts.addresses.push(fake::address(link, address, 24));
        }
        facts
    }

    fn looked_at(facts: &Facts) -> Vec<String> {
        devices(&config(), facts).looked_at.into_iter().collect()
    }

    #[test]
    fn the_gateway_looks_at_the_device_that_answers_to_the_egress_address_come_by() {
        assert_eq!(looked_at(&facts("gw", "10.0.0.1")), ["eth0", "eth2"]);
    }

    #[test]
    fn another_node_looks_at_the_device_that_packets_go_to_the_gateway_by() {
        assert_eq!(looked_at(&facts("worker", "10.0.0.2")), ["eth0", "eth1"]);
    }

    #[test]
    fn a_device_without_ethernet_headers_is_named() {
        let mut facts = facts("gw", "10.0.0.1");
        facts.links.insert(5, link(5, "tun0"));
        facts.routes.push(route("203.0.113.128/25".parse().unwrap(), 5, None));
        let found = devices(&config(), &facts);
        assert_eq!(found.passed_over, BTreeSet::from(["tun0".to_owned()]));
        assert!(!found.looked_at.contains("tun0"));
    }
}
