//! Facts as the kernel has them: read whole, read again when they changed, not read again when they did not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ipnetwork::IpNetwork;
use netd::facts::{Facts, FactsReader, Listener, Monitor, NextHop, Route, RouteAction, Stale};
use netd_integration_tests::{Lab, Namespace};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

fn pair(lab: &Lab) -> (Namespace, Namespace) {
    let node = lab.namespace("node");
    let peer = lab.namespace("peer");
    node.veth("eth0", &peer, "eth0");
    node.ip(&["addr", "add", "10.0.0.1/24", "dev", "eth0"]);
    node.ip(&["addr", "add", "fd00::1/64", "dev", "eth0"]);
    peer.ip(&["addr", "add", "10.0.0.2/24", "dev", "eth0"]);
    peer.ip(&["addr", "add", "fd00::2/64", "dev", "eth0"]);
    (node, peer)
}

async fn read(reader: &mut FactsReader) -> Facts {
    reader.read().await.unwrap()
}

fn route<'a>(facts: &'a Facts, prefix: &str) -> Option<&'a Route> {
    let prefix: IpNetwork = prefix.parse().unwrap();
    facts.routes.iter().find(|route| route.destination == prefix)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn links_addresses_routes_and_neighbours_are_as_the_kernel_has_them() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = pair(&lab);
    node.ip(&["route", "add", "10.1.0.0/16", "via", "10.0.0.2", "proto", "99", "metric", "7", "mtu", "1400"]);
    node.ip(&["route", "add", "unreachable", "10.2.0.0/16"]);
    node.ip(&["route", "add", "blackhole", "fd02::/64"]);
    node.ip(&["route", "add", "10.3.0.0/16", "via", "inet6", "fd00::2", "dev", "eth0", "src", "10.0.0.1"]);
    node.ip(&[
        "route",
        "add",
        "10.4.0.0/16",
        "nexthop",
        "via",
        "10.0.0.2",
        "nexthop",
        "via",
        "10.0.0.3",
        "weight",
        "9",
    ]);
    node.ip(&["route", "add", "10.5.0.0/16", "via", "10.0.0.2", "tos", "8"]);
    node.ip(&["route", "add", "10.6.0.0/16", "via", "10.0.0.2", "table", "100"]);
    node.ip(&["neigh", "add", "10.0.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0", "nud", "permanent"]);
    node.ip(&["neigh", "add", "fd00::9", "dev", "eth0", "managed", "extern_learn", "proto", "177"]);

    let facts = node.run_async(|| async { read(&mut FactsReader::new("lb-1".into())).await });
    assert_eq!(facts.node, "lb-1");
    let eth0 = facts.link_named("eth0").unwrap();
    assert!(eth0.up && eth0.mac.is_some() && eth0.mtu == 1500 && eth0.kind == "veth" && eth0.xdp.is_none());
    assert_eq!(facts.link_named("lo").unwrap().mac, None);
    let own = facts.addresses.iter().find(|own| own.address == ip("fd00::1")).unwrap();
    assert!(own.usable && own.global && own.prefix_len == 64 && own.link == eth0.index);
    assert!(facts.is_own_address(ip("10.0.0.1")) && !facts.is_own_address(ip("10.0.0.2")));

    let hop = |via: &str, weight| NextHop { link: eth0.index, via: Some(ip(via)), weight };
    let via = route(&facts, "10.1.0.0/16").unwrap();
    assert_eq!((via.protocol, via.metric, via.mtu), (99, 7, Some(1400)));
    assert_eq!(via.action, RouteAction::Forward(vec![hop("10.0.0.2", 1)]));
    assert_eq!(route(&facts, "10.2.0.0/16").unwrap().action, RouteAction::Discard);
    assert_eq!(route(&facts, "fd02::/64").unwrap().action, RouteAction::Discard);
    let across = route(&facts, "10.3.0.0/16").unwrap();
    assert_eq!(across.action, RouteAction::Forward(vec![hop("fd00::2", 1)]));
    assert_eq!(across.source, Some(ip("10.0.0.1")));
    let both = vec![hop("10.0.0.2", 1), hop("10.0.0.3", 9)];
    assert_eq!(route(&facts, "10.4.0.0/16").unwrap().action, RouteAction::Forward(both));
    assert_eq!((route(&facts, "10.5.0.0/16"), route(&facts, "10.6.0.0/16")), (None, None));
    let on_link = RouteAction::Forward(vec![NextHop { link: eth0.index, via: None, weight: 1 }]);
    assert_eq!(route(&facts, "fd00::/64").unwrap().action, on_link);

    let fixed = facts.neighbours[&(eth0.index, ip("10.0.0.9"))];
    assert!(fixed.valid && fixed.permanent && !fixed.managed);
    assert_eq!(fixed.mac.unwrap().to_string(), "02:00:00:00:00:09");
    let managed = facts.neighbours[&(eth0.index, ip("fd00::9"))];
    assert_eq!((managed.valid, managed.managed, managed.protocol), (false, true, 177));
}

#[test]
fn a_namespace_without_any_route_is_read_and_is_empty() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.namespace("bare");
    let facts = node.run_async(|| async { read(&mut FactsReader::new("n".into())).await });
    assert!(facts.routes.iter().all(|route| route.destination.ip().is_loopback()), "{:?}", facts.routes);
}

#[test]
fn a_read_after_a_change_never_answers_with_what_was_before_it() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = pair(&lab);
    node.run_async(|| async {
        let mut reader = FactsReader::new("n".into());
        for number in 0..20 {
            let prefix = format!("10.{}.0.0/16", number + 50);
            assert!(route(&read(&mut reader).await, &prefix).is_none());
            node.ip(&["route", "add", &prefix, "via", "10.0.0.2"]);
            assert!(route(&read(&mut reader).await, &prefix).is_some());
        }
        assert_eq!(read(&mut reader).await, read(&mut FactsReader::new("n".into())).await);
    });
}

#[test]
fn k15_routes_that_vanish_without_a_message_are_seen_to_be_gone() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = pair(&lab);
    node.ip(&["route", "add", "10.9.0.0/16", "via", "10.0.0.2"]);
    node.run_async(|| async {
        let mut reader = FactsReader::new("n".into());
        assert!(route(&read(&mut reader).await, "10.9.0.0/16").is_some());
        node.ip(&["link", "set", "eth0", "down"]);
        let facts = read(&mut reader).await;
        assert!(route(&facts, "10.9.0.0/16").is_none());
        assert!(!facts.link_named("eth0").unwrap().up);
        node.ip(&["link", "set", "eth0", "up"]);
        assert!(route(&read(&mut reader).await, "10.0.0.0/24").is_some());
    });
}

#[test]
fn k20_an_address_that_goes_takes_the_routes_that_prefer_it() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = pair(&lab);
    node.ip(&["addr", "add", "10.0.7.1/32", "dev", "lo"]);
    node.ip(&["route", "add", "10.9.0.0/16", "via", "10.0.0.2", "src", "10.0.7.1"]);
    node.run_async(|| async {
        let mut reader = FactsReader::new("n".into());
        assert!(route(&read(&mut reader).await, "10.9.0.0/16").is_some());
        node.ip(&["addr", "del", "10.0.7.1/32", "dev", "lo"]);
        assert!(route(&read(&mut reader).await, "10.9.0.0/16").is_none());
    });
}

#[test]
fn a_next_hop_object_that_changes_or_goes_is_noticed() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = pair(&lab);
    node.ip(&["nexthop", "add", "id", "1", "via", "10.0.0.2", "dev", "eth0"]);
    node.ip(&["route", "add", "10.9.0.0/16", "nhid", "1"]);
    node.run_async(|| async {
        let mut reader = FactsReader::new("n".into());
        let via = |facts: &Facts| match &route(facts, "10.9.0.0/16")?.action {
            RouteAction::Forward(hops) => hops[0].via,
            RouteAction::Tunnel(..) | RouteAction::Discard | RouteAction::Other => None,
        };
        assert_eq!(via(&read(&mut reader).await), Some(ip("10.0.0.2")));
        node.ip(&["nexthop", "replace", "id", "1", "via", "10.0.0.3", "dev", "eth0"]);
        assert_eq!(via(&read(&mut reader).await), Some(ip("10.0.0.3")));
        node.ip(&["nexthop", "del", "id", "1"]);
        assert_eq!(via(&read(&mut reader).await), None);
    });
}

#[test]
fn k10_lost_announcements_make_everything_stale() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = pair(&lab);
    node.run_async(|| async {
        let mut listener = Listener::with_queue(1).unwrap();
        assert_eq!(listener.drain().await.unwrap(), Stale::default());
        churn(&node, 0..300);
        assert_eq!(listener.drain().await.unwrap(), Stale::ALL);
        assert_eq!(listener.drain().await.unwrap(), Stale::default());
        node.ip(&["route", "add", "10.9.0.0/16", "via", "10.0.0.2"]);
        assert_eq!(listener.drain().await.unwrap(), Stale { routes: true, ..Stale::default() });
    });
}

fn churn(node: &Namespace, numbers: std::ops::Range<u32>) {
    let lines: String =
        numbers.map(|n| format!("route add 172.{}.{}.0/24 via 10.0.0.2\n", 16 + n / 256, n % 256)).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    node.ip(&["-batch", file.path().to_str().unwrap()]);
}

#[test]
fn k31_a_hundred_thousand_foreign_routes_are_read_in_time() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = pair(&lab);
    let line =
        |n: u32| format!("route add {}/28 via 10.0.0.2\n", std::net::Ipv4Addr::from((64 << 24) + n * 16));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), (0..100_000).map(line).collect::<String>()).unwrap();
    node.ip(&["-batch", file.path().to_str().unwrap()]);
    node.run_async(|| async {
        let mut reader = FactsReader::new("n".into());
        let started = std::time::Instant::now();
        let count = read(&mut reader).await.routes.len();
        let first = started.elapsed();
        assert!(count >= 100_000, "{count}");
        assert!(first < Duration::from_secs(2), "{first:?}");
    });
}

#[test]
fn k11_a_dump_under_churn_is_whole_or_refused() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = pair(&lab);
    let batch = |lines: String| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        node.ip(&["-batch", file.path().to_str().unwrap()]);
    };
    let line = |verb: &str, net: u8, n: u32| {
        format!("addr {verb} 10.{net}.{}.{}/32 dev eth0\n", n / 250, n % 250 + 1)
    };
    // The kernel finds its place again by counting: every address that goes before the others makes it skip one.
    let moving = 0..200;
    batch(moving.clone().map(|n| line("add", 60, n)).collect());
    batch((0..3000).map(|n| line("add", 70, n)).collect());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let again = |n: u32| line("del", 60, n) + &line("add", 60, n);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                batch(moving.clone().map(again).collect());
            }
        });
        let answers = node.run_async(|| async {
            let mut answers = Vec::new();
            for _ in 0..100 {
                answers.push(FactsReader::new("n".into()).read().await);
            }
            answers
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let kept = |facts: &Facts| {
            let stays = |own: &IpAddr| matches!(own, IpAddr::V4(own) if own.octets()[..2] == [10, 70]);
            facts.addresses.iter().filter(|own| stays(&own.address)).count()
        };
        let whole = answers.iter().flatten().map(kept).collect::<Vec<_>>();
        assert!(whole.iter().all(|kept| *kept == 3000), "of 3000 that nobody touched: {whole:?}");
        let refusals: Vec<&String> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(refusals.iter().all(|reason| reason.contains("changed during each")), "{refusals:?}");
        eprintln!("{} whole, {} refused", whole.len(), refusals.len());
    });
}

#[test]
fn changes_wake_and_echoes_do_not() {
    let Some(lab) = Lab::new() else { return };
    let (node, peer) = pair(&lab);
    node.run_async(|| async {
        let changed = Arc::new(Notify::new());
        let monitor = Monitor::start(Arc::clone(&changed)).unwrap();
        let woken = async |within: u64| {
            tokio::time::timeout(Duration::from_millis(within), changed.notified()).await.is_ok()
        };
        let neighbour = |state: &str, mac: &str| {
            node.ip(&["neigh", "replace", "10.0.0.2", "lladdr", mac, "dev", "eth0", "nud", state]);
        };
        while woken(300).await {}
        neighbour("reachable", "02:00:00:00:00:02");
        assert!(woken(1000).await, "a new neighbour");
        for state in ["stale", "reachable", "delay", "probe", "stale"] {
            neighbour(state, "02:00:00:00:00:02");
        }
        assert!(!woken(100).await, "another state of the same neighbour");
        neighbour("reachable", "02:00:00:00:00:03");
        assert!(woken(1000).await, "another MAC");
        node.ip(&["neigh", "del", "10.0.0.2", "dev", "eth0"]);
        assert!(woken(1000).await, "no MAC");
        while woken(100).await {}
        node.ip(&["route", "add", "10.9.0.0/16", "via", "10.0.0.2", "table", "77"]);
        assert!(!woken(100).await, "a route of another table");
        node.ip(&["route", "add", "10.9.0.0/16", "via", "10.0.0.2"]);
        assert!(woken(1000).await, "a route");
        peer.ip(&["link", "set", "eth0", "down"]);
        assert!(woken(1000).await, "a link");
        assert_eq!(monitor.overruns(), 0);
    });
}
