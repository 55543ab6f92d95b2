//! Which programs follow from a file and the facts, and what they go by.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::fake;
use netd_bpf::overlay::Way;
use std::collections::BTreeMap;
use std::net::IpAddr;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(network: &str) -> Config {
    let text = format!(
        "version = 1\n\
         nodes = [\n\
         {{ name = \"a\", addresses = [\"10.0.0.1\", \"2001:db8::1\"], pod_cidrs = [\"10.244.1.0/24\"] }},\n\
         {{ name = \"b\", addresses = [\"10.0.0.2\", \"2001:db8::2\"], pod_cidrs = [\"10.244.2.0/24\"] }},\n\
         {{ name = \"c\", addresses = [\"10.0.9.3\"], pod_cidrs = [\"10.244.3.0/24\", \"fd00:244:3::/64\"] }},\n\
         ]\n[network]\n{network}\n"
    );
    netd_schema::parse("test.toml", text.as_bytes()).unwrap().config
}

/// Node a, with c behind a router, a tunnel device, and two pods, of which one is behind a veth.
fn facts() -> Facts {
    let route =
        |prefix: &str, link, via: Option<&str>| fake::route(prefix.parse().unwrap(), link, via.map(ip));
    let link = |index, name: &str, kind: &str| Link { kind: kind.into(), ..fake::link(index, name) };
    let links = [
        link(2, "eth0", ""),
        link(3, "netd_vxlan", "vxlan"),
        link(4, "lxc1", "veth"),
        link(5, "lxc2", "macvlan"),
        link(6, "other", "veth"),
    ];
    Facts {
        node: "a".into(),
        links: links.into_iter().map(|link| (link.index, link)).collect(),
        routes: vec![
            route("10.0.0.0/24", 2, None),
            route("2001:db8::/64", 2, None),
            route("0.0.0.0/0", 2, Some("10.0.0.254")),
            route("10.244.1.4/32", 4, None),
            route("fd00:244:1::4/128", 4, None),
            route("10.244.1.5/32", 5, None),
            route("10.244.1.6/32", 6, None),
            route("10.244.1.64/26", 4, None),
        ],
        ..Facts::default()
    }
}

fn specs(network: &str) -> BTreeMap<String, OverlaySpec> {
    let desired = desired(&config(network), &facts()).unwrap();
    let spec = |spec: &Arc<dyn netd_core::Spec>| spec.as_any().downcast_ref::<OverlaySpec>().unwrap().clone();
    desired.table.iter().map(|(key, it)| (key.to_string(), spec(it))).collect()
}

#[test]
fn the_tunnel_device_takes_packets_of_the_other_nodes_only() {
    let specs = specs("mode = \"vxlan\"\nvni = 7");
    let [(device, spec)] = specs.into_iter().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((device.as_str(), spec.role, spec.ifindex), ("netd_vxlan", Role::Receive, 3));
    assert_eq!((spec.rules.vni, spec.rules.ways.len(), spec.rules.pods.len()), (7, 0, 0));
    assert_eq!(spec.rules.peers.iter().copied().collect::<Vec<_>>(), [ip("10.0.0.2"), ip("10.0.9.3")]);
}

#[test]
fn pods_are_addresses_with_a_route_of_their_own_by_a_veth_that_is_named() {
    let specs = specs("mode = \"vxlan\"\npod_devices = [\"lxc*\"]");
    let roles: Vec<(&str, Role)> = specs.iter().map(|(key, spec)| (key.as_str(), spec.role)).collect();
    assert_eq!(roles, [("lxc1", Role::Send), ("lxc2", Role::Send), ("netd_vxlan", Role::Receive)]);
    let pods = specs["netd_vxlan"].rules.pods.clone();
    assert_eq!(pods, BTreeMap::from([(ip("10.244.1.4"), 4), (ip("fd00:244:1::4"), 4)]));
}

#[test]
fn across_subnets_packets_are_sent_in_the_tunnel_and_directly_elsewhere() {
    let specs = specs("mode = \"cross-subnet\"\npod_devices = [\"lxc1\"]");
    let ways = &specs["lxc1"].rules.ways;
    let tunnel = Way::Tunnel { local: None, remote: ip("10.0.9.3"), ifindex: 3 };
    let expected = [
        ("10.244.2.0/24", Way::Direct { via: ip("10.0.0.2"), ifindex: 2 }),
        ("10.244.3.0/24", tunnel),
        ("fd00:244:3::/64", tunnel),
    ];
    assert_eq!(*ways, expected.into_iter().map(|(prefix, way)| (prefix.parse().unwrap(), way)).collect());
}

#[test]
fn a_fixed_mtu_is_that_of_what_goes_past_the_stack() {
    let of = |network: &str| specs(network)["lxc1"].rules.mtu;
    assert_eq!(of("pod_devices = [\"lxc1\"]\nmtu = 1400"), Some(1400));
    assert_eq!(of("pod_devices = [\"lxc1\"]"), None);
}

#[test]
fn without_a_tunnel_and_devices_of_pods_there_is_nothing() {
    assert!(specs("mode = \"direct\"").is_empty());
    let devices: Vec<String> = specs("mode = \"direct\"\npod_devices = [\"lxc1\"]").into_keys().collect();
    assert_eq!(devices, ["lxc1"]);
}

#[test]
fn what_is_encrypted_has_no_way_past_the_stack() {
    let mut config = config("mode = \"cross-subnet\"\npod_devices = [\"lxc1\"]");
    config.wireguard = Some(netd_schema::Wireguard::default());
    for (node, byte) in config.nodes.iter_mut().zip([1, 2]) {
        node.wireguard.public_key = Some(netd_schema::PublicKey([byte; 32]));
    }
    let desired = desired(&config, &facts()).unwrap();
    let spec = desired.table.get("lxc1").unwrap().as_any().downcast_ref::<OverlaySpec>().unwrap();
    // Node b has a key, c has none.
    let ways: Vec<String> = spec.rules.ways.keys().map(ToString::to_string).collect();
    assert_eq!(ways, ["10.244.3.0/24", "fd00:244:3::/64"]);
}

#[test]
fn into_a_tunnel_that_is_to_be_encrypted_there_is_a_way_once_its_packets_are_led_into_wireguard() {
    let mut config = config("mode = \"vxlan\"\npod_devices = [\"lxc1\"]");
    let mode = netd_schema::WireguardMode::Overlay;
    config.wireguard = Some(netd_schema::Wireguard { mode, ..Default::default() });
    for (node, byte) in config.nodes.iter_mut().zip([1, 2, 3]) {
        node.wireguard.public_key = Some(netd_schema::PublicKey([byte; 32]));
    }
    let mut facts = facts();
    let ways = |facts: &Facts| {
        let desired = desired(&config, facts).unwrap();
        let spec = desired.table.get("lxc1").unwrap().as_any().downcast_ref::<OverlaySpec>().unwrap();
        spec.rules.ways.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(ways(&facts), [""; 0]);
    let end = config.nodes[1].addresses[0];
    let led = crate::facts::Route { destination: end.into(), table: 201, ..facts.routes[0].clone() };
    facts.routes_elsewhere.push(led);
    assert_eq!(ways(&facts), [""; 0], "nothing asks that table");
    let rules = crate::kinds::rule::desired(&config, &facts).unwrap().table;
    let rules = rules.values().filter_map(|spec| spec.as_any().downcast_ref().cloned());
    facts.rules = rules.collect();
    assert_eq!(ways(&facts), ["10.244.2.0/24"]);
}
