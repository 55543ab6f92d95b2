//! What follows from the file for device, peers, routes and rules; and what waits.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::facts::{Facts, Link, NextHop, Route, RouteAction, TABLE_MAIN};
use crate::fake;
use crate::kinds::route::PROTOCOL;
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
    Link {
        index,
        name: name.into(),
        mac: None,
        mtu,
        up: true,
        kind: kind.into(),
        alias: if name.starts_with("netd_") { "netd:default".into() } else { String::new() },
        xdp: None,
    }
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
        facts.addresses.push(fake::address(2, address, prefix_len));
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
fn no_route_leads_into_a_device_of_somebody_elses_that_has_the_name() {
    let mut facts = facts(BOTH, true);
    facts.links.get_mut(&7).unwrap().alias = String::new();
    let desired = wireguard_route::desired(&usual(""), &facts).unwrap();
    assert!(encrypted(&desired).iter().all(|line| line.starts_with("unreachable")));
    assert!(desired.held.values().all(|why| why == "netd_wg0 is not there yet, or not up"));
}

/// A route of netd's.
fn own_route(prefix: &str, table: u32, link: u32) -> Route {
    let action = RouteAction::Forward(vec![NextHop { link, via: None, weight: 1 }]);
    let (destination, source, mtu) = (prefix.parse().unwrap(), None, None);
    Route { destination, table, metric: 0, protocol: PROTOCOL, action, source, mtu }
}

#[test]
fn w7_a_device_and_its_peers_stay_as_long_as_routes_lead_into_it() {
    let config = usual("generation = 1");
    let stay = |facts: &Facts| {
        let device = wireguard_device::desired(&config, facts).unwrap();
        let peers = wireguard_peer::desired(&config, facts).unwrap();
        (device.held.contains_key("netd_wg0"), peers.stays.is_some())
    };
    let mut facts = facts(BOTH, true);
    facts.routes_elsewhere.push(own_route("10.244.2.0/24", 201, 7));
    assert_eq!(stay(&facts), (true, true));
    facts.links.insert(8, link(8, "netd_wg0b", "wireguard", 1420));
    facts.routes_elsewhere = vec![own_route("10.244.2.0/24", 201, 8)];
    assert_eq!(stay(&facts), (false, false));
}

#[test]
fn where_a_tunnel_is_encrypted_the_main_table_refuses_what_it_does_not_take() {
    let overlay = usual("mode = \"overlay\"\n[network]\nmode = \"vxlan\"");
    let found = lines(&wireguard_route::desired(&overlay, &facts(BOTH, false)).unwrap());
    for prefix in ["10.244.2.0/24", "fd00:244:2::/64"] {
        assert!(found.contains(&format!("unreachable {prefix}: unreachable")), "{found:?}");
    }
    // A node without a key gets its packets in clear.
    let other = config("mode = \"overlay\"\n[network]\nmode = \"vxlan\"", &key(0), "");
    assert!(lines(&wireguard_route::desired(&other, &facts(BOTH, false)).unwrap()).is_empty());
    let found = lines(&wireguard_route::desired(&usual(""), &facts(BOTH, false)).unwrap());
    assert!(found.iter().all(|line| line.contains("table 201")), "{found:?}");
}

#[test]
fn rules_of_before_stay_until_every_pods_packets_go_in_the_tunnel_that_is_encrypted() {
    let overlay = usual("mode = \"overlay\"\n[network]\nmode = \"geneve\"");
    let stays = |config: &Config, facts: &Facts| {
        let stays = |desired: DesiredKind| desired.stays.is_some();
        (
            stays(rule::desired(config, facts).unwrap()),
            stays(wireguard_route::desired(config, facts).unwrap()),
        )
    };
    let mut facts = facts(BOTH, true);
    assert_eq!(stays(&overlay, &facts), (false, false), "nothing leads anywhere");
    facts.routes.push(own_route("10.244.2.0/24", TABLE_MAIN, 2));
    assert_eq!(stays(&overlay, &facts), (true, true));
    assert_eq!(
        stays(&usual(""), &facts),
        (false, false),
        "what pods send is encrypted whichever way it goes"
    );
    facts.links.insert(9, link(9, "netd_geneve", "geneve", 1350));
    assert_eq!(stays(&overlay, &facts), (false, false), "the routes change before any rule goes");
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

/// What this node has while keys change: its devices and its peers.
fn standing(config: &Config) -> Vec<String> {
    let facts = facts(BOTH, true);
    let devices = wireguard_device::desired(config, &facts).unwrap();
    let peers = wireguard_peer::desired(config, &facts).unwrap();
    [lines(&devices), lines(&peers)].concat()
}

fn fingerprint(number: usize) -> String {
    let text = KEYS[number];
    let config = usual("");
    let mut nodes = config.nodes.into_iter().chain(self::config("", &key(2), "").nodes);
    let found = nodes.find_map(|node| {
        let key = netd_wireguard::PublicKey::from_bytes(node.wireguard.public_key?.0);
        (key.to_base64() == text).then(|| key.fingerprint().to_string())
    });
    found.unwrap()
}

#[test]
fn w7_while_a_node_changes_its_key_both_are_taken_each_at_a_device_of_its_own() {
    let two = format!("{}, next_public_key = \"{}\"", key(1), KEYS[2]);
    let [own, old, new] = [0, 1, 2].map(fingerprint);
    let allowed = "10.244.2.0/24, fd00:244:2::/64";
    let expected = [
        format!("netd_wg0: WireGuard, auto device, UDP port 51871, MTU 1420, key {own}"),
        format!("netd_wg0b: WireGuard, auto device, UDP port 51872, MTU 1420, key {own}"),
        format!("netd_wg0 {old}: b at 10.0.0.2:51871: {allowed}"),
        format!("netd_wg0b {new}: b at 10.0.0.2:51872: {allowed}"),
    ];
    assert_eq!(standing(&config("", &key(0), &two)), expected);
    // The node itself has its own two keys there.
    let mine = format!("{}, next_public_key = \"{}\"", key(0), KEYS[2]);
    let found = standing(&config("", &mine, &key(1)));
    assert!(found[0].ends_with(&own) && found[1].ends_with(&new), "{found:?}");
}

#[test]
fn w7_when_keys_are_swapped_only_routes_change() {
    let two =
        |present: usize, other: usize| format!("{}, next_public_key = \"{}\"", key(present), KEYS[other]);
    for (before, after) in [
        (config("", &key(0), &two(1, 2)), config("generation = 1", &key(0), &two(2, 1))),
        (config("generation = 7", &two(0, 2), &key(1)), config("generation = 8", &two(2, 0), &key(1))),
    ] {
        assert_eq!(standing(&before), standing(&after));
        let mut facts = facts(BOTH, true);
        facts.links.insert(8, link(8, "netd_wg0b", "wireguard", 1420));
        let ways = |config: &Config| {
            let found = encrypted(&wireguard_route::desired(config, &facts).unwrap());
            found.into_iter().filter(|line| line.contains("dev")).collect::<Vec<_>>().join(" ")
        };
        let by_second = |config: &Config| config.wireguard.as_ref().unwrap().generation % 2 == 1;
        for config in [&before, &after] {
            assert_eq!(ways(config).contains("dev netd_wg0b"), by_second(config), "{}", ways(config));
            assert_eq!(ways(config).contains("dev netd_wg0 "), !by_second(config), "{}", ways(config));
        }
    }
    // The old key is retired with its device.
    let found = standing(&config("generation = 1", &key(0), &key(2)));
    assert!(found.len() == 2 && found.iter().all(|line| line.starts_with("netd_wg0b")), "{found:?}");
}

#[test]
fn a_second_device_is_called_unlike_the_first_however_long_its_name() {
    for (first, second) in [
        ("netd_wg0", "netd_wg0b"),
        ("fifteen_letters", "fifteen_letterb"),
        ("fourteen_ends_b", "fourteen_ends_c"),
    ] {
        let config = usual(&format!("interface = \"{first}\"\ngeneration = 1"));
        assert_eq!(
            wireguard_device::desired(&config, &facts(BOTH, true))
                .unwrap()
                .table
                .keys()
                .next()
                .unwrap()
                .as_str(),
            second
        );
    }
}

#[test]
fn in_an_overlay_only_the_tunnels_packets_are_encrypted_and_fit_inside() {
    let overlay =
        |more: &str| usual(&format!("mode = \"overlay\"\n{more}\n[network]\nmode = \"vxlan\"\nport = 4789"));
    let (config, facts) = (overlay(""), facts(BOTH, true));
    let found = standing(&config);
    assert!(found[1].ends_with("b at 10.0.0.2:51871: 10.0.0.2/32, 2001:db8::2/128"), "{found:?}");
    let rules = rule::desired(&config, &facts).unwrap();
    let keys: Vec<String> = rules.table.keys().map(ToString::to_string).collect();
    let expected = ["1 ipv4 ipproto udp dport 4789 lookup 201", "1 ipv6 ipproto udp dport 4789 lookup 201"];
    assert_eq!(keys, expected);
    for (settings, mtu) in [("", 1370), ("mtu = 1400", 1350)] {
        let device = crate::kinds::link::desired(&overlay(settings), &facts).unwrap();
        assert!(lines(&device)[0].ends_with(&format!("MTU {mtu}")), "{:?}", lines(&device));
    }
}

#[test]
fn an_mtu_that_does_not_fit_is_noted() {
    let device = wireguard_device::desired(&usual("mtu = 1421"), &facts(BOTH, true)).unwrap();
    let expected = "its MTU is 1421, and eth0 leaves 1420: larger packets come in pieces or not at all";
    assert_eq!(device.notes.values().collect::<Vec<_>>(), [expected]);
    assert!(wireguard_device::desired(&usual("mtu = 1420"), &facts(BOTH, true)).unwrap().notes.is_empty());
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
