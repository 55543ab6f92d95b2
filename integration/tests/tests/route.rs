//! Routes on the real kernel: ours are made, changed and removed without touching anybody else's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd::conformance::Subject;
use netd::facts::{Facts, FactsReader, TABLE_MAIN};
use netd::kinds::route::{self, PROTOCOL, RouteSpec, RouteTarget, Way};
use netd::target::Target;
use netd_core::{Desired, Key, Observed, Outcome, Plan, Reading, Spec, plan};
use netd_integration_tests::{Lab, Namespace};
use netd_schema::{Config, Node};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node on a network with a peer that has many addresses.
fn network(lab: &Lab) -> (Namespace, Namespace) {
    let node = lab.namespace("node");
    let peer = lab.namespace("peer");
    node.veth("eth0", &peer, "eth0");
    node.ip(&["addr", "add", "10.0.0.1/24", "dev", "eth0"]);
    node.ip(&["addr", "add", "2001:db8::1/64", "dev", "eth0"]);
    (node, peer)
}

fn config(nodes: &[(&str, &[&str], &[&str])]) -> Config {
    let node = |(name, addresses, pods): &(&str, &[&str], &[&str])| Node {
        name: (*name).into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        pod_cidrs: pods.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        ..Node::default()
    };
    Config { nodes: nodes.iter().map(node).collect(), ..Config::default() }
}

/// This node and another one at `v4` and `v6`, with a prefix of pods in each family.
fn two_nodes(v4: &str, v6: &str) -> Config {
    config(&[("lb-1", &["10.0.0.1"], &[]), ("lb-2", &[v4, v6], &["10.244.2.0/24", "fd00:244:2::/64"])])
}

struct World {
    reader: FactsReader,
    target: RouteTarget,
}

impl World {
    fn new() -> Self {
        Self { reader: FactsReader::new("lb-1".into()), target: RouteTarget::default() }
    }

    async fn plan(&mut self, config: &Config) -> (Plan, Facts) {
        let facts = self.reader.read().await.unwrap();
        let observed = self.target.observe(&facts).await.unwrap();
        let desired =
            Desired(BTreeMap::from([(route::NAME, route::desired(config, &facts).map(Into::into))]));
        let observed = Observed(BTreeMap::from([(route::NAME, Reading::Known(observed.into()))]));
        (plan(&[route::NAME], &desired, &observed), facts)
    }

    async fn pass(&mut self, config: &Config) -> (Plan, Vec<Outcome>) {
        let (plan, facts) = self.plan(config).await;
        let outcomes = self.target.apply(&plan.steps, &facts).await;
        (plan, outcomes)
    }

    /// A pass in which everything works, and after which nothing is left to do.
    async fn converge(&mut self, config: &Config) -> Plan {
        let (plan, outcomes) = self.pass(config).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{outcomes:?}");
        let (rest, _) = self.plan(config).await;
        assert!(rest.is_empty(), "{:?}", rest.steps);
        plan
    }
}

/// The routes of the main table to pods, both families, as `ip` prints them.
fn pods(node: &Namespace) -> Vec<String> {
    let both = node.ip(&["route", "show"]) + &node.ip(&["-6", "route", "show"]);
    let lines = both.lines().filter(|line| line.contains("244:") || line.contains("10.244."));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Runs `work` and counts the announcements of routes to pods meanwhile.
fn events(node: &Namespace, work: impl FnOnce()) -> usize {
    let mut command = node.command("ip");
    let mut monitor =
        command.args(["-o", "monitor", "route"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    work();
    std::thread::sleep(std::time::Duration::from_millis(200));
    monitor.kill().unwrap();
    let output = monitor.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains("244:") || line.contains("10.244.")).count()
}

#[test]
fn routes_follow_the_file_and_a_second_pass_does_nothing() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    let pass = |config: Config| node.run_async(|| async { World::new().converge(&config).await.counts() });

    let two = two_nodes("10.0.0.2", "2001:db8::2");
    assert_eq!(events(&node, || assert_eq!(pass(two.clone()), (2, 0, 0))), 2, "one announcement per change");
    let expected = [
        "10.244.2.0/24 via 10.0.0.2 dev eth0 proto 177",
        "fd00:244:2::/64 via 2001:db8::2 dev eth0 proto 177 metric 1024 pref medium",
    ];
    assert_eq!(pods(&node), expected);
    assert_eq!(events(&node, || assert_eq!(pass(two), (0, 0, 0))), 0, "nothing to do announces nothing");

    // An update is the new way and the end of the old one.
    let moved = two_nodes("10.0.0.3", "2001:db8::3");
    assert_eq!(events(&node, || assert_eq!(pass(moved), (0, 2, 0))), 4);
    let expected = [
        "10.244.2.0/24 via 10.0.0.3 dev eth0 proto 177",
        "fd00:244:2::/64 via 2001:db8::3 dev eth0 proto 177 metric 1024 pref medium",
    ];
    assert_eq!(pods(&node), expected);

    let alone = config(&[("lb-1", &["10.0.0.1"], &[])]);
    assert_eq!(events(&node, || assert_eq!(pass(alone), (0, 0, 2))), 2);
    assert_eq!(pods(&node), Vec::<String>::new());
}

#[test]
fn an_update_leaves_no_moment_without_a_route() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    let stop = std::sync::atomic::AtomicBool::new(false);
    node.run_async(|| async { World::new().converge(&two_nodes("10.0.0.2", "2001:db8::2")).await });
    std::thread::scope(|scope| {
        let watch = |target: &'static str, from: &'static str| {
            node.run(|| {
                let socket = std::net::UdpSocket::bind(from).unwrap();
                let (mut tries, mut gaps) = (0u32, 0u32);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    tries += 1;
                    gaps += u32::from(socket.connect(target).is_err());
                }
                (tries, gaps)
            })
        };
        let v4 = scope.spawn(move || watch("10.244.2.9:9", "0.0.0.0:0"));
        let v6 = scope.spawn(move || watch("[fd00:244:2::9]:9", "[::]:0"));
        // Also when a pass goes wrong, so that the failure is seen.
        let stopping = Stop(&stop);
        node.run_async(|| async {
            let mut world = World::new();
            for round in 0..100 {
                let last = 2 + round % 2;
                world.converge(&two_nodes(&format!("10.0.0.{last}"), &format!("2001:db8::{last}"))).await;
            }
        });
        drop(stopping);
        for (tries, gaps) in [v4.join().unwrap(), v6.join().unwrap()] {
            assert!(tries > 1000 && gaps == 0, "{gaps} of {tries} look-ups found no route");
        }
    });
}

/// Ends the watchers when it is dropped.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn k14_a_route_deleted_by_somebody_comes_back() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.run_async(|| async {
        let config = two_nodes("10.0.0.2", "2001:db8::2");
        let mut world = World::new();
        world.converge(&config).await;
        node.ip(&["route", "del", "10.244.2.0/24"]);
        assert_eq!(world.converge(&config).await.counts(), (1, 0, 0));
    });
}

#[test]
fn k15_routes_lost_with_their_link_come_back_with_it() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.run_async(|| async {
        let config = two_nodes("10.0.0.2", "2001:db8::2");
        let mut world = World::new();
        world.converge(&config).await;
        node.ip(&["link", "set", "eth0", "down"]);
        let (plan, _) = world.plan(&config).await;
        assert_eq!((plan.steps.len(), plan.held.len()), (0, 2), "{plan:?}");
        node.ip(&["link", "set", "eth0", "up"]);
        node.ip(&["addr", "replace", "2001:db8::1/64", "dev", "eth0"]);
        world.converge(&config).await;
        assert_eq!(pods(&node).len(), 2);
    });
}

#[test]
fn k16_a_foreign_route_is_a_conflict_and_stays_as_it_is() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    for (protocol, named) in
        [("99", "protocol 99"), ("static", "protocol static (4)"), ("bird", "protocol bird (12)")]
    {
        node.ip(&["route", "add", "10.244.2.0/24", "via", "10.0.0.9", "proto", protocol]);
        node.ip(&["route", "add", "fd00:244:2::/64", "via", "2001:db8::9", "proto", protocol]);
        let before = pods(&node);
        node.run_async(|| async {
            let (plan, _) = World::new().pass(&two_nodes("10.0.0.2", "2001:db8::2")).await;
            assert!(plan.is_empty(), "{:?}", plan.steps);
            let holders: Vec<&str> = plan.conflicts.iter().map(|conflict| conflict.holder.as_str()).collect();
            assert_eq!(holders, vec![format!("a route of {named}"); 2]);
        });
        assert_eq!(pods(&node), before);
        node.ip(&["route", "del", "10.244.2.0/24"]);
        node.ip(&["route", "del", "fd00:244:2::/64"]);
    }
}

#[test]
fn k16_a_foreign_route_that_appears_after_planning_is_not_overwritten() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.run_async(|| async {
        let mut world = World::new();
        let (plan, facts) = world.plan(&two_nodes("10.0.0.2", "2001:db8::2")).await;
        node.ip(&["route", "add", "10.244.2.0/24", "via", "10.0.0.9", "proto", "99"]);
        node.ip(&["route", "add", "blackhole", "fd00:244:2::/64"]);
        let before = pods(&node);
        let outcomes = world.target.apply(&plan.steps, &facts).await;
        let expected = ["a route of protocol 99", "a route of protocol boot (3)"];
        assert_eq!(outcomes, expected.map(|holder| Outcome::Conflict(holder.into())));
        assert_eq!(pods(&node), before);
    });
}

#[test]
fn k18_foreign_routes_of_other_metrics_tables_and_classes_are_untouched() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    for rest in [&["metric", "50"][..], &["metric", "60", "proto", "99"], &["tos", "8"], &["table", "77"]] {
        node.ip(&[&["route", "add", "10.244.2.0/24", "via", "10.0.0.9"], rest].concat());
    }
    for rest in [&["metric", "50"][..], &["metric", "2000"], &["table", "77"]] {
        node.ip(&[&["route", "add", "fd00:244:2::/64", "via", "2001:db8::9"], rest].concat());
    }
    let all =
        || node.ip(&["route", "show", "table", "all"]) + &node.ip(&["-6", "route", "show", "table", "all"]);
    let before = all();
    node.run_async(|| async {
        let mut world = World::new();
        assert_eq!(world.converge(&two_nodes("10.0.0.2", "2001:db8::2")).await.counts(), (2, 0, 0));
        assert_eq!(world.converge(&two_nodes("10.0.0.3", "2001:db8::3")).await.counts(), (0, 2, 0));
        assert_eq!(world.converge(&config(&[("lb-1", &["10.0.0.1"], &[])])).await.counts(), (0, 0, 2));
    });
    assert_eq!(all(), before);
}

#[test]
fn k19_what_an_interrupted_update_left_is_found_by_its_mark_and_cleaned_up() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    for (verb, last) in [("add", "7"), ("append", "2"), ("append", "8")] {
        node.ip(&["route", verb, "10.244.2.0/24", "via", &format!("10.0.0.{last}"), "proto", "177"]);
        node.ip(&["route", verb, "fd00:244:2::/64", "via", &format!("2001:db8::{last}"), "proto", "177"]);
    }
    node.ip(&["route", "add", "10.244.9.0/24", "via", "10.0.0.7", "proto", "177"]);
    node.run_async(|| async {
        let plan = World::new().converge(&two_nodes("10.0.0.2", "2001:db8::2")).await;
        assert_eq!(plan.counts(), (0, 2, 1));
    });
    let expected = [
        "10.244.2.0/24 via 10.0.0.2 dev eth0 proto 177",
        "fd00:244:2::/64 via 2001:db8::2 dev eth0 proto 177 metric 1024 pref medium",
    ];
    assert_eq!(pods(&node), expected);
}

#[test]
fn k8_an_interface_index_that_was_given_to_another_device_is_not_used() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    let add = |name: &str| {
        node.ip(&["link", "add", name, "index", "500", "type", "bridge"]);
        node.ip(&["addr", "add", "10.0.7.1/24", "dev", name]);
        node.ip(&["link", "set", name, "up"]);
    };
    add("wanted");
    node.run_async(|| async {
        let mut world = World::new();
        let config = config(&[("lb-1", &["10.0.0.1"], &[]), ("lb-2", &["10.0.7.2"], &["10.244.2.0/24"])]);
        let (plan, facts) = world.plan(&config).await;
        node.ip(&["link", "del", "wanted"]);
        add("other");
        let outcomes = world.target.apply(&plan.steps, &facts).await;
        assert_eq!(outcomes, [Outcome::Failed("wanted is not interface 500 any more".into())]);
        assert_eq!(pods(&node), Vec::<String>::new());
        // The next pass sees what is there now.
        world.converge(&config).await;
        let [only]: [String; 1] = pods(&node).try_into().unwrap();
        assert!(only.starts_with("10.244.2.0/24 via 10.0.7.2 dev other proto 177"), "{only}");
        // A device that comes back under another index is followed.
        node.ip(&["link", "del", "other"]);
        node.ip(&["link", "add", "other", "index", "501", "type", "bridge"]);
        node.ip(&["addr", "add", "10.0.7.1/24", "dev", "other"]);
        node.ip(&["link", "set", "other", "up"]);
        assert_eq!(world.converge(&config).await.counts(), (1, 0, 0));
    });
}

#[test]
fn k21_five_hundred_link_flaps_cost_a_bounded_number_of_passes_and_end_as_wanted() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    let flaps = "link set eth0 down\nlink set eth0 up\n".repeat(500);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), flaps).unwrap();
    let config = config(&[("lb-1", &["10.0.0.1"], &[]), ("lb-2", &["10.0.0.2"], &["10.244.2.0/24"])]);
    node.run_async(|| async {
        let changed = Arc::new(tokio::sync::Notify::new());
        let _monitor = netd::facts::Monitor::start(Arc::clone(&changed)).unwrap();
        let mut world = World::new();
        world.converge(&config).await;
        let mut flapping = node.command("ip").arg("-batch").arg(file.path()).spawn().unwrap();
        let mut passes = 0;
        let quiet = std::time::Duration::from_millis(500);
        while tokio::time::timeout(quiet, changed.notified()).await.is_ok() {
            // Failures are to be expected while the link is away.
            world.pass(&config).await;
            passes += 1;
        }
        assert!(flapping.wait().unwrap().success());
        assert!(passes <= 2000, "{passes} passes for 1000 changes of the link");
        assert_eq!(world.plan(&config).await.0.steps.len(), 0);
        assert_eq!(pods(&node), ["10.244.2.0/24 via 10.0.0.2 dev eth0 proto 177"]);
    });
}

#[test]
fn k12_a_refused_route_fails_alone() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.run_async(|| async {
        let facts = World::new().reader.read().await.unwrap();
        let mut target = RouteTarget::default();
        let ways = ["10.0.0.2", "192.0.2.1", "10.0.0.3"];
        let prefixes = ["10.244.2.0/24", "10.244.3.0/24", "10.244.4.0/24"];
        let steps: Vec<netd_core::Step> = prefixes
            .iter()
            .zip(ways)
            .map(|(prefix, via)| netd_core::Step {
                id: netd_core::ResourceId { kind: route::NAME, key: Key::new(prefix) },
                action: netd_core::Action::Create { to: Arc::new(spec(&facts, prefix, via)) },
            })
            .collect();
        let outcomes = target.apply(&steps, &facts).await;
        let refused = Outcome::Failed("add: Network is unreachable (os error 101)".into());
        assert_eq!(outcomes, [Outcome::Applied, refused, Outcome::Applied]);
    });
}

fn spec(facts: &Facts, prefix: &str, via: &str) -> RouteSpec {
    let prefix = prefix.parse().unwrap();
    let way = Way::via(via.parse().unwrap(), facts.link_named("eth0").unwrap(), prefix);
    RouteSpec { prefix, way, table: TABLE_MAIN, protocol: PROTOCOL, surplus: Vec::new() }
}

#[test]
fn the_target_of_routes_keeps_what_every_target_promises() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.run_async(|| async {
        let facts = World::new().reader.read().await.unwrap();
        let boxed = |prefix, via| (Key::new(prefix), Arc::new(spec(&facts, prefix, via)) as Arc<dyn Spec>);
        for prefixes in [["10.244.2.0/24", "10.244.3.0/24"], ["fd00:244:2::/64", "fd00:244:3::/64"]] {
            let vias = if prefixes[0].contains(':') {
                ["2001:db8::2", "2001:db8::3"]
            } else {
                ["10.0.0.2", "10.0.0.3"]
            };
            let mut target = RouteTarget::default();
            let mut subject = Subject {
                kind: route::NAME,
                target: &mut target,
                facts: async || FactsReader::new("lb-1".into()).read().await,
                resources: [boxed(prefixes[0], vias[0]), boxed(prefixes[1], vias[0])],
                updated: Some(boxed(prefixes[0], vias[1]).1),
            };
            subject.check().await.unwrap();
            node.ip(&["route", "add", prefixes[0], "via", vias[1], "proto", "99"]);
            subject.check_foreign().await.unwrap();
        }
    });
}
