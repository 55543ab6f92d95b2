#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::facts::{Link, Mac, Neighbour, Route};
use crate::fake;
use crate::health::check::{Pace, Question};
use std::time::Duration;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route(prefix: &str, link: u32, via: Option<&str>) -> Route {
    fake::route(prefix.parse().unwrap(), link, via.map(ip))
}

/// The way to the world is by eth0, that to the backends by eth1.
fn facts() -> Facts {
    let link = |index: u32, name: &str| {
        let mac = Some(Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]));
        (index, Link { mac, ..fake::link(index, name) })
    };
    let address = |link, address: &str, prefix_len| fake::address(link, ip(address), prefix_len);
    let neighbour = |link, at: &str| {
        ((link, ip(at)), Neighbour { mac: Some(Mac([9; 6])), valid: true, ..Neighbour::default() })
    };
    Facts {
        links: BTreeMap::from([link(2, "eth0"), link(3, "eth1")]),
        addresses: vec![
            address(2, "198.51.100.2", 24),
            address(3, "10.0.0.254", 24),
            address(3, "fd00::fe", 64),
        ],
        routes: vec![
            route("0.0.0.0/0", 2, Some("198.51.100.1")),
            route("198.51.100.0/24", 2, None),
            route("10.0.0.0/24", 3, None),
            route("fd00::/64", 3, None),
        ],
        neighbours: BTreeMap::from([neighbour(3, "10.0.0.1"), neighbour(3, "fd00::1")]),
        ..Facts::default()
    }
}

fn way_of(config: &Config, backend: &str, vip: Option<&str>) -> Way {
    let target = Target { backend: ip(backend), vip: vip.map(ip), gue_port: None, port: 80 };
    let pace = Pace { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), rise: 1, fall: 1 };
    let check = Check { target, question: Question::Tcp, pace };
    let found = ways(config, &facts(), &BTreeSet::from([check.clone()]));
    found[&check].clone()
}

fn tunnel(way: Way) -> TunnelWay {
    match way {
        Way::Tunnel(tunnel) => tunnel,
        other => unreachable!("no tunnel: {other:?}"),
    }
}

#[test]
fn a_probe_is_caught_where_the_vips_route_leaves_and_goes_on_to_the_backend() {
    let way = tunnel(way_of(&Config::default(), "10.0.0.1", Some("192.0.2.1")));
    assert_eq!((way.device.as_str(), way.ifindex, way.from), ("eth0", 2, Some(ip("10.0.0.254"))));
    assert_eq!(
        way.outer,
        Outer {
            ifindex: 3,
            destination_mac: [9; 6],
            source_mac: [2, 0, 0, 0, 0, 3],
            source: ip("10.0.0.254"),
            destination: ip("10.0.0.1"),
            gue_port: None,
            hop_limit: 64,
        }
    );
}

#[test]
fn where_the_families_differ_the_kernel_chooses_the_probes_source() {
    let way = tunnel(way_of(&Config::default(), "fd00::1", Some("192.0.2.1")));
    assert_eq!((way.from, way.outer.source), (None, ip("fd00::fe")));
}

#[test]
fn the_outer_source_is_of_the_prefix_that_flows_get_theirs_from() {
    let mut config = Config::default();
    config.load_balancer.rss_source = vec!["10.9.0.0/16".parse().unwrap(), "f00d::/64".parse().unwrap()];
    let source = |backend| tunnel(way_of(&config, backend, Some("192.0.2.1"))).outer.source;
    assert_eq!((source("10.0.0.1"), source("fd00::1")), (ip("10.9.0.1"), ip("f00d::1")));
}

#[test]
fn without_a_way_into_the_tunnel_the_backend_is_asked_directly() {
    for (vip, why) in [
        ("198.51.100.2", "is checked directly: the VIP 198.51.100.2 is an address of this node"),
        (
            "198.51.100.9",
            "is checked directly: its probes do not find the tunnel: 198.51.100.9 is a neighbour on eth0",
        ),
        ("2001:db8::1", "is checked directly: its probes do not find the tunnel: no route to 2001:db8::1"),
    ] {
        assert_eq!(way_of(&Config::default(), "10.0.0.1", Some(vip)), Way::Direct(Some(why.into())));
    }
    assert_eq!(way_of(&Config::default(), "10.0.0.1", None), Way::Direct(None));
}

#[test]
fn a_backend_that_has_no_path_has_none_for_checks() {
    let way = way_of(&Config::default(), "10.0.0.7", Some("192.0.2.1"));
    assert_eq!(way, Way::None("next hop 10.0.0.7 on eth1 is not resolved".into()));
}
