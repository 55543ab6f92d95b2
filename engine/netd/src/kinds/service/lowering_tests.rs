#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::facts::{Link, Mac, Neighbour};
use crate::fake;
use crate::health::Verdicts;
use crate::health::verdict::{BackendId, Group, Unhealthy};
use netd_schema::{BackendState, LoadBalancer, Protocol};

/// One link with both families, backends on it as neighbours .2 and .3, and everything else behind .1.
fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.links.insert(3, Link { mac: Some(Mac([2, 0, 0, 0, 0, 11])), ..fake::link(3, "eth0") });
    for (own, prefix, router) in
        [("10.1.0.11", "10.1.0.0/24", "10.1.0.1"), ("fd00:1::11", "fd00:1::/64", "fd00:1::1")]
    {
        facts.addresses.push(fake::address(3, own.parse().unwrap(), if own.contains(':') { 64 } else { 24 }));
        let default = if own.contains(':') { "::/0" } else { "0.0.0.0/0" };
        for (destination, via) in [(prefix, None), (default, Some(router.parse().unwrap()))] {
            facts.routes.push(fake::route(destination.parse().unwrap(), 3, via));
        }
    }
    for (address, last) in
        [("10.1.0.1", 1), ("10.1.0.2", 2), ("10.1.0.3", 3), ("fd00:1::1", 1), ("fd00:1::2", 2)]
    {
        let neighbour = Neighbour { mac: Some(Mac([2, 0, 0, 0, 1, last])), valid: true, ..neighbour() };
        facts.neighbours.insert((3, address.parse().unwrap()), neighbour);
    }
    facts
}

fn neighbour() -> Neighbour {
    Neighbour { mac: None, valid: false, managed: false, permanent: false, protocol: 0 }
}

fn config(vips: &[&str], backends: &[&str]) -> Config {
    Config {
        services: vec![Service {
            name: "web".into(),
            vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
            ports: vec![Port { protocol: Protocol::Tcp, port: 80, backend_port: Some(8080) }],
            backends: backends
                .iter()
                .map(|address| Backend {
                    address: address.parse().unwrap(),
                    port: None,
                    weight: 100,
                    state: BackendState::Active,
                })
                .collect(),
            ..Service::default()
        }],
        ..Config::default()
    }
}

fn spec<'a>(desired: &'a DesiredKind, key: &str) -> &'a ServiceSpec {
    desired.table[key].as_any().downcast_ref().unwrap()
}

#[test]
fn a_frontend_has_the_backends_of_its_family() {
    let config = config(&["192.0.2.10", "2001:db8::10"], &["10.1.0.2", "fd00:1::2"]);
    let desired = desired(&config, &facts()).unwrap();
    let keys: Vec<&str> = desired.table.keys().map(Key::as_str).collect();
    assert_eq!(keys, ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"]);
    for (key, address) in keys.iter().zip(["10.1.0.2", "fd00:1::2"]) {
        let backends = &spec(&desired, key).backends;
        assert_eq!(backends.len(), 1);
        assert_eq!((backends[0].address.to_string().as_str(), backends[0].port), (address, 8080));
    }
}

#[test]
fn a_path_ends_at_the_neighbour_or_at_the_router() {
    let config = config(&["192.0.2.10"], &["10.1.0.2", "172.16.0.9"]);
    let desired = desired(&config, &facts()).unwrap();
    let macs: Vec<u8> = spec(&desired, "192.0.2.10:80/tcp")
        .backends
        .iter()
        .map(|backend| backend.path.as_ref().unwrap().destination_mac.0[5])
        .collect();
    assert_eq!(macs, [2, 1]);
    assert!(desired.notes.is_empty());
}

#[test]
fn k28_a_backend_without_path_is_wanted_and_noted() {
    let config = config(&["192.0.2.10"], &["10.1.0.2", "10.1.0.77"]);
    let desired = desired(&config, &facts()).unwrap();
    assert_eq!(spec(&desired, "192.0.2.10:80/tcp").backends[1].path, None);
    let note = &desired.notes["192.0.2.10:80/tcp"];
    assert_eq!(note, "backend 10.1.0.77 has no path: next hop 10.1.0.77 on eth0 is not resolved");
    assert!(desired.coming.contains("192.0.2.10:80/tcp"), "the next hop may answer yet");
}

#[test]
fn an_unhealthy_backend_is_noted_and_nothing_that_comes_by_itself_in_moments() {
    let mut config = config(&["192.0.2.10"], &["10.1.0.2", "10.1.0.3"]);
    config.services[0].health_check = Some(netd_schema::HealthCheck::default());
    let group = Group { service: "web".into(), vip: [192, 0, 2, 10].into() };
    let id = BackendId { address: [10, 1, 0, 2].into(), port: None };
    let unhealthy = Unhealthy { since_unix_ms: 1, why: "connection refused".into() };
    let health = Verdicts { unhealthy: [(group, [(id, unhealthy)].into())].into(), ..Verdicts::default() };
    let desired = desired(&config, &Facts { health: Arc::new(health), ..facts() }).unwrap();
    assert!(desired.notes["192.0.2.10:80/tcp"].contains("10.1.0.2 is unhealthy since"));
    assert!(desired.coming.is_empty());
}

#[test]
fn outer_sources_come_from_the_prefix_of_their_family() {
    let mut config = config(&["192.0.2.10", "2001:db8::10"], &["10.1.0.2", "fd00:1::2"]);
    config.load_balancer =
        LoadBalancer { rss_source: vec!["10.9.0.0/16".parse().unwrap()], ..LoadBalancer::default() };
    let desired = desired(&config, &facts()).unwrap();
    let source = |key: &str| {
        let path = spec(&desired, key).backends[0].path.clone().unwrap();
        (path.source.to_string(), path.source_bits)
    };
    assert_eq!(source("192.0.2.10:80/tcp"), ("10.9.0.0".into(), 16));
    assert_eq!(source("[2001:db8::10]:80/tcp"), ("fd00:1::11".into(), 0));
}

#[test]
fn draining_a_backend_does_not_change_the_size_of_the_table() {
    let addresses: Vec<String> = (1..=11).map(|host| format!("172.16.0.{host}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut config = config(&["192.0.2.10"], &addresses);
    let size = |config: &Config| spec(&desired(config, &facts()).unwrap(), "192.0.2.10:80/tcp").table_size;
    assert_eq!(size(&config), 4093);
    config.services[0].backends[0].state = BackendState::Terminating;
    assert_eq!(size(&config), 4093);
}
