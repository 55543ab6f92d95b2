//! Neighbours on the real kernel: next hops are kept resolved, and nobody else's entry is disturbed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use netd::conformance::Subject;
use netd::facts::{Facts, FactsReader, PathError, resolve};
use netd::kinds::neighbour::{self, NeighbourSpec, NeighbourTarget};
use netd::target::Target;
use netd_core::{Action, Desired, Observed, Outcome, Plan, Reading, ResourceId, Spec, Step, plan};
use netd_integration_tests::{Lab, Namespace};
use netd_schema::{Backend, BackendState, Config, Service};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

fn network(lab: &Lab) -> (Namespace, Namespace) {
    let node = lab.namespace("node");
    let peer = lab.namespace("peer");
    node.veth("eth0", &peer, "eth0");
    for (namespace, v4, v6) in [(&node, "10.0.0.1/24", "fd00::1/64"), (&peer, "10.0.0.2/24", "fd00::2/64")] {
        namespace.ip(&["addr", "add", v4, "dev", "eth0"]);
        namespace.ip(&["addr", "add", v6, "dev", "eth0"]);
    }
    (node, peer)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(backends: &[&str]) -> Config {
    let backend =
        |text: &&str| Backend { address: ip(text), port: None, weight: 1, state: BackendState::Active };
    let backends = backends.iter().map(backend).collect();
    let service = Service { name: "web".into(), backends, ..Service::default() };
    Config { services: vec![service], ..Config::default() }
}

async fn facts() -> Facts {
    FactsReader::new("lb-1".into()).read().await.unwrap()
}

async fn planned(config: &Config) -> Plan {
    let facts = facts().await;
    let observed = NeighbourTarget::default().observe(&facts).await.unwrap();
    let desired =
        Desired(BTreeMap::from([(neighbour::NAME, neighbour::desired(config, &facts).map(Into::into))]));
    let observed = Observed(BTreeMap::from([(neighbour::NAME, Reading::Known(observed.into()))]));
    plan(&[neighbour::NAME], &desired, &observed)
}

async fn converge(config: &Config) -> (usize, usize, usize) {
    let plan = planned(config).await;
    let outcomes = NeighbourTarget::default().apply(&plan.steps, &facts().await).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{outcomes:?}");
    let rest = planned(config).await;
    assert!(rest.is_empty(), "{:?}", rest.steps);
    plan.counts()
}

async fn resolved(destination: &str) -> Facts {
    for _ in 0..100 {
        let facts = facts().await;
        match resolve(&facts, ip(destination)) {
            Ok(_) => return facts,
            Err(PathError::Unresolved { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("{destination} is not resolved after two seconds");
}

#[test]
fn k28_next_hops_are_resolved_before_any_packet_and_released_when_no_backend_needs_them() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.ip(&["route", "add", "10.1.0.0/16", "via", "10.0.0.2"]);
    node.run_async(|| async {
        let all = config(&["10.1.0.7", "10.1.0.8", "10.0.0.2", "fd00::2"]);
        assert_eq!(converge(&all).await, (2, 0, 0));
        for backend in ["10.1.0.7", "10.0.0.2", "fd00::2"] {
            let facts = resolved(backend).await;
            assert!(facts.neighbours.values().filter(|found| found.managed).count() == 2);
        }
        assert_eq!(converge(&all).await, (0, 0, 0));
        assert_eq!(converge(&config(&[])).await, (0, 0, 2));
    });
    assert!(!node.ip(&["neigh"]).contains("managed"));
}

/// The kernel announces no entry that is not resolved yet: whoever asked for one has to look without being told.
#[test]
fn k28_a_next_hop_that_does_not_answer_is_seen_by_the_reader_that_asked_for_it() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.run_async(|| async {
        let mut reader = FactsReader::new("lb-1".into());
        let before = reader.read().await.unwrap();
        let desired = neighbour::desired(&config(&["10.0.0.99"]), &before).unwrap().table;
        let steps: Vec<Step> = desired
            .into_iter()
            .map(|(key, to)| Step {
                id: ResourceId { kind: neighbour::NAME, key },
                action: Action::Create { to },
            })
            .collect();
        assert_eq!(steps.len(), 1);
        let outcomes = NeighbourTarget::default().apply(&steps, &before).await;
        assert_eq!(outcomes, [Outcome::Applied]);
        reader.touched();
        let after = reader.read().await.unwrap();
        assert!(after.neighbours.iter().any(|((_, at), found)| *at == ip("10.0.0.99") && found.managed));
    });
}

#[test]
fn k28_a_next_hop_that_changes_its_mac_is_followed() {
    let Some(lab) = Lab::new() else { return };
    let (node, peer) = network(&lab);
    node.run_async(|| async {
        converge(&config(&["10.0.0.2"])).await;
        let before = resolve(&resolved("10.0.0.2").await, ip("10.0.0.2")).unwrap().destination_mac;
        // The kernel believes an announcement only one second after the last confirmation.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        peer.sysctl("net/ipv4/conf/eth0/arp_notify", "1");
        peer.ip(&["link", "set", "eth0", "address", "02:00:00:00:00:77"]);
        for _ in 0..200 {
            let facts = facts().await;
            let now = resolve(&facts, ip("10.0.0.2")).map(|path| path.destination_mac);
            if now.as_ref().is_ok_and(|now| now.to_string() == "02:00:00:00:00:77") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("still {before}: {}", node.ip(&["neigh"]));
    });
}

#[test]
fn k14_an_entry_that_somebody_changed_or_deleted_is_managed_again() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.run_async(|| async {
        let config = config(&["10.0.0.2"]);
        converge(&config).await;
        resolved("10.0.0.2").await;
        node.ip(&["neigh", "change", "10.0.0.2", "dev", "eth0", "nud", "stale"]);
        assert_eq!(converge(&config).await, (0, 1, 0));
        node.ip(&["neigh", "del", "10.0.0.2", "dev", "eth0"]);
        assert_eq!(converge(&config).await, (1, 0, 0));
        resolved("10.0.0.2").await;
    });
}

#[test]
fn an_entry_that_the_kernel_resolved_keeps_its_mac_when_it_becomes_ours() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    for (address, state) in [("10.0.0.9", "reachable"), ("10.0.0.8", "stale"), ("fd00::9", "stale")] {
        node.ip(&["neigh", "add", address, "lladdr", "02:00:00:00:00:09", "dev", "eth0", "nud", state]);
        node.run_async(|| async {
            let before = resolve(&facts().await, ip(address)).unwrap();
            assert_eq!(converge(&config(&[address])).await, (1, 0, 0));
            assert_eq!(resolve(&facts().await, ip(address)), Ok(before));
            assert_eq!(converge(&config(&[])).await, (0, 0, 1));
        });
    }
}

#[test]
fn k16_entries_that_somebody_else_looks_after_stay_as_they_are() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    let mac = ["lladdr", "02:00:00:00:00:09", "dev", "eth0"];
    node.ip(&[&["neigh", "add", "10.0.0.9"][..], &mac, &["nud", "permanent"]].concat());
    node.ip(&[&["neigh", "add", "10.0.0.8"][..], &mac, &["nud", "noarp"]].concat());
    node.ip(&[&["neigh", "add", "10.0.0.7"][..], &mac, &["extern_learn", "proto", "zebra"]].concat());
    node.ip(&["neigh", "add", "10.0.0.6", "dev", "eth0", "managed", "extern_learn"]);
    let shown = || {
        let text = node.ip(&["neigh", "show", "nud", "all"]);
        let mine = text.lines().filter(|line| line.starts_with("10.0.0."));
        // Whether the managed one was answered yet is not the question.
        mine.map(|line| line.split(" extern_learn").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = shown();
    let backends = ["10.0.0.9", "10.0.0.8", "10.0.0.7", "10.0.0.6"];
    node.run_async(|| async {
        assert_eq!(converge(&config(&backends)).await, (0, 0, 0));
        // Also when they appeared after the plan was made.
        let facts = facts().await;
        let steps: Vec<Step> = backends.iter().map(|address| create(&facts, address)).collect();
        for outcome in NeighbourTarget::default().apply(&steps, &facts).await {
            assert_eq!(outcome, Outcome::Conflict("an entry that somebody else looks after".into()));
        }
    });
    assert_eq!(shown(), before);
}

fn spec(facts: &Facts, address: &str) -> NeighbourSpec {
    let ifindex = facts.link_named("eth0").unwrap().index;
    NeighbourSpec { address: ip(address), device: "eth0".into(), ifindex, kept: true }
}

fn create(facts: &Facts, address: &str) -> Step {
    let spec = spec(facts, address);
    let id = ResourceId { kind: neighbour::NAME, key: spec.key() };
    Step { id, action: Action::Create { to: Arc::new(spec) } }
}

#[test]
fn the_target_of_neighbours_keeps_what_every_target_promises() {
    let Some(lab) = Lab::new() else { return };
    let (node, _peer) = network(&lab);
    node.run_async(|| async {
        let facts = facts().await;
        for addresses in [["10.0.0.2", "10.0.0.3"], ["fd00::2", "fd00::3"]] {
            let mut target = NeighbourTarget::default();
            let mut subject = Subject {
                kind: neighbour::NAME,
                target: &mut target,
                facts: async || FactsReader::new("lb-1".into()).read().await,
                resources: addresses.map(|address| {
                    let spec = spec(&facts, address);
                    (spec.key(), Arc::new(spec) as Arc<dyn Spec>)
                }),
                updated: None,
            };
            subject.check().await.unwrap();
        }
    });
}
