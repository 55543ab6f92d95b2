//! What the file asks for, and how it differs from what is there.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::fake;
use ipnetwork::IpNetwork;
use netd_schema::{Decap, IpPool, Service};
use std::collections::BTreeSet;

fn networks(texts: &[&str]) -> BTreeSet<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn config(devices: &[&str]) -> Config {
    let decap = Decap {
        devices: devices.iter().map(|name| (*name).into()).collect(),
        from: networks(&["10.100.0.0/16", "2001:db8:cafe::/64"]).into_iter().collect(),
        to: networks(&["198.51.100.0/24"]).into_iter().collect(),
        gue_port: 7777,
    };
    Config { decap: Some(decap), ..Config::default() }
}

fn facts() -> Facts {
    let mut facts = Facts::default();
    for (index, name) in [(2, "eth0"), (3, "eth1")] {
        facts.links.insert(index, fake::link(index, name));
    }
    for address in ["127.0.0.1", "10.0.0.1", "::1", "fe80::1", "fd00::1", "192.0.2.10"] {
        let address = address.parse().unwrap();
        facts.addresses.push(fake::address(2, address, 24));
    }
    facts
}

fn spec(desired: &DesiredKind, device: &str) -> DecapSpec {
    desired.table.get(device).unwrap().as_any().downcast_ref::<DecapSpec>().unwrap().clone()
}

#[test]
fn the_rules_are_those_of_the_file_and_the_nodes_addresses() {
    let vips = vec!["192.0.2.10".parse().unwrap(), "2001:db8:100::10".parse().unwrap()];
    let ranges = networks(&["203.0.113.0/24"]).into_iter().collect();
    let config = Config {
        services: vec![Service { name: "web".into(), vips, ..Service::default() }],
        ip_pools: vec![IpPool { name: "public".into(), ranges, ..IpPool::default() }],
        ..config(&["eth0", "eth1"])
    };
    let desired = desired(&config, &facts()).unwrap();
    let expected = Rules {
        from: networks(&["10.100.0.0/16", "2001:db8:cafe::/64"]),
        to: networks(&["198.51.100.0/24", "192.0.2.10/32", "2001:db8:100::10/128", "203.0.113.0/24"]),
        own: networks(&["10.0.0.1/32", "fe80::1/128", "fd00::1/128", "192.0.2.10/32"]),
        gue_port: 7777,
    };
    for (device, ifindex) in [("eth0", 2), ("eth1", 3)] {
        let spec = spec(&desired, device);
        assert_eq!((&*spec.rules, spec.ifindex), (&expected, ifindex));
    }
    assert_eq!(Rules::held(&expected.for_program()), expected);
    let summary = "XDP, from 10.100.0.0/16, 2001:db8:cafe::/64, to 192.0.2.10/32, 198.51.100.0/24, 203.0.113.0/24 \
                   and 1 more, GUE port 7777";
    assert_eq!(spec(&desired, "eth0").summary(), summary);
}

#[test]
fn without_the_section_nothing_is_asked_for() {
    let desired = desired(&Config::default(), &facts()).unwrap();
    assert!(desired.table.is_empty() && desired.held.is_empty() && desired.kept.is_empty());
}

#[test]
fn k5_a_device_that_is_missing_waits_and_the_others_do_not() {
    let desired = desired(&config(&["eth1", "eth7"]), &facts()).unwrap();
    assert_eq!(desired.table.keys().map(Key::as_str).collect::<Vec<_>>(), ["eth1"]);
    assert_eq!(desired.held.get("eth7").unwrap(), "there is no device eth7");
}

#[test]
fn changes_name_each_prefix() {
    let wanted = spec(&desired(&config(&["eth0"]), &facts()).unwrap(), "eth0");
    let rules = Rules {
        from: networks(&["10.100.0.0/16", "10.66.0.0/16"]),
        own: BTreeSet::new(),
        gue_port: 6080,
        ..Rules::clone(&wanted.rules)
    };
    let observed =
        DecapSpec { ifindex: 0, program: Program::Earlier, rules: Arc::new(rules), ..wanted.clone() };
    let changes = wanted.changes(&observed);
    for expected in [
        FieldChange::changed("interface index", "gone", "2"),
        FieldChange::changed("program", "an earlier one", "the current one"),
        FieldChange::removed("from", "10.66.0.0/16"),
        FieldChange::added("from", "2001:db8:cafe::/64"),
        FieldChange::added("address", "10.0.0.1/32"),
        FieldChange::changed("GUE port", "6080", "7777"),
    ] {
        assert!(changes.contains(&expected), "{expected:?} in {changes:?}");
    }
    assert_eq!(changes.len(), 5 + wanted.rules.own.len());
    assert_eq!(wanted.changes(&wanted), []);
}

#[test]
fn an_address_that_comes_does_not_make_another_plan() {
    let before = spec(&desired(&config(&["eth0"]), &facts()).unwrap(), "eth0");
    let mut facts = facts();
    facts.addresses.pop();
    let after = spec(&desired(&config(&["eth0"]), &facts).unwrap(), "eth0");
    assert!(!after.satisfied_by(&before));
    assert_eq!(before.identity(), after.identity());
}
