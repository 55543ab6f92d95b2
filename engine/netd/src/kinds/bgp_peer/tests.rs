//! Which peers a node has, and what is said of them.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::fake;
use netd_schema::{Bgp, Family, Node};

fn peer(address: &str) -> BgpPeer {
    BgpPeer { name: address.into(), address: address.parse().unwrap(), ..BgpPeer::default() }
}

fn config(peers: Vec<BgpPeer>) -> Config {
    let node = |name: &str| Node { name: name.into(), ..Node::default() };
    let bgp = Bgp { peers, ..Bgp::default() };
    Config { bgp: Some(bgp), nodes: vec![node("a"), node("b")], ..Config::default() }
}

fn facts() -> Facts {
    Facts { node: "a".into(), ..Facts::default() }
}

fn keys(desired: &DesiredKind) -> Vec<&str> {
    desired.table.keys().map(Key::as_str).collect()
}

#[test]
fn a_node_has_its_own_peers_and_those_of_all() {
    let mut own = peer("10.0.0.1");
    own.nodes = vec!["a".into()];
    let mut other = peer("10.0.0.2");
    other.nodes = vec!["b".into()];
    let desired = desired(&config(vec![own, other, peer("2001:db8::1")]), &facts()).unwrap();
    assert_eq!(keys(&desired), ["10.0.0.1", "2001:db8::1"]);
    let need = Need::One(ResourceId { kind: bgp_instance::NAME, key: Key::new("managed") });
    assert_eq!(desired.needs.get("10.0.0.1").unwrap().as_ref(), [need]);
}

#[test]
fn a_peer_that_is_this_node_waits_and_says_why() {
    let own = fake::address(1, "10.0.0.1".parse().unwrap(), 24);
    let facts = Facts { addresses: vec![own], ..facts() };
    let desired = desired(&config(vec![peer("10.0.0.1")]), &facts).unwrap();
    assert_eq!(desired.held.get("10.0.0.1").unwrap(), "its address is one of this node");
}

#[test]
fn a_plan_names_the_password_file_and_never_the_password() {
    let mut peer = peer("10.0.0.1");
    peer.name = "tor-1".into();
    peer.password_file = Some("/etc/netd/tor-1".into());
    peer.hold = Duration::from_secs(9);
    peer.keepalive = Duration::from_secs(3);
    let spec = PeerSpec::new(peer);
    assert_eq!(spec.summary(), "tor-1, AS 64496, ipv4");
    let parts: Vec<String> =
        spec.parts().into_iter().map(|part| format!("{} {}", part.field, part.to.unwrap())).collect();
    assert_eq!(parts, ["password_file /etc/netd/tor-1", "hold 9s", "keepalive 3s"]);
    assert!(spec.changes(&spec).is_empty());
}

#[test]
fn every_field_of_a_peer_is_compared() {
    let some = BgpPeer {
        name: "other".into(),
        address: "10.0.0.1".parse().unwrap(),
        asn: 1,
        port: 180,
        password_file: Some("/x".into()),
        hold: Duration::from_secs(3),
        keepalive: Duration::from_secs(1),
        connect_retry: Duration::from_secs(1),
        multihop_ttl: Some(2),
        ttl_security: true,
        source: Some("10.0.0.2".parse().unwrap()),
        families: vec![Family::Ipv6],
        extended_next_hop: true,
        graceful_restart: Some(Duration::from_secs(1)),
        bfd: Some(Bfd::default()),
        passive: true,
        nodes: Vec::new(),
        import: Some(Import::default()),
    };
    let usual = PeerSpec::new(BgpPeer { address: some.address, ..BgpPeer::default() });
    assert_eq!(PeerSpec::new(some.clone()).changes(&usual).len(), 16);
}
