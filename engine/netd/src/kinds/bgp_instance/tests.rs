//! Which speaker a node is.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::fake;

fn config(bgp: Bgp) -> Config {
    Config { bgp: Some(bgp), ..Config::default() }
}

fn facts(node: &str, addresses: &[&str]) -> Facts {
    let address = |text: &&str| fake::address(2, text.parse().unwrap(), 24);
    Facts { node: node.into(), addresses: addresses.iter().map(address).collect(), ..Facts::default() }
}

fn spec(config: &Config, facts: &Facts) -> InstanceSpec {
    let table = desired(config, facts).unwrap().table;
    table.values().next().unwrap().as_any().downcast_ref::<InstanceSpec>().unwrap().clone()
}

#[test]
fn without_bgp_there_is_no_speaker() {
    assert!(desired(&Config::default(), &Facts::default()).unwrap().table.is_empty());
}

#[test]
fn the_router_identifier_is_the_files_else_the_nodes_else_made_from_the_name() {
    let given = Bgp { router_id: Some([1, 2, 3, 4].into()), ..Bgp::default() };
    assert_eq!(spec(&config(given), &facts("a", &["10.0.0.1"])).router_id.to_string(), "1.2.3.4");
    let node = Node {
        name: "a".into(),
        addresses: vec!["2001:db8::1".parse().unwrap(), "10.0.0.9".parse().unwrap()],
        ..Node::default()
    };
    let listed = Config { nodes: vec![node], ..config(Bgp::default()) };
    assert_eq!(spec(&listed, &facts("a", &["10.0.0.1"])).router_id.to_string(), "10.0.0.9");
    let found = spec(&config(Bgp::default()), &facts("a", &["10.0.0.2", "2001:db8::1", "10.0.0.1"]));
    assert_eq!(found.router_id.to_string(), "10.0.0.1");
    let named = spec(&config(Bgp::default()), &facts("a", &["2001:db8::1"])).router_id;
    assert_eq!(named, spec(&config(Bgp::default()), &facts("a", &[])).router_id);
    assert_ne!(named, spec(&config(Bgp::default()), &facts("b", &[])).router_id);
    assert!(!named.is_unspecified());
}

#[test]
fn a_derived_router_identifier_stays_when_the_nodes_addresses_change() {
    let before = spec(&config(Bgp::default()), &facts("a", &["10.0.0.1"]));
    let after = spec(&config(Bgp::default()), &facts("a", &["10.0.0.7"]));
    assert!(after.satisfied_by(&before));
    let given = Bgp { router_id: Some([10, 0, 0, 7].into()), ..Bgp::default() };
    let given = spec(&config(given), &facts("a", &[]));
    let lines: Vec<String> = given.changes(&before).into_iter().map(|change| change.field).collect();
    assert_eq!(lines, ["router identifier", "sessions"]);
}

#[test]
fn a_node_that_the_file_does_not_list_is_no_speaker() {
    let node = Node { name: "b".into(), ..Node::default() };
    let listed = Config { nodes: vec![node], ..config(Bgp::default()) };
    let why = desired(&listed, &facts("a", &[])).unwrap_err();
    assert!(why.contains("which [[nodes]] does not list"), "{why}");
}

#[test]
fn other_certificates_are_a_change_that_costs_no_session() {
    let with = |ca: &str| {
        let tls = BgpTls { ca: ca.into(), identity: None };
        let bgp = Bgp { gobgpd: Gobgpd::Https { authority: "a:1".into(), tls }, ..Bgp::default() };
        spec(&config(bgp), &facts("a", &["10.0.0.1"]))
    };
    assert_eq!(with("/new").changes(&with("/old")), [FieldChange::changed("TLS", "/old", "/new")]);
    assert!(!with("/new").satisfied_by(&with("/old")) && with("/new").satisfied_by(&with("/new")));
}

#[test]
fn of_a_gobgpd_that_cannot_be_asked_only_its_certificates_are_compared() {
    let with = |ca: &str, asn: u32| {
        let tls = BgpTls { ca: ca.into(), identity: None };
        let bgp = Bgp { asn, gobgpd: Gobgpd::Https { authority: "a:1".into(), tls }, ..Bgp::default() };
        spec(&config(bgp), &facts("a", &["10.0.0.1"]))
    };
    assert!(with("/ca", 64_512).satisfied_by(&with("/ca", 0)));
    assert_eq!(with("/new", 64_512).changes(&with("/old", 0)), [FieldChange::changed("TLS", "/old", "/new")]);
}
