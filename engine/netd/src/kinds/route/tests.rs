//! Which routes follow from a file and the facts, and which wait.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::facts::{Link, NextHop, Route, RouteAction};
use crate::fake;
use netd_schema::Node;
use std::collections::BTreeMap;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node(name: &str, addresses: &[&str], pod_cidrs: &[&str]) -> Node {
    Node {
        name: name.into(),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        pod_cidrs: pod_cidrs.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        ..Node::default()
    }
}

fn config(nodes: Vec<Node>) -> Config {
    Config { nodes, ..Config::default() }
}

fn me() -> Node {
    node("lb-1", &["10.0.0.11"], &["10.244.1.0/24"])
}

fn route(prefix: &str, via: Option<&str>) -> Route {
    let hop = NextHop { link: 2, via: via.map(ip), weight: 1 };
    Route {
        destination: prefix.parse().unwrap(),
        table: TABLE_MAIN,
        metric: 0,
        protocol: 2,
        action: RouteAction::Forward(vec![hop]),
        source: None,
        mtu: None,
    }
}

fn facts() -> Facts {
    let eth0 = Link {
        index: 2,
        name: "eth0".into(),
        mac: None,
        mtu: 1500,
        up: true,
        kind: "".into(),
        alias: String::new(),
        xdp: None,
    };
    let address = ip("10.0.0.11");
    Facts {
        node: "lb-1".into(),
        links: BTreeMap::from([(2, eth0)]),
        addresses: vec![fake::address(2, address, 24)],
        routes: vec![
            route("10.0.0.0/24", None),
            route("0.0.0.0/0", Some("10.0.0.254")),
            route("2001:db8::/64", None),
        ],
        ..Facts::default()
    }
}

fn table(desired: &DesiredKind) -> Vec<String> {
    let line = |(key, spec): (&Key, &Arc<dyn netd_core::Spec>)| format!("{key} {}", spec.summary());
    desired.table.iter().map(line).collect()
}

fn held(nodes: Vec<Node>, facts: &Facts) -> Vec<String> {
    let desired = desired(&config(nodes), facts).unwrap();
    assert_eq!(table(&desired), Vec::<String>::new());
    desired.held.iter().map(|(key, reason)| format!("{key}: {reason}")).collect()
}

#[test]
fn every_pod_prefix_of_every_other_node_goes_by_the_nodes_first_address_of_the_family() {
    let nodes = vec![
        me(),
        node("lb-2", &["2001:db8::12", "10.0.0.12", "10.0.0.13"], &["10.244.2.0/24", "fd00:244:2::/64"]),
    ];
    let desired = desired(&config(nodes), &facts()).unwrap();
    let expected = ["10.244.2.0/24 via 10.0.0.12 dev eth0", "fd00:244:2::/64 via 2001:db8::12 dev eth0"];
    assert_eq!(table(&desired), expected);
    assert!(desired.held.is_empty());
}

#[test]
fn a_file_without_nodes_asks_for_no_route() {
    assert_eq!(table(&desired(&config(Vec::new()), &facts()).unwrap()), Vec::<String>::new());
}

#[test]
fn a_file_that_does_not_list_this_node_says_nothing_about_routes() {
    let error = desired(&config(vec![node("lb-2", &["10.0.0.12"], &["10.244.2.0/24"])]), &facts());
    let expected =
        "this node is called \"lb-1\", which [[nodes]] does not list; its name can be given with --node";
    assert_eq!(error.unwrap_err(), expected);
}

#[test]
fn a_node_behind_a_router_waits() {
    let nodes = vec![me(), node("lb-2", &["10.0.1.12"], &["10.244.2.0/24"])];
    let expected = "10.244.2.0/24: node lb-2 (10.0.1.12) is not directly reachable: it is behind 10.0.0.254; \
                    network.mode \"cross-subnet\" would send in a tunnel";
    assert_eq!(held(nodes, &facts()), [expected]);
}

#[test]
fn k6_routes_over_a_device_that_is_down_wait() {
    let mut facts = facts();
    facts.links.get_mut(&2).unwrap().up = false;
    let nodes = vec![me(), node("lb-2", &["10.0.0.12"], &["10.244.2.0/24"])];
    let expected = "10.244.2.0/24: node lb-2 (10.0.0.12) is not reachable: eth0 cannot be used: it is down";
    assert_eq!(held(nodes, &facts), [expected]);
}

#[test]
fn a_prefix_of_a_family_in_which_its_node_has_no_address_waits() {
    let nodes = vec![
        me(),
        node("lb-2", &["10.0.0.12"], &["fd00:244:2::/64"]),
        node("lb-3", &["2001:db8::13"], &["10.244.3.0/24"]),
    ];
    let expected = [
        "10.244.3.0/24: node lb-3 has no IPv4 address to route its IPv4 pods by",
        "fd00:244:2::/64: node lb-2 has no IPv6 address to route its IPv6 pods by",
    ];
    assert_eq!(held(nodes, &facts()), expected);
}

#[test]
fn an_address_that_this_node_has_itself_waits() {
    let nodes = vec![me(), node("lb-2", &["10.0.0.11"], &["10.244.2.0/24"])];
    let expected = "10.244.2.0/24: the address 10.0.0.11 of node lb-2 is one of this node";
    assert_eq!(held(nodes, &facts()), [expected]);
}

#[test]
fn a_change_names_the_old_way_and_the_new_and_what_was_left_over() {
    let prefix = "10.244.2.0/24".parse().unwrap();
    let facts = facts();
    let way = |via: &str| Way::via(ip(via), &facts.links[&2], prefix);
    let spec = |via: &str, surplus| RouteSpec {
        prefix,
        way: way(via),
        table: TABLE_MAIN,
        protocol: PROTOCOL,
        surplus,
    };
    let changes = spec("10.0.0.12", Vec::new()).changes(&spec("10.0.0.9", vec![way("10.0.0.8")]));
    let expected = [
        FieldChange::changed("way", "via 10.0.0.9 dev eth0", "via 10.0.0.12 dev eth0"),
        FieldChange::removed("also", "via 10.0.0.8 dev eth0"),
    ];
    assert_eq!(changes, expected);
}
