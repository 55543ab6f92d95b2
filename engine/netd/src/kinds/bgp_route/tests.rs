//! Which received routes are wanted, and by which way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::facts::{FromPeer, Received, Route};
use crate::fake;
use std::fmt::Write as _;

fn config(peers: &str) -> Config {
    let text = format!("version = 1\n[bgp]\nasn = 64512\n{peers}");
    netd_schema::parse("test.toml", text.as_bytes()).unwrap_or_else(|found| panic!("{found}")).config
}

fn peer(address: &str, import: &str) -> String {
    format!("[[bgp.peers]]\naddress = \"{address}\"\nasn = 64513\nimport = {import}\n")
}

type Routes<'a> = &'a [(&'a str, &'a [(&'a str, &'a str)])];

/// A node with one link, and what its peers sent.
fn facts(received: Routes<'_>) -> Facts {
    let routes = |routes: &[(&str, &str)]| {
        let routes = routes.iter().map(|(prefix, hop)| (prefix.parse().unwrap(), hop.parse().unwrap()));
        FromPeer { routes: Arc::new(routes.collect()), ..FromPeer::default() }
    };
    let received = received.iter().map(|(peer, all)| (peer.parse().unwrap(), routes(all))).collect();
    let address = "10.0.0.11".parse().unwrap();
    Facts {
        links: [(2, fake::link(2, "eth0"))].into(),
        addresses: vec![fake::address(2, address, 24)],
        routes: vec![fake::route("10.0.0.0/24".parse().unwrap(), 2, None)],
        received: Arc::new(Received(Ok(received))),
        ..Facts::default()
    }
}

fn shown(config: &Config, facts: &Facts) -> String {
    let desired = desired(config, facts).unwrap();
    let mut text = String::new();
    for (key, spec) in &desired.table {
        let _ = writeln!(text, "{key} {}", spec.summary());
    }
    for (key, why) in &desired.held {
        let _ = writeln!(text, "{key} waits: {why}");
    }
    for (key, note) in &desired.notes {
        let _ = writeln!(text, "{key}: {note}");
    }
    text
}

#[test]
fn only_what_is_asked_for_goes_into_its_table() {
    let config = config(&(peer("10.0.0.1", "{ table = 100 }") + &peer("10.0.0.2", "\"none\"")));
    let facts = facts(&[
        ("10.0.0.1", &[("203.0.113.0/24", "10.0.0.1")]),
        ("10.0.0.2", &[("198.51.100.0/24", "10.0.0.2")]),
    ]);
    assert_eq!(shown(&config, &facts), "203.0.113.0/24 table 100 via 10.0.0.1 dev eth0\n");
}

#[test]
fn of_two_peers_the_one_with_the_lower_address_is_followed() {
    let import = "{ table = 100, default_route = true }";
    let config = config(&(peer("10.0.0.2", import) + &peer("10.0.0.1", import)));
    let both: Routes<'_> = &[
        ("10.0.0.1", &[("203.0.113.0/24", "10.0.0.1")]),
        ("10.0.0.2", &[("203.0.113.0/24", "10.0.0.2"), ("0.0.0.0/0", "10.0.0.2")]),
    ];
    let expected =
        "0.0.0.0/0 table 100 via 10.0.0.2 dev eth0\n203.0.113.0/24 table 100 via 10.0.0.1 dev eth0\n";
    assert_eq!(shown(&config, &facts(both)), expected);
    let expected =
        "0.0.0.0/0 table 100 via 10.0.0.2 dev eth0\n203.0.113.0/24 table 100 via 10.0.0.2 dev eth0\n";
    assert_eq!(shown(&config, &facts(&both[1..])), expected);
}

#[test]
fn a_route_by_a_router_that_nothing_leads_to_waits() {
    let config = config(&peer("10.0.0.1", "{ table = 254 }"));
    let sent: Routes<'_> =
        &[("10.0.0.1", &[("203.0.113.0/24", "172.16.0.1"), ("2001:db8:f00::/48", "10.0.0.1")])];
    let expected = "2001:db8:f00::/48 waits: its next hop 10.0.0.1 is no IPv6 address\n\
                    203.0.113.0/24 waits: no route to 172.16.0.1\n";
    assert_eq!(shown(&config, &facts(sent)), expected);
}

#[test]
fn while_gobgpd_cannot_be_asked_nothing_is_known_and_without_import_it_does_not_matter() {
    let mut facts = facts(&[]);
    facts.received = Arc::new(Received(Err("gobgpd does not answer".into())));
    let asked = desired(&config(&peer("10.0.0.1", "{ table = 100 }")), &facts);
    assert_eq!(asked.unwrap_err(), "gobgpd does not answer");
    assert!(desired(&config(&peer("10.0.0.1", "\"none\"")), &facts).unwrap().table.is_empty());
}

#[test]
fn a_next_hop_is_not_reached_by_what_peers_sent() {
    let config = config(&peer("10.0.0.1", "{ table = 254, default_route = true }"));
    let sent: Routes<'_> = &[("10.0.0.1", &[("0.0.0.0/0", "172.16.0.1"), ("203.0.113.0/24", "10.0.0.7")])];
    let mut facts = facts(sent);
    // As they came into the main table while another route led to the one router, and before a narrower one came.
    for prefix in ["0.0.0.0/0", "10.0.0.0/25"] {
        let via = Some("10.0.0.1".parse().unwrap());
        let route = fake::route(prefix.parse().unwrap(), 2, via);
        facts.routes.push(Route { protocol: PROTOCOL, metric: METRIC_RECEIVED, ..route });
    }
    let expected = "203.0.113.0/24 via 10.0.0.7 dev eth0\n0.0.0.0/0 waits: no route to 172.16.0.1\n";
    assert_eq!(shown(&config, &facts), expected);
}

#[test]
fn a_link_local_next_hop_is_on_the_link_of_the_peer() {
    let config = config(&peer("10.0.0.1", "{ table = 100 }"));
    let mut facts = facts(&[("10.0.0.1", &[("2001:db8:f00::/48", "fe80::1")])]);
    facts.links.insert(1, fake::link(1, "dummy0"));
    for link in [1, 2] {
        facts.routes.push(fake::route("fe80::/64".parse().unwrap(), link, None));
    }
    assert_eq!(shown(&config, &facts), "2001:db8:f00::/48 table 100 via fe80::1 dev eth0\n");
    // The peer is behind a router now: on which link its neighbour is, nobody knows.
    facts.routes[0] = fake::route("10.0.0.0/24".parse().unwrap(), 2, Some("10.9.0.1".parse().unwrap()));
    assert_eq!(shown(&config, &facts), "2001:db8:f00::/48 table 100 waits: no route to fe80::1\n");
}

#[test]
fn what_the_node_announces_as_an_aggregate_is_not_taken_from_others() {
    let service = "[[services]]\nname = \"web\"\nvips = [\"192.0.2.10\"]\nports = [{ protocol = \"tcp\", port = 80 }]\n\
                   [[services.backends]]\naddress = \"10.1.0.2\"\n\
                   [[bgp.announcements]]\naggregate = { ipv4 = 24 }\n";
    let config = config(&(peer("10.0.0.1", "{ table = 254 }") + service));
    let both: Routes<'_> = &[("10.0.0.1", &[("192.0.2.0/24", "10.0.0.1"), ("203.0.113.0/24", "10.0.0.1")])];
    let expected = "203.0.113.0/24 via 10.0.0.1 dev eth0\n\
                    10.0.0.1: of the routes that it sent are not taken: 1 that this node announces itself (192.0.2.0/24)\n";
    assert_eq!(shown(&config, &facts(both)), expected);
}

#[test]
fn what_nobody_else_has_a_route_to_is_not_taken_and_that_is_said() {
    let text = "[[services]]\nname = \"web\"\nvips = [\"198.51.100.10\", \"2001:db8:100::10\"]\n\
                ports = [{ protocol = \"tcp\", port = 80 }]\n\
                backends = [{ address = \"10.1.0.2\" }, { address = \"2001:db8:1::2\" }]\n\
                [[ip_pools]]\nname = \"public\"\nranges = [\"192.0.2.0/25\", \"2001:db8:200::/64\"]\n\
                [[nodes]]\nname = \"a\"\npod_cidrs = [\"10.244.1.0/24\"]\n\
                [[nodes]]\nname = \"b\"\npod_cidrs = [\"10.244.2.0/24\", \"fd00:244:2::/64\"]\n";
    let config = config(&(peer("10.0.0.1", "{ table = 100 }") + text));
    let by = "10.0.0.1";
    let v4 = [
        ("0.0.0.0/0", by),
        ("0.1.0.0/16", by),
        ("10.0.0.0/8", by),
        ("10.244.2.0/24", by),
        ("10.244.2.128/25", by),
        ("127.0.0.0/8", by),
        ("192.0.2.0/24", by),
        ("192.0.2.64/26", by),
        ("198.51.100.10/32", by),
        ("198.51.100.11/32", by),
        ("224.0.0.5/32", by),
        ("255.255.255.255/32", by),
    ];
    let v6 = [
        "::/0",
        "::1/128",
        "2001:db8:100::10/128",
        "2001:db8:200::/65",
        "fd00:244:2::/64",
        "fe80::/64",
        "ff02::/16",
    ];
    let v6 = v6.map(|prefix| (prefix, "2001:db8::1"));
    let sent = [&v4[..], &v6[..]].concat();
    let mut facts = facts(&[(by, &sent)]);
    facts.node = "a".into();
    let expected = "10.0.0.0/8 table 100 via 10.0.0.1 dev eth0\n\
        192.0.2.0/24 table 100 via 10.0.0.1 dev eth0\n\
        198.51.100.11/32 table 100 via 10.0.0.1 dev eth0\n\
        10.0.0.1: of the routes that it sent are not taken: 2 to everywhere (`import.default_route` takes it), \
        7 to where nothing is routed (0.1.0.0/16 …), 2 to VIPs of the file (198.51.100.10/32 …), \
        2 inside pools of the file (192.0.2.64/26 …), 3 to pods of the file (10.244.2.0/24 …)\n";
    assert_eq!(shown(&config, &facts), expected);
}

#[test]
fn what_is_too_much_or_makes_no_sense_is_left_out_and_that_is_said() {
    let config = config(&peer("10.0.0.1", "{ table = 100, max = 2 }"));
    let by = "10.0.0.1";
    let routes = [("203.0.113.0/24", by), ("127.0.0.0/8", by), ("198.51.100.0/24", by), ("192.0.2.0/24", by)];
    let mut facts = facts(&[(by, &routes)]);
    let mut received = facts.received.0.clone().unwrap();
    let from = received.get_mut(&by.parse::<IpAddr>().unwrap()).unwrap();
    (from.left_out, from.unreadable) = (150_000, 3);
    facts.received = Arc::new(Received(Ok(received)));
    let expected = "192.0.2.0/24 table 100 via 10.0.0.1 dev eth0\n\
        198.51.100.0/24 table 100 via 10.0.0.1 dev eth0\n\
        10.0.0.1: of the routes that it sent are not taken: 1 to where nothing is routed (127.0.0.0/8), \
        1 more than `import.max`, 2, 150000 of a family of which it sent more than netd looks at, \
        3 that make no sense\n";
    assert_eq!(shown(&config, &facts), expected);
}
