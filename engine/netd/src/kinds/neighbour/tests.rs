//! Which next hops follow from a file and the facts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::facts::{Link, Mac};
use crate::fake;
use netd_schema::{Backend, BackendState, Service};
use std::collections::BTreeMap;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(backends: &[&str]) -> Config {
    let backend =
        |text: &&str| Backend { address: ip(text), port: None, weight: 1, state: BackendState::Maintenance };
    let service = Service {
        name: "web".into(),
        backends: backends.iter().map(backend).collect(),
        ..Service::default()
    };
    Config { services: vec![service], ..Config::default() }
}

fn facts() -> Facts {
    let route =
        |prefix: &str, link, via: Option<&str>| fake::route(prefix.parse().unwrap(), link, via.map(ip));
    let eth0 = Link { mac: Some(Mac([2; 6])), ..fake::link(2, "eth0") };
    Facts {
        links: BTreeMap::from([(2, eth0), (3, fake::link(3, "tun0"))]),
        routes: vec![
            route("10.0.0.0/24", 2, None),
            route("10.1.0.0/16", 2, Some("10.0.0.254")),
            route("10.2.0.0/16", 3, None),
        ],
        ..Facts::default()
    }
}

fn keys(backends: &[&str], facts: &Facts) -> Vec<String> {
    desired(&config(backends), facts).unwrap().table.keys().map(ToString::to_string).collect()
}

#[test]
fn one_neighbour_stands_for_every_backend_behind_the_same_router() {
    let backends = ["10.1.0.2", "10.1.0.3", "10.0.0.7"];
    assert_eq!(keys(&backends, &facts()), ["10.0.0.254 dev eth0", "10.0.0.7 dev eth0"]);
}

#[test]
fn backends_without_a_route_or_over_a_link_without_macs_need_no_neighbour() {
    assert_eq!(keys(&["192.0.2.1", "10.2.0.1"], &facts()), Vec::<String>::new());
}

#[test]
fn a_resolved_entry_is_still_asked_for_and_one_that_somebody_looks_after_is_not() {
    let resolved = Neighbour { mac: Some(Mac([2; 6])), valid: true, ..Neighbour::default() };
    let cases = [
        (resolved, true),
        (Neighbour { protocol: PROTOCOL, managed: true, ..resolved }, true),
        (Neighbour { permanent: true, ..resolved }, false),
        (Neighbour { managed: true, ..resolved }, false),
        (Neighbour { protocol: 11, ..resolved }, false),
    ];
    for (neighbour, wanted) in cases {
        let mut facts = facts();
        facts.neighbours.insert((2, ip("10.0.0.7")), neighbour);
        assert_eq!(!keys(&["10.0.0.7"], &facts).is_empty(), wanted, "{neighbour:?}");
    }
}

#[test]
fn a_device_that_takes_no_redirected_packets_is_named_unless_they_come_in_by_it() {
    let mut config = config(&["10.0.0.7"]);
    let mut facts = facts();
    let veth = Link { index: 4, name: "b1".into(), kind: "veth".into(), ..facts.links[&2].clone() };
    facts.links.insert(4, veth);
    facts.no_redirects.insert(2);
    let note = |config: &Config, facts: &Facts| desired(config, facts).unwrap().notes.into_values().next();
    config.load_balancer.devices = vec!["eth0".into()];
    assert_eq!(note(&config, &facts), None, "the program sends it back");
    config.load_balancer.devices = vec!["b1".into()];
    let said = note(&config, &facts).unwrap();
    assert!(said.starts_with("eth0 does not take packets that a program redirects to it from b1"), "{said}");
    facts.no_redirects.clear();
    assert_eq!(note(&config, &facts), None);
    facts.no_redirects.insert(2);
    config.load_balancer.mode = XdpMode::Generic;
    assert_eq!(note(&config, &facts), None, "behind the driver every device takes them");
}
