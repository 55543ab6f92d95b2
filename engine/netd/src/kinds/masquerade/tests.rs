//! What the file asks for, and how it differs from what is there.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::facts::{Address, Link, Mac};
use crate::fake::{self, link, route};
use ipnetwork::IpNetwork;
use netd_schema::{Network, NetworkMode, Node, PortRange};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn networks(texts: &[&str]) -> BTreeSet<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn node(name: &str, address: &str, pods: &str) -> Node {
    let (addresses, pod_cidrs) = (vec![address.parse().unwrap()], vec![pods.parse().unwrap()]);
    Node { name: name.into(), addresses, pod_cidrs, ..Node::default() }
}

fn config() -> Config {
    Config {
        nodes: vec![node("one", "10.0.0.1", "10.244.1.0/24"), node("two", "10.0.0.2", "10.244.2.0/24")],
        masquerade: Some(Masquerade::default()),
        ..Config::default()
    }
}

fn facts() -> Facts {
    let mut facts = Facts { node: "one".into(), ..Facts::default() };
    for (index, name) in [(2, "eth0"), (3, "eth1")] {
        facts.links.insert(index, Link { mac: Some(MAC), ..link(index, name) });
    }
    facts.routes.push(route("0.0.0.0/0".parse().unwrap(), 2, None));
    for (link, address, global) in [
        (2, "fe80::1", false),
        (2, "10.0.0.1", true),
        (2, "10.0.0.7", true),
        (2, "2001:db8::1", true),
        (3, "192.0.2.1", true),
    ] {
        let address = address.parse().unwrap();
        facts.addresses.push(Address { global, ..fake::address(link, address, 24) });
    }
    facts
}

fn spec(desired: &DesiredKind, device: &str) -> MasqueradeSpec {
    desired.table.get(device).unwrap().as_any().downcast_ref::<MasqueradeSpec>().unwrap().clone()
}

#[test]
fn pods_of_this_node_get_the_addresses_of_the_default_routes_device() {
    let desired = desired(&config(), &facts()).unwrap();
    assert_eq!(desired.table.len(), 1);
    let spec = spec(&desired, "eth0");
    assert_eq!(spec.given.to_string(), "10.0.0.1 and 2001:db8::1, ports 1024-32767");
    assert_eq!(spec.rules.source, networks(&["10.244.1.0/24"]));
    let excluded =
        ["10.244.1.0/24", "10.244.2.0/24", "10.0.0.1/32", "10.0.0.2/32", "224.0.0.0/4", "ff00::/8"];
    assert_eq!(spec.rules.exclude, networks(&excluded));
}

#[test]
fn an_address_that_goes_for_privacy_is_taken_only_where_there_is_no_other() {
    let mut facts = facts();
    let temporary = "2001:db8::abcd".parse().unwrap();
    let own =
        Address { link: 2, address: temporary, prefix_len: 64, usable: true, temporary: true, global: true };
    facts.addresses.insert(0, own);
    let given = |facts: &Facts| spec(&desired(&config(), facts).unwrap(), "eth0").given;
    assert_eq!(given(&facts).v6, "2001:db8::1".parse().ok());
    facts.addresses.retain(|at| at.address.is_ipv4() || at.temporary);
    assert_eq!(given(&facts).v6, "2001:db8::abcd".parse().ok());
}

#[test]
fn other_nodes_are_outside_where_only_a_tunnel_leads_to_pods() {
    let network = Network { mode: NetworkMode::Tunnel, ..Network::default() };
    let desired = desired(&Config { network, ..config() }, &facts()).unwrap();
    let excluded = networks(&["10.244.1.0/24", "10.244.2.0/24", "224.0.0.0/4", "ff00::/8"]);
    assert_eq!(spec(&desired, "eth0").rules.exclude, excluded);
}

#[test]
fn what_the_file_says_comes_before_what_the_node_has() {
    let masquerade = Masquerade {
        devices: vec!["eth1".into(), "eth9".into()],
        source: networks(&["10.9.0.0/16"]).into_iter().collect(),
        exclude: networks(&["10.0.0.0/8"]).into_iter().collect(),
        addresses: vec!["10.0.0.7".parse().unwrap()],
        ports: PortRange { first: 2000, last: 2999 },
        flows: 4096,
    };
    let desired = desired(&Config { masquerade: Some(masquerade), ..config() }, &facts()).unwrap();
    let spec = spec(&desired, "eth1");
    assert_eq!(spec.given.to_string(), "10.0.0.7, ports 2000-2999");
    assert_eq!((spec.rules.source.clone(), spec.rules.flows), (networks(&["10.9.0.0/16"]), 4096));
    assert!(spec.rules.exclude.contains(&"10.0.0.0/8".parse().unwrap()));
    assert_eq!(desired.held.get("eth9").unwrap(), "there is no device eth9");
}

#[test]
fn a_device_without_ethernet_headers_is_said_to_translate_nothing() {
    let mut facts = facts();
    facts.links.insert(2, link(2, "eth0"));
    let desired = desired(&config(), &facts).unwrap();
    assert!(desired.table.is_empty());
    assert!(desired.held.get("eth0").unwrap().starts_with("eth0 is no Ethernet device"));
}

#[test]
fn an_address_that_the_node_does_not_have_is_waited_for() {
    let addresses = vec!["192.0.2.99".parse().unwrap()];
    let masquerade = Masquerade { addresses, ..Masquerade::default() };
    let desired = desired(&Config { masquerade: Some(masquerade), ..config() }, &facts()).unwrap();
    assert!(desired.table.is_empty());
    assert!(desired.held.get("eth0").unwrap().starts_with("192.0.2.99 is no address of this node"));
}

#[test]
fn k15_a_default_route_that_is_lost_leaves_the_programs_where_they_are() {
    let mut facts = facts();
    facts.routes.clear();
    let desired = desired(&config(), &facts).unwrap();
    assert!(desired.kept.contains("eth0") && desired.table.is_empty());
    assert!(desired.held.contains_key(DEFAULT_DEVICES));
}

fn policy() -> netd_schema::Egress {
    netd_schema::Egress {
        name: "legacy".into(),
        sources: vec!["10.244.0.0/16".parse().unwrap()],
        destinations: vec!["203.0.113.0/24".parse().unwrap()],
        ips: vec!["10.0.0.100".parse().unwrap()],
        ..netd_schema::Egress::default()
    }
}

#[test]
fn a_device_of_policies_has_the_programs_also_without_an_address_to_masquerade_by() {
    let addresses = vec!["192.0.2.99".parse().unwrap()];
    let masquerade = Some(Masquerade { addresses, ..Masquerade::default() });
    let config = Config { masquerade, egress: vec![policy()], ..config() };
    let desired = desired(&config, &facts()).unwrap();
    let given = spec(&desired, "eth0").given;
    assert_eq!(given.to_string(), "no address, ports 1024-32767");
    assert_ne!(given, Given::NOTHING, "what is masqueraded would leave as it is");
    let note = desired.notes.get("eth0").unwrap();
    assert!(note.ends_with("nothing would come back; what is masqueraded is dropped"), "{note}");
}

#[test]
fn a_device_of_policies_that_flaps_keeps_the_programs_although_another_is_listed() {
    let masquerade = Masquerade { devices: vec!["eth1".into()], ..Masquerade::default() };
    let config = Config { masquerade: Some(masquerade), egress: vec![policy()], ..config() };
    let keys = |facts: &Facts| {
        let desired = desired(&config, facts).unwrap();
        let of = |keys: Vec<&Key>| keys.iter().map(|key| key.as_str().to_owned()).collect::<Vec<_>>();
        (of(desired.table.keys().collect()), of(desired.kept.iter().collect()))
    };
    let mut facts = facts();
    facts.routes.push(route("192.0.2.0/24".parse().unwrap(), 3, None));
    assert_eq!(keys(&facts), (vec!["eth0".to_owned(), "eth1".into()], vec![]));
    facts.routes.retain(|route| route.destination.prefix() > 0);
    assert_eq!(keys(&facts), (vec!["eth1".to_owned()], vec!["eth0".into()]));
}

#[test]
fn a_node_without_pods_has_nothing_to_do() {
    let mut config = config();
    config.nodes.iter_mut().for_each(|node| node.pod_cidrs.clear());
    let desired = desired(&config, &facts()).unwrap();
    assert!(desired.table.is_empty() && desired.held.is_empty());
}
