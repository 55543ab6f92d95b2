//! Paths, decided on facts made by hand; a naive search over all routes is the judge of the trie.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::facts::{Neighbour, TABLE_MAIN};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32, name: &str) -> Link {
    Link { mac: Some(MAC), ..crate::fake::link(index, name) }
}

fn address(link: u32, text: &str) -> Address {
    let network: IpNetwork = text.parse().unwrap();
    let global = !matches!(network.ip(), IpAddr::V6(address) if address.is_unicast_link_local());
    Address { global, ..crate::fake::address(link, network.ip(), network.prefix()) }
}

fn route(prefix: &str, hops: &[(u32, Option<&str>, u16)]) -> Route {
    let hop = |&(link, via, weight): &(u32, Option<&str>, u16)| NextHop { link, via: via.map(ip), weight };
    Route {
        destination: prefix.parse().unwrap(),
        table: TABLE_MAIN,
        metric: 0,
        protocol: 4,
        action: RouteAction::Forward(hops.iter().map(hop).collect()),
        source: None,
        mtu: None,
    }
}

/// Two links, both families, a default route by the first.
fn facts() -> Facts {
    let neighbour = Neighbour { mac: Some(PEER), valid: true, ..Neighbour::default() };
    let known = [(2, "10.0.0.254"), (2, "10.0.0.2"), (3, "10.0.1.2"), (2, "fe80::2"), (2, "fd00::2")];
    Facts {
        node: "lb-1".into(),
        links: BTreeMap::from([(2, link(2, "eth0")), (3, link(3, "eth1"))]),
        addresses: vec![
            address(2, "10.0.0.1/24"),
            address(3, "10.0.1.1/24"),
            address(2, "fe80::1/64"),
            address(2, "fd00::1/64"),
        ],
        routes: vec![
            route("0.0.0.0/0", &[(2, Some("10.0.0.254"), 1)]),
            route("10.0.0.0/24", &[(2, None, 1)]),
            route("10.0.1.0/24", &[(3, None, 1)]),
            route("fe80::/64", &[(2, None, 1)]),
            route("fd00::/64", &[(2, None, 1)]),
            route("::/0", &[(2, Some("fe80::2"), 1)]),
        ],
        neighbours: known.into_iter().map(|(link, at)| ((link, ip(at)), neighbour)).collect(),
        ..Facts::default()
    }
}

fn set(facts: &mut Facts, prefix: &str, change: impl FnOnce(&mut Route)) {
    let prefix: IpNetwork = prefix.parse().unwrap();
    change(facts.routes.iter_mut().find(|route| route.destination == prefix).unwrap());
}

/// The kernel has a neighbour entry for it, whose MAC is that of everybody.
#[test]
fn nothing_is_sent_to_everybody_on_a_link() {
    let mut facts = facts();
    let everybody = Neighbour { mac: Some(Mac([0xff; 6])), valid: true, ..Neighbour::default() };
    facts.neighbours.insert((2, ip("10.0.0.255")), everybody);
    assert_eq!(resolve(&facts, ip("10.0.0.255")), Err(PathError::Broadcast(ip("10.0.0.255"))));
    facts.addresses[0].prefix_len = 31;
    assert!(resolve(&facts, ip("10.0.0.255")).is_ok(), "a longer prefix has no such address");
}

#[test]
fn a_destination_on_the_link_is_its_own_next_hop() {
    let expected = Path {
        device: "eth1".into(),
        ifindex: 3,
        mtu: 1500,
        next_hop: ip("10.0.1.2"),
        destination_mac: PEER,
        source_mac: MAC,
        source: ip("10.0.1.1"),
    };
    assert_eq!(resolve(&facts(), ip("10.0.1.2")), Ok(expected));
}

#[test]
fn a_destination_far_away_goes_to_the_router() {
    let path = resolve(&facts(), ip("198.51.100.1")).unwrap();
    assert_eq!((path.next_hop, path.source), (ip("10.0.0.254"), ip("10.0.0.1")));
    let path = resolve(&facts(), ip("2001:db8::1")).unwrap();
    assert_eq!((path.next_hop, path.source), (ip("fe80::2"), ip("fd00::1")));
}

#[test]
fn a_link_local_destination_is_sent_to_from_the_link_local_address() {
    assert_eq!(resolve(&facts(), ip("fe80::2")).unwrap().source, ip("fe80::1"));
}

#[test]
fn an_ipv4_route_may_lead_over_an_ipv6_router() {
    let mut facts = facts();
    facts.routes.push(route("10.9.0.0/16", &[(2, Some("fe80::2"), 1)]));
    let path = resolve(&facts, ip("10.9.0.1")).unwrap();
    assert_eq!((path.next_hop, path.source), (ip("fe80::2"), ip("10.0.0.1")));
}

#[test]
fn the_lower_metric_wins_among_routes_of_one_prefix() {
    let mut facts = facts();
    let mut worse = route("10.9.0.0/16", &[(2, Some("10.0.0.254"), 1)]);
    worse.metric = 200;
    let mut better = route("10.9.0.0/16", &[(3, Some("10.0.1.2"), 1)]);
    better.metric = 100;
    facts.routes.extend([worse, better]);
    assert_eq!(resolve(&facts, ip("10.9.0.1")).unwrap().next_hop, ip("10.0.1.2"));
}

#[test]
fn a_route_that_discards_hides_the_default_route() {
    let mut facts = facts();
    let mut hole = route("198.51.100.0/24", &[]);
    hole.action = RouteAction::Discard;
    facts.routes.push(hole);
    assert_eq!(resolve(&facts, ip("198.51.100.1")), Err(PathError::NoRoute(ip("198.51.100.1"))));
}

#[test]
fn a_route_whose_next_hops_are_dead_does_not_hide_the_default_route() {
    let mut facts = facts();
    facts.routes.push(route("198.51.100.0/24", &[]));
    assert_eq!(resolve(&facts, ip("198.51.100.1")).unwrap().next_hop, ip("10.0.0.254"));
}

#[test]
fn the_nodes_own_addresses_and_loopback_are_local() {
    for own in ["10.0.0.1", "10.0.1.1", "fd00::1", "127.0.0.2", "::1"] {
        assert_eq!(resolve(&facts(), ip(own)), Err(PathError::Local(ip(own))));
    }
}

#[test]
fn without_a_default_route_there_is_no_route() {
    let mut facts = facts();
    facts.routes.retain(|route| route.destination.prefix() > 0);
    for far in ["198.51.100.1", "2001:db8::1", "224.0.0.1", "ff02::1"] {
        assert_eq!(resolve(&facts, ip(far)), Err(PathError::NoRoute(ip(far))));
    }
}

#[test]
fn k28_a_next_hop_without_a_valid_mac_is_unresolved() {
    let unresolved =
        |next_hop| Err(PathError::Unresolved { next_hop: ip(next_hop), device: "eth0".into(), ifindex: 2 });
    assert_eq!(resolve(&facts(), ip("10.0.0.77")), unresolved("10.0.0.77"));
    let mut facts = facts();
    for neighbour in facts.neighbours.values_mut() {
        neighbour.valid = false;
    }
    assert_eq!(resolve(&facts, ip("198.51.100.1")), unresolved("10.0.0.254"));
}

#[test]
fn k5_a_link_that_is_down_gone_or_without_a_mac_is_named() {
    let device =
        |device: &str, reason: &str| Err(PathError::Device { device: device.into(), reason: reason.into() });
    let mut facts = facts();
    facts.links.get_mut(&3).unwrap().mac = None;
    assert_eq!(resolve(&facts, ip("10.0.1.2")), device("eth1", "it has no Ethernet address"));
    facts.links.get_mut(&3).unwrap().up = false;
    assert_eq!(resolve(&facts, ip("10.0.1.2")), device("eth1", "it is down"));
    facts.links.remove(&3);
    assert_eq!(resolve(&facts, ip("10.0.1.2")), device("interface 3", "it is gone"));
}

#[test]
fn a_source_is_the_routes_then_the_links_then_any() {
    let mut facts = facts();
    facts.addresses.push(address(3, "10.0.9.1/24"));
    let source = |facts: &Facts| resolve(facts, ip("10.0.1.2")).map(|path| path.source);
    assert_eq!(source(&facts), Ok(ip("10.0.1.1")));
    set(&mut facts, "10.0.1.0/24", |route| route.source = Some(ip("10.0.9.1")));
    assert_eq!(source(&facts), Ok(ip("10.0.9.1")));
    set(&mut facts, "10.0.1.0/24", |route| route.source = None);
    facts.addresses.retain(|own| own.link != 3);
    assert_eq!(source(&facts), Ok(ip("10.0.0.1")));
    facts.addresses.iter_mut().for_each(|own| own.usable = false);
    assert_eq!(source(&facts), Err(PathError::NoSource(ip("10.0.1.2"))));
}

#[test]
fn the_smaller_of_the_links_and_the_routes_mtu_counts() {
    let mut facts = facts();
    for (of_route, expected) in [(None, 1500), (Some(1400), 1400), (Some(9000), 1500), (Some(0), 1500)] {
        set(&mut facts, "10.0.1.0/24", |route| route.mtu = of_route);
        assert_eq!(resolve(&facts, ip("10.0.1.2")).unwrap().mtu, expected);
    }
}

#[test]
fn several_next_hops_share_destinations_by_weight_and_each_destination_keeps_its_own() {
    let mut facts = facts();
    facts.routes.push(route("10.9.0.0/16", &[(2, Some("10.0.0.2"), 1), (3, Some("10.0.1.2"), 3)]));
    let resolver = PathResolver::new(&facts);
    let chosen = |n: u32| resolver.hop(IpAddr::from((0x0a09_0000 + n).to_be_bytes())).unwrap().link.index;
    let by_second = (0..4000).filter(|&n| chosen(n) == 3).count();
    assert!((2850..3150).contains(&by_second), "{by_second} of 4000 by the next hop of weight 3 of 4");
    assert!((0..100).all(|n| chosen(n) == chosen(n)));
}

#[test]
fn a_next_hop_whose_link_is_down_gets_no_destination_while_another_is_up() {
    let mut facts = facts();
    facts.routes.push(route("10.9.0.0/16", &[(2, Some("10.0.0.2"), 1), (3, Some("10.0.1.2"), 3)]));
    facts.links.get_mut(&3).unwrap().up = false;
    let resolver = PathResolver::new(&facts);
    let links: BTreeSet<u32> =
        (0..=255u8).map(|n| resolver.hop(IpAddr::from([10, 9, 0, n])).unwrap().link.index).collect();
    assert_eq!(links, BTreeSet::from([2]));
}

/// What the kernel does, in so many words.
fn naive(facts: &Facts, destination: IpAddr) -> Option<&Route> {
    let matching = facts.routes.iter().filter(|route| route.destination.contains(destination));
    let alive = matching.filter(|route| route.action != RouteAction::Forward(Vec::new()));
    alive.min_by_key(|route| (u8::MAX - route.destination.prefix(), route.metric))
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let one = (any::<bool>(), any::<u16>(), 0u8..=16, 0u32..3, 0u8..6).prop_map(
        |(six, bits, length, metric, action)| {
            let destination = prefix(six, bits, length);
            let action = match action {
                0 => RouteAction::Discard,
                1 => RouteAction::Forward(Vec::new()),
                _ => RouteAction::Forward(vec![NextHop { link: 2, via: None, weight: 1 }]),
            };
            Route { destination, table: TABLE_MAIN, metric, protocol: 4, action, source: None, mtu: None }
        },
    );
    prop::collection::vec(one, 0..40)
}

/// Prefixes whose bits differ only in the first sixteen, so that many overlap.
fn prefix(six: bool, bits: u16, length: u8) -> IpNetwork {
    let bits = bits & !u16::MAX.checked_shr(length.into()).unwrap_or(0);
    IpNetwork::new(destination(six, bits), length).unwrap()
}

fn destination(six: bool, bits: u16) -> IpAddr {
    match six {
        false => IpAddr::from((u32::from(bits) << 16).to_be_bytes()),
        true => IpAddr::from((u128::from(bits) << 112).to_be_bytes()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_trie_finds_what_a_search_over_all_routes_finds(
        routes in routes(), six in any::<bool>(), bits in prop::collection::vec(any::<u16>(), 20),
    ) {
        let facts = Facts { routes, ..Facts::default() };
        let resolver = PathResolver::new(&facts);
        for bits in bits {
            let destination = destination(six, bits);
            prop_assert_eq!(resolver.route(destination), naive(&facts, destination));
        }
    }
}
