//! What follows from the file for device, peers, routes and rules; and what waits.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::facts::{Address, Facts, Link, NextHop, Route, RouteAction, TABLE_MAIN};
use crate::kinds::{rule, wireguard_device, wireguard_peer, wireguard_route};
use netd_core::DesiredKind;
use netd_schema::{Config, parse};

const KEYS: [&str; 3] = [
    "AY+uNcRZ5HnNcRgVW2Ujkyj21PWoYMwP+SzdCKLmKSE=",
    "AmriAOKlQrwd7NDRejsjTA6kELLj4ObyanQFqZtM5iE=",
    "AzE7jjzPBIY6LUoXixBmDGnL6Tezqim6SqV948flZyE=",
];

/// Two nodes with keys, whose tables say more, and settings.
fn config(settings: &str, one: &str, two: &str) -> Config {
    let text = format!(
        "version = 1\n[wireguard]\n{settings}\n[[nodes]]\nname = \"a\"\naddresses = [\"10.0.0.1\", \"2001:db8::1\"]\n\
         pod_cidrs = [\"10.244.1.0/24\", \"fd00:244:1::/64\"]\nwireguard = {{ {one} }}\n[[nodes]]\nname = \"b\"\n\
         addresses = [\"10.0.0.2\", \"2001:db8::2\"]\npod_cidrs = [\"10.244.2.0/24\", \"fd00:244:2::/64\"]\n\
         wireguard = {{ {two} }}\n"
    );
    parse("test.toml", text.as_bytes()).unwrap().config
}

fn key(number: usize) -> String {
    format!("public_key = \"{}\"", KEYS[number])
}

fn usual(settings: &str) -> Config {
    config(settings, &key(0), &key(1))
}

fn link(index: u32, name: &str, kind: &str, mtu: u32) -> Link {
    Link { index, name: name.into(), mac: None, mtu, up: true, kind: kind.into(), xdp: None }
}

/// The node a, with ways to these prefixes.
fn facts(prefixes: &[&str], with_device: bool) -> Facts {
    let mut facts = Facts { node: "a".into(), ..Facts::default() };
    facts.links.insert(2, link(2, "eth0", "veth", 1500));
    if with_device {
        facts.links.insert(7, link(7, "netd_wg0", "wireguard", 1420));
    }
    for (address, prefix_len) in [("10.0.0.1", 24), ("2001:db8::1", 64)] {
        let address = address.parse().unwrap();
        facts.addresses.push(Address {
            link: 2,
            address,
            prefix_len,
            usable: true,
            temporary: false,
            global: true,
        });
    }
    let route = |prefix: &&str| Route {
        destination: prefix.parse().unwrap(),
        table: TABLE_MAIN,
        metric: 0,
        protocol: 2,
        action: RouteAction::Forward(vec![NextHop { link: 2, via: None, weight: 1 }]),
        source: None,
        mtu: None,
    };
    facts.routes = prefixes.iter().map(route).collect();
    facts
}

const BOTH: &[&str] = &["10.0.0.0/24", "2001:db8::/64"];

fn lines(desired: &DesiredKind) -> Vec<String> {
    desired.table.iter().map(|(key, spec)| format!("{key}: {}", spec.summary())).collect()
}

fn encrypted(desired: &DesiredKind) -> Vec<String> {
    lines(desired).into_iter().filter(|line| line.contains("table")).collect()
}

#[test]
fn another_node_is_a_peer_with_its_pods_where_it_can_be_reached() {
    let peers = wireguard_peer::desired(&usual(""), &facts(BOTH, true)).unwrap();
    let found = lines(&peers);
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with(": b at 10.0.0.2:51871: 10.244.2.0/24, fd00:244:2::/64"), "{found:?}");
    let peers = wireguard_peer::desired(&usual("port = 9"), &facts(&["2001:db8::/64"], true)).unwrap();
    assert!(lines(&peers)[0].contains("b at [2001:db8::2]:9"), "the family that has a way");
    let peers = wireguard_peer::desired(&usual(""), &facts(&[], true)).unwrap();
    assert!(peers.held.values().next().unwrap().starts_with("node b is not reachable: no route"));
}

#[test]
fn keys_are_in_no_plan() {
    let (config, facts) = (usual("mode = \"nodes\""), facts(BOTH, true));
    for desired in [wireguard_device::desired(&config, &facts), wireguard_peer::desired(&config, &facts)] {
        for (key, spec) in &desired.unwrap().table {
            let said = format!("{key} {} {} {spec:?}", spec.summary(), spec.to_json());
            assert!(KEYS.iter().all(|key| !said.contains(key)), "{said}");
        }
    }
}

#[test]
fn behind_every_way_into_the_device_stands_a_refusal_which_is_there_first() {
    let without = wireguard_route::desired(&usual(""), &facts(BOTH, false)).unwrap();
    let refusals = [
        "unreachable 10.244.2.0/24 table 201: unreachable",
        "unreachable fd00:244:2::/64 table 201: unreachable",
    ];
    assert_eq!(encrypted(&without), refusals);
    assert!(without.held.values().all(|why| why == "netd_wg0 is not there yet, or not up"));
    let with = wireguard_route::desired(&usual(""), &facts(BOTH, true)).unwrap();
    let ways = [
        "10.244.2.0/24 table 201: dev netd_wg0 src 10.0.0.1",
        "fd00:244:2::/64 table 201: dev netd_wg0 src 2001:db8::1",
    ];
    assert_eq!(encrypted(&with), [&ways[..], &refusals[..]].concat());
}

#[test]
fn rules_lead_pods_or_everything_but_the_devices_own_packets_into_the_table() {
    let pods = rule::desired(&usual(""), &facts(BOTH, true)).unwrap();
    let keys = |desired: &DesiredKind| desired.table.keys().map(ToString::to_string).collect::<Vec<_>>();
    let expected = ["1 ipv4 from 10.244.1.0/24 lookup 201", "1 ipv6 from fd00:244:1::/64 lookup 201"];
    assert_eq!(keys(&pods), expected);
    assert!(pods.needs.is_empty(), "they wait for nothing");
    let settings = "mode = \"nodes\"\nmark = 0x7\ntable = 300\nrule_priority = 9";
    let nodes = rule::desired(&usual(settings), &facts(BOTH, true)).unwrap();
    let expected = ["9 ipv4 not fwmark 0x7 lookup 300", "9 ipv6 not fwmark 0x7 lookup 300"];
    assert_eq!(keys(&nodes), expected);
}

#[test]
fn without_a_key_of_its_own_a_node_leads_nothing_into_the_device() {
    let (config, facts) = (config("", "", &key(1)), facts(BOTH, true));
    assert!(rule::desired(&config, &facts).unwrap().table.is_empty());
    assert!(encrypted(&wireguard_route::desired(&config, &facts).unwrap()).is_empty());
    let device = wireguard_device::desired(&config, &facts).unwrap();
    assert_eq!(device.table.len(), 1, "its key is made with it");
    assert!(device.notes.values().next().unwrap().contains("pubkey --write"));
}

#[test]
fn a_node_without_a_key_is_no_peer() {
    let (config, facts) = (config("", &key(0), ""), facts(BOTH, true));
    assert!(wireguard_peer::desired(&config, &facts).unwrap().table.is_empty());
    assert!(rule::desired(&config, &facts).unwrap().table.is_empty());
}

#[test]
fn w7_the_next_key_of_a_node_is_a_peer_without_addresses() {
    let two = format!("{}, next_public_key = \"{}\"", key(1), KEYS[2]);
    let peers = wireguard_peer::desired(&config("", &key(0), &two), &facts(BOTH, true)).unwrap();
    let found = lines(&peers);
    assert_eq!(found.iter().filter(|line| line.ends_with("b at 10.0.0.2:51871, nothing yet")).count(), 1);
    assert_eq!(found.len(), 2);
}

#[test]
fn an_mtu_over_which_ipv6_would_not_work_is_refused_before_anything_changes() {
    let mut facts = facts(BOTH, false);
    facts.links.get_mut(&2).unwrap().mtu = 1359;
    let device = wireguard_device::desired(&usual(""), &facts).unwrap();
    assert!(device.table.is_empty());
    let expected = "packets of 1359 bytes on eth0 leave too little for IPv6 inside of WireGuard: it needs 1280, and 80 \
                    are added";
    assert_eq!(device.held.values().collect::<Vec<_>>(), [expected]);
    facts.links.get_mut(&2).unwrap().mtu = 1360;
    let device = wireguard_device::desired(&usual(""), &facts).unwrap();
    assert!(lines(&device)[0].contains("MTU 1280"), "{:?}", lines(&device));
}
