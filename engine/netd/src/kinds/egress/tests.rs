//! What the file's policies come to on each node.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::facts::{Address, Link, Mac, Neighbour};
use crate::fake::{link, route};
use netd_schema::{
    Egress, EgressGateway, Network, NetworkMode, Node, OnNoGateway, Tunnel, TunnelKind, Underlay,
};

fn node(name: &str, number: u8) -> Node {
    let addresses = [format!("192.168.33.{number}"), format!("2001:db8:33::{number}")];
    let pod_cidrs = [format!("10.244.{number}.0/24"), format!("fd00:244:{number}::/64")];
    Node {
        name: name.into(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        pod_cidrs: pod_cidrs.iter().map(|text| text.parse().unwrap()).collect(),
        ..Node::default()
    }
}

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn policy() -> Egress {
    Egress {
        name: "legacy".into(),
        sources: networks(&["10.244.0.0/16", "fd00:244::/32"]),
        destinations: networks(&["192.168.33.13/32", "2001:db8:33::13/128"]),
        ips: vec!["192.168.33.100".parse().unwrap(), "2001:db8:33::100".parse().unwrap()],
        gateways: vec![EgressGateway { node: "gw".into(), priority: 0 }],
        ..Egress::default()
    }
}

fn config(egress: Vec<Egress>) -> Config {
    Config { nodes: vec![node("gw", 11), node("worker", 12)], egress, ..Config::default() }
}

/// A node whose network is on the link of eth0.
fn facts(name: &str) -> Facts {
    let mut facts = Facts { node: name.into(), ..Facts::default() };
    facts.links.insert(2, Link { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..link(2, "eth0") });
    for prefix in ["192.168.33.0/24", "2001:db8:33::/64"] {
        facts.routes.push(route(prefix.parse().unwrap(), 2, None));
    }
    for gateway in ["192.168.33.11", "2001:db8:33::11"] {
        let known = Neighbour { mac: Some(Mac([2, 0, 0, 0, 0, 11])), valid: true, ..Neighbour::default() };
        facts.neighbours.insert((2, gateway.parse().unwrap()), known);
    }
    facts
}

fn summaries(config: &Config, facts: &Facts) -> BTreeMap<String, String> {
    let desired = desired(config, facts).unwrap();
    desired.table.iter().map(|(key, spec)| (key.to_string(), spec.summary())).collect()
}

fn summary(config: &Config, facts: &Facts, source: &str) -> String {
    summaries(config, facts).remove(source).unwrap()
}

#[test]
fn the_gateway_translates_in_both_families() {
    let (config, facts) = (config(vec![policy()]), facts("gw"));
    let found = summaries(&config, &facts);
    let expected = [
        ("10.244.0.0/16", "to 192.168.33.13/32: leaves here as 192.168.33.100, ports 32768-65535"),
        ("fd00:244::/32", "to 2001:db8:33::13/128: leaves here as 2001:db8:33::100, ports 32768-65535"),
    ];
    assert_eq!(found, expected.map(|(key, text)| (key.to_owned(), text.to_owned())).into());
}

#[test]
fn another_node_sends_to_the_gateway_on_its_link() {
    let (config, facts) = (config(vec![policy()]), facts("worker"));
    let expected = "to 192.168.33.13/32: to the gateway 192.168.33.11 by interface 2";
    assert_eq!(summary(&config, &facts, "10.244.0.0/16"), expected);
    let expected = "to 2001:db8:33::13/128: to the gateway 2001:db8:33::11 by interface 2";
    assert_eq!(summary(&config, &facts, "fd00:244::/32"), expected);
}

#[test]
fn k28_until_the_gateways_ethernet_address_is_known_packets_are_dropped() {
    let (config, mut facts) = (config(vec![policy()]), facts("worker"));
    facts.neighbours.clear();
    let desired = desired(&config, &facts).unwrap();
    assert_eq!(summary(&config, &facts, "10.244.0.0/16"), "to 192.168.33.13/32: dropped");
    assert!(desired.coming.contains("10.244.0.0/16"));
    let note = desired.notes.get("10.244.0.0/16").unwrap();
    assert_eq!(note, "policy legacy: the Ethernet address of node gw (192.168.33.11) is not known yet");
    let hops = crate::egress::next_hops(&config, &facts).unwrap();
    assert_eq!(hops.len(), 2);
}

#[test]
fn in_a_tunnel_both_families_go_to_the_gateways_end() {
    let tunnel = Tunnel { kind: TunnelKind::Vxlan, port: 8472, vni: 7, underlay: Underlay::Auto };
    let network = Network { mode: NetworkMode::Tunnel, tunnel: Some(tunnel), ..Network::default() };
    let config = Config { network, ..config(vec![policy()]) };
    let mut facts = facts("worker");
    facts.links.insert(5, Link { kind: "vxlan".into(), ..link(5, "netd_vxlan") });
    let expected = "to 2001:db8:33::13/128: in tunnel 7 to the gateway 192.168.33.11 by interface 5";
    assert_eq!(summary(&config, &facts, "fd00:244::/32"), expected);
}

#[test]
fn without_a_way_to_the_gateway_packets_are_dropped_and_the_reason_is_told() {
    let config = config(vec![policy()]);
    let mut facts = facts("worker");
    facts.routes.clear();
    let desired = desired(&config, &facts).unwrap();
    assert_eq!(summary(&config, &facts, "10.244.0.0/16"), "to 192.168.33.13/32: dropped");
    let note = desired.notes.get("10.244.0.0/16").unwrap();
    assert!(note.starts_with("policy legacy: node gw (192.168.33.11) is not reachable"), "{note}");
}

#[test]
fn without_a_gateway_packets_get_what_the_policy_says() {
    let none = Egress { gateways: Vec::new(), ..policy() };
    let facts = facts("worker");
    assert_eq!(summary(&config(vec![none.clone()]), &facts, "10.244.0.0/16"), "to 192.168.33.13/32: dropped");
    let pass = Egress { on_no_gateway: OnNoGateway::Pass, ..none };
    assert_eq!(summaries(&config(vec![pass]), &facts), BTreeMap::new());
}

#[test]
fn what_is_in_the_cluster_is_not_taken_unless_asked() {
    let everywhere = Egress { destinations: networks(&["0.0.0.0/0"]), ..policy() };
    let facts = facts("gw");
    let found = desired(&config(vec![everywhere.clone()]), &facts).unwrap();
    let spec = found.table.get("10.244.0.0/16").unwrap().as_any().downcast_ref::<EgressSpec>().unwrap();
    let passed: Vec<String> =
        spec.rules.iter().filter(|(_, rule)| **rule == Rule::Pass).map(|(to, _)| to.to_string()).collect();
    let expected = [
        "10.244.11.0/24",
        "10.244.12.0/24",
        "169.254.0.0/16",
        "192.168.33.11/32",
        "192.168.33.12/32",
        "224.0.0.0/4",
    ];
    assert_eq!(passed, expected);
    let all = Egress { in_cluster: true, ..everywhere };
    let expected = "to 0.0.0.0/0: leaves here as 192.168.33.100, ports 32768-65535";
    assert_eq!(summary(&config(vec![all]), &facts, "10.244.0.0/16"), expected);
}

#[test]
fn overlaps_are_noted_with_the_reason_for_the_choice() {
    let other = Egress {
        name: "ancient".into(),
        sources: networks(&["10.244.0.0/16"]),
        ips: vec!["192.168.33.101".parse().unwrap()],
        destinations: networks(&["192.168.33.13/32"]),
        ..policy()
    };
    let desired = desired(&config(vec![other, policy()]), &facts("gw")).unwrap();
    let note = desired.notes.get("10.244.0.0/16").unwrap();
    assert_eq!(note, "policy ancient goes before legacy, by its name alone");
}

#[test]
fn a_gateway_that_does_not_know_yet_who_lives_gives_packets_no_address_that_it_has_not() {
    let gateways =
        ["gw", "worker"].map(|node| EgressGateway { node: node.into(), priority: u16::from(node == "gw") });
    let shared = Egress { gateways: gateways.into(), ..policy() };
    let config =
        Config { egress_failover: Some(netd_schema::EgressFailover::default()), ..config(vec![shared]) };
    let mut facts = facts("gw");
    assert_eq!(summary(&config, &facts, "10.244.0.0/16"), "to 192.168.33.13/32: dropped");
    for address in config.egress.iter().flat_map(|policy| &policy.ips) {
        facts.addresses.push(Address {
            link: 2,
            address: *address,
            prefix_len: if address.is_ipv4() { 32 } else { 128 },
            usable: true,
            temporary: false,
            global: true,
        });
    }
    let kept = "to 192.168.33.13/32: leaves here as 192.168.33.100, ports 32768-65535";
    assert_eq!(summary(&config, &facts, "10.244.0.0/16"), kept);
}
