//! What services do besides choosing by their ring, in the maps.

use super::*;
use netd_bpf::FakeMaps;
use netd_bpf::abi::{GUE, KEEP_FLOWS, OTHER_FAMILY, RANDOM, SOURCES};
use netd_schema::{Algorithm, Mode};

fn maps() -> FakeMaps {
    FakeMaps::new(crate::kinds::service::smallest_capacity())
}

fn with(policy: Policy) -> ServiceSpec {
    ServiceSpec { policy: Arc::new(policy), ..service("192.0.2.10", [backend(1), backend(2)]) }
}

fn sources(allow: &[&str], deny: &[&str]) -> Policy {
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Policy { allow: prefixes(allow), deny: prefixes(deny), ..Policy::default() }
}

#[test]
fn every_policy_is_in_force_after_one_round() {
    let mut maps = maps();
    for policy in [
        sources(&["10.0.0.0/8", "::/0"], &["10.66.0.0/16"]),
        Policy { affinity_seconds: 300, algorithm: Algorithm::Random, ..Policy::default() },
        Policy { mode: Mode::DsrGue, ..sources(&[], &["203.0.113.0/24"]) },
        Policy::default(),
    ] {
        go_to(&mut maps, [with(policy.clone())]);
        assert!(plan_to(&mut maps, [with(policy)]).is_empty());
    }
    assert_eq!(maps.sources().unwrap(), []);
}

#[test]
fn a_service_that_goes_takes_its_sources_along_and_leaves_those_of_others() {
    let mut maps = maps();
    let other = ServiceSpec {
        service: "dns".into(),
        port: 53,
        policy: Arc::new(sources(&["10.0.0.0/8"], &[])),
        ..service("192.0.2.10", [backend(1)])
    };
    go_to(&mut maps, [with(sources(&["172.16.0.0/12"], &[])), other.clone()]);
    assert_eq!(maps.sources().unwrap().len(), 2);
    go_to(&mut maps, [other.clone()]);
    assert_eq!(maps.sources().unwrap().len(), 1);
    assert!(plan_to(&mut maps, [other]).is_empty());
}

#[test]
fn both_vips_of_a_service_share_its_sources() {
    let mut maps = maps();
    let vip =
        |address: &str| ServiceSpec { vip: address.parse().unwrap(), ..with(sources(&["10.0.0.0/8"], &[])) };
    go_to(&mut maps, [vip("192.0.2.10"), vip("192.0.2.11")]);
    assert_eq!(maps.sources().unwrap().len(), 1);
    assert!(maps.frontends().unwrap().iter().all(|(_, entry)| entry.flags & SOURCES != 0));
}

#[test]
fn a_backend_of_the_other_family_is_told_apart_and_found_again() {
    let mut maps = maps();
    let mut spec = service("2001:db8::10", [backend(1)]);
    go_to(&mut maps, [spec.clone()]);
    let line = maps.backend_lines(maps.frontends().unwrap()[0].1.backends, 1).unwrap()[0];
    assert_ne!(line.flags & OTHER_FAMILY, 0);
    assert_ne!(line.checksum, 0);
    assert!(plan_to(&mut maps, [spec.clone()]).is_empty());
    spec.policy = Arc::new(Policy { mode: Mode::DsrGue, ..Policy::default() });
    go_to(&mut maps, [spec.clone()]);
    let line = maps.backend_lines(maps.frontends().unwrap()[0].1.backends, 1).unwrap()[0];
    assert_ne!(line.flags & GUE, 0);
    assert!(plan_to(&mut maps, [spec]).is_empty());
}

#[test]
fn s8_flows_that_chance_has_sent_somewhere_are_looked_for_when_chance_ends() {
    let mut maps = maps();
    let random = Policy { algorithm: Algorithm::Random, ..Policy::default() };
    go_to(&mut maps, [with(random)]);
    assert_eq!(maps.frontends().unwrap()[0].1.flags & (RANDOM | KEEP_FLOWS), RANDOM);
    go_to(&mut maps, [with(Policy::default())]);
    assert_eq!(maps.frontends().unwrap()[0].1.flags & (RANDOM | KEEP_FLOWS), KEEP_FLOWS);
}

#[test]
fn s8_with_affinity_flows_own_records_are_looked_for_from_a_drain_on_although_no_slot_changes() {
    let mut maps = maps();
    let weightless = |state| BackendSpec { weight: 0, state, ..backend(3) };
    let spec = |affinity_seconds, state| ServiceSpec {
        policy: Policy { affinity_seconds, ..Policy::default() }.shared(),
        ..service("192.0.2.10", [backend(1), backend(2), weightless(state)])
    };
    let flags = |maps: &FakeMaps| only(maps).1.flags & (KEEP_FLOWS | WINDOW_OPEN);
    let (active, terminating) = (BackendState::Active, BackendState::Terminating);
    for (state, expected) in [(active, 0), (terminating, KEEP_FLOWS), (active, KEEP_FLOWS)] {
        go_to(&mut maps, [spec(300, state)]);
        assert_eq!(flags(&maps), expected, "{state:?}");
    }
    let held = only(&maps).2;
    assert_eq!(held.previous, Some(held.ring));
    for state in [active, terminating] {
        go_to(&mut maps, [spec(0, state)]);
        assert_eq!(flags(&maps), 0, "{state:?}");
    }
}

#[test]
fn udp_flows_that_are_not_to_be_kept_go_where_the_ring_says_at_once() {
    let mut maps = maps();
    for (udp_idle_seconds, protocol, expected) in [
        (0, Protocol::Udp, 0),
        (0, Protocol::Tcp, KEEP_FLOWS | WINDOW_OPEN),
        (60, Protocol::Udp, KEEP_FLOWS | WINDOW_OPEN),
    ] {
        let policy = Policy { udp_idle_seconds, ..Policy::default() }.shared();
        for hosts in [1..3, 1..4] {
            let backends = hosts.map(backend);
            let policy = policy.clone();
            go_to(&mut maps, [ServiceSpec { protocol, policy, ..service("192.0.2.10", backends) }]);
        }
        assert_eq!(only(&maps).1.flags & (KEEP_FLOWS | WINDOW_OPEN), expected);
        go_to(&mut maps, []);
    }
}
