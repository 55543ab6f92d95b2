//! Routes of every form on the real kernel: in other tables, straight into a device, into a tunnel, with an MTU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd::conformance::Subject;
use netd::facts::{Facts, FactsReader, Link, TABLE_MAIN, Tunnel};
use netd::kinds::route::{self, PROTOCOL, RouteSpec, RouteTarget, Way};
use netd::target::Target;
use netd_core::{Action, Outcome, ResourceId, Spec, Step};
use netd_integration_tests::{Lab, Namespace};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const TABLE: u32 = 201;

/// A node with a device towards others, and a tunnel device that is told by routes where to.
fn node(lab: &Lab) -> (Namespace, Namespace) {
    let node = lab.namespace("node");
    let peer = lab.namespace("peer");
    node.veth("eth0", &peer, "eth0");
    node.ip(&["addr", "add", "10.0.0.1/24", "dev", "eth0"]);
    node.ip(&["addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad"]);
    node.ip(&["link", "add", "tunnel", "type", "vxlan", "external", "dstport", "8472"]);
    node.ip(&["link", "set", "tunnel", "up"]);
    (node, peer)
}

async fn facts() -> Facts {
    FactsReader::new("lb-1".into()).read().await.unwrap()
}

fn spec(prefix: &str, table: u32, way: impl FnOnce(ipnetwork::IpNetwork) -> Way) -> RouteSpec {
    let prefix = prefix.parse().unwrap();
    RouteSpec { prefix, way: way(prefix), table, protocol: PROTOCOL, surplus: Vec::new() }
}

/// What makes routes in this table.
fn target(table: u32) -> RouteTarget {
    if table == TABLE_MAIN { RouteTarget::default() } else { RouteTarget::encrypted() }
}

/// The route to `prefix` of each form, for a node with these facts.
fn forms(facts: &Facts, prefix: &str, table: u32) -> Vec<RouteSpec> {
    let (eth0, tunnel) = (facts.link_named("eth0").unwrap(), facts.link_named("tunnel").unwrap());
    let router = if prefix.contains(':') { "2001:db8::2" } else { "10.0.0.2" }.parse().unwrap();
    let into = |link: &Link| spec(prefix, table, |prefix| Way::into_device(link, prefix));
    let to = |id, remote: &str| {
        let tunnelled = Some(Tunnel { id, local: None, remote: remote.parse().unwrap() });
        let device = into(tunnel);
        RouteSpec { way: Way { tunnel: tunnelled, ..device.way.clone() }, ..device }
    };
    let mtu = |spec: RouteSpec, mtu| RouteSpec { way: Way { mtu: Some(mtu), ..spec.way.clone() }, ..spec };
    vec![
        spec(prefix, table, |prefix| Way::via(router, eth0, prefix)),
        into(eth0),
        mtu(into(eth0), 1400),
        mtu(into(eth0), 1300),
        to(7, "10.0.0.2"),
        to(8, "10.0.0.2"),
        to(8, "10.0.0.3"),
        mtu(to(8, "10.0.0.3"), 1280),
        to(8, "2001:db8::2"),
        spec(prefix, table, |prefix| Way { mtu: Some(1400), ..Way::via(router, eth0, prefix) }),
    ]
}

fn step(action: Action, spec: &RouteSpec) -> Step {
    Step { id: ResourceId { kind: route::NAME, key: route::key(spec.prefix, spec.table) }, action }
}

#[test]
fn routes_of_every_form_keep_what_every_target_promises_in_every_table() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = node(&lab);
    node.run_async(|| async {
        let facts = facts().await;
        for (one, other) in [("10.244.2.0/24", "10.244.3.0/24"), ("fd00:244:2::/64", "fd00:244:3::/64")] {
            for table in [TABLE_MAIN, TABLE, 70_000] {
                let forms = forms(&facts, one, table);
                let keyed = |spec: &RouteSpec| {
                    (route::key(spec.prefix, spec.table), Arc::new(spec.clone()) as Arc<dyn Spec>)
                };
                let other = spec(other, table, |prefix| {
                    Way::via(forms[0].way.via.unwrap(), facts.link_named("eth0").unwrap(), prefix)
                });
                for (from, to) in forms.iter().zip(forms.iter().cycle().skip(1)) {
                    let mut target = target(table);
                    let mut subject = Subject {
                        kind: route::NAME,
                        target: &mut target,
                        facts: async || FactsReader::new("lb-1".into()).read().await,
                        resources: [keyed(from), keyed(&other)],
                        updated: Some(keyed(to).1),
                    };
                    let kept = subject.check().await;
                    assert_eq!(kept, Ok(()), "{:?} to {:?}", from, to);
                }
            }
        }
    });
}

#[test]
fn routes_are_as_ip_route_would_make_them() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = node(&lab);
    node.run_async(|| async {
        let facts = facts().await;
        let all = forms(&facts, "10.244.2.0/24", TABLE);
        let made = |at: usize| {
            let to: Arc<dyn Spec> = Arc::new(all[at].clone());
            step(Action::Create { to }, &all[at])
        };
        let mut target = RouteTarget::default();
        for (at, expected) in [
            (1, "10.244.2.0/24 dev eth0 proto 177 scope link"),
            (4, "10.244.2.0/24 encap ip id 7 src 0.0.0.0 dst 10.0.0.2 ttl 0 tos 0 dev tunnel proto 177 scope link"),
            (8, "10.244.2.0/24 encap ip6 id 8 src :: dst 2001:db8::2 hoplimit 0 tc 0 csum dev tunnel proto 177 scope link"),
            (9, "10.244.2.0/24 via 10.0.0.2 dev eth0 proto 177 mtu 1400"),
        ] {
            assert_eq!(target.apply(&[made(at)], &facts).await, [Outcome::Applied]);
            let shown = node.ip(&["route", "show", "table", "201"]);
            assert_eq!(shown.split_whitespace().collect::<Vec<_>>().join(" "), expected);
            node.ip(&["route", "flush", "table", "201"]);
        }
    });
}

#[test]
fn k16_a_foreign_route_in_a_table_of_netds_is_a_conflict_and_stays_as_it_is() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = node(&lab);
    let all =
        || node.ip(&["route", "show", "table", "all"]) + &node.ip(&["-6", "route", "show", "table", "all"]);
    for prefix in ["10.244.2.0/24", "fd00:244:2::/64"] {
        node.ip(&["route", "add", prefix, "dev", "eth0", "table", "201", "proto", "99"]);
        node.ip(&["route", "add", prefix, "dev", "eth0", "table", "77", "proto", "static"]);
    }
    let before = all();
    node.run_async(|| async {
        let facts = facts().await;
        for prefix in ["10.244.2.0/24", "fd00:244:2::/64"] {
            let to = forms(&facts, prefix, TABLE).remove(1);
            let create = step(Action::Create { to: Arc::new(to.clone()) }, &to);
            let outcomes = RouteTarget::default().apply(&[create], &facts).await;
            assert_eq!(outcomes, [Outcome::Conflict("a route of protocol 99".into())]);
        }
        assert_eq!(RouteTarget::default().observe(&facts).await.unwrap().owned.len(), 0);
    });
    assert_eq!(all(), before);
}

#[test]
fn no_change_of_form_leaves_a_moment_without_a_route() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = node(&lab);
    let stop = AtomicBool::new(false);
    let watch = |target: &'static str, from: &'static str| {
        node.run(|| {
            let socket = std::net::UdpSocket::bind(from).unwrap();
            let (mut tries, mut gaps) = (0u32, 0u32);
            while !stop.load(Ordering::Relaxed) {
                tries += 1;
                gaps += u32::from(socket.connect(target).is_err());
            }
            (tries, gaps)
        })
    };
    let forms = node.run_async(|| async {
        let facts = facts().await;
        let forms = ["10.244.2.0/24", "fd00:244:2::/64"].map(|prefix| forms(&facts, prefix, TABLE_MAIN));
        for forms in &forms {
            let create = step(Action::Create { to: Arc::new(forms[0].clone()) }, &forms[0]);
            assert_eq!(RouteTarget::default().apply(&[create], &facts).await, [Outcome::Applied]);
        }
        forms
    });
    std::thread::scope(|scope| {
        let v4 = scope.spawn(|| watch("10.244.2.9:9", "0.0.0.0:0"));
        let v6 = scope.spawn(|| watch("[fd00:244:2::9]:9", "[::]:0"));
        node.run_async(|| async {
            let facts = facts().await;
            let mut target = RouteTarget::default();
            let rounds = forms[0].len();
            for round in 0..5 * rounds {
                let change = |forms: &Vec<RouteSpec>| {
                    let (from, to) = (forms[round % rounds].clone(), forms[(round + 1) % rounds].clone());
                    step(Action::Update { from: Arc::new(from), to: Arc::new(to.clone()) }, &to)
                };
                let steps: Vec<Step> = forms.iter().map(change).collect();
                let outcomes = target.apply(&steps, &facts).await;
                if outcomes != [Outcome::Applied, Outcome::Applied] {
                    stop.store(true, Ordering::Relaxed);
                    panic!("round {round}: {outcomes:?}");
                }
            }
        });
        stop.store(true, Ordering::Relaxed);
        for (tries, gaps) in [v4.join().unwrap(), v6.join().unwrap()] {
            assert!(tries > 100 && gaps == 0, "{gaps} of {tries} look-ups found no route");
        }
    });
}
