//! Which addresses a node has, and on what.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::facts::{Link, Mac};
use crate::fake::{link, route};
use netd_schema::{Egress, EgressGateway, Node};

fn config() -> Config {
    let nodes = ["gw", "worker"].map(|name| Node { name: name.into(), ..Node::default() });
    let policy = Egress {
        name: "legacy".into(),
        sources: vec!["10.244.0.0/16".parse().unwrap()],
        destinations: vec!["192.168.33.13/32".parse().unwrap()],
        ips: vec!["192.168.33.100".parse().unwrap()],
        gateways: vec![EgressGateway { node: "gw".into(), priority: 0 }],
        ..Egress::default()
    };
    Config { nodes: nodes.to_vec(), egress: vec![policy], ..Config::default() }
}

fn facts(name: &str) -> Facts {
    let mut facts = Facts { node: name.into(), ..Facts::default() };
    for (index, device) in [(2, "eth0"), (3, "eth1")] {
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        facts.links.insert(index, Link { mac, ..link(index, device) });
    }
    facts.routes.push(route("0.0.0.0/0".parse().unwrap(), 2, Some("10.0.0.254".parse().unwrap())));
    facts.routes.push(route("192.168.33.0/24".parse().unwrap(), 3, None));
    facts
}

#[test]
fn the_gateway_has_the_address_on_the_device_of_its_network() {
    let desired = desired(&config(), &facts("gw")).unwrap();
    let spec = desired.table.get("192.168.33.100").unwrap();
    assert_eq!(spec.summary(), "on eth1");
}

#[test]
fn an_address_of_no_network_of_the_node_is_where_the_default_route_leads() {
    let mut config = config();
    config.egress.iter_mut().for_each(|policy| policy.ips = vec!["203.0.113.7".parse().unwrap()]);
    let desired = desired(&config, &facts("gw")).unwrap();
    assert_eq!(desired.table.get("203.0.113.7").unwrap().summary(), "on eth0");
}

#[test]
fn another_node_has_no_address() {
    let desired = desired(&config(), &facts("worker")).unwrap();
    assert!(desired.table.is_empty() && desired.held.is_empty());
}

#[test]
fn an_address_without_a_route_waits_with_a_reason() {
    let mut facts = facts("gw");
    facts.routes.clear();
    let desired = desired(&config(), &facts).unwrap();
    assert!(desired.table.is_empty() && desired.held.contains_key("192.168.33.100"));
}

#[test]
fn an_address_waits_for_the_rules_that_give_it() {
    let desired = desired(&config(), &facts("gw")).unwrap();
    let needs = desired.needs.get("192.168.33.100").unwrap();
    let rules = Need::AsWanted(ResourceId { kind: policies::NAME, key: Key::new("10.244.0.0/16") });
    assert_eq!(needs.as_ref(), [rules, Need::AnyOf(masquerade::NAME)]);
}
