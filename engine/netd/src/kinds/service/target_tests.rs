#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::facts::Mac;
use crate::kinds::service::spec::ServiceSpec;
use crate::kinds::service::spec::{BackendPath, BackendSpec};
use crate::kinds::service::{NAME, Policy};
use netd_bpf::FakeMaps;
use netd_bpf::abi::{FrontendKey, WINDOW_OPEN};
use netd_core::{Desired, DesiredKind, Observed, Plan, Reading, Spec, Table, plan};
use netd_schema::{BackendState, HashSeed, NoBackend, Protocol};
use std::net::IpAddr;

fn path(last: u8) -> Option<Arc<BackendPath>> {
    Some(Arc::new(BackendPath {
        device: "#3".into(),
        ifindex: 3,
        mtu: 1500,
        destination_mac: Mac([2, 0, 0, 0, 1, last]),
        source_mac: Mac([2, 0, 0, 0, 0, 1]),
        source: "10.0.0.11".parse().unwrap(),
        source_bits: 0,
    }))
}

fn backend(last: u8) -> BackendSpec {
    BackendSpec {
        address: IpAddr::from([10, 1, 0, last]),
        port: 8080,
        weight: 100,
        state: BackendState::Active,
        path: path(last),
    }
}

fn service(vip: &str, backends: impl IntoIterator<Item = BackendSpec>) -> ServiceSpec {
    ServiceSpec {
        service: "web".into(),
        vip: vip.parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        table_size: 251,
        hash_seed: HashSeed::default(),
        // Without flags of its own in the entry.
        policy: Policy { no_backend: NoBackend::Drop, ..Policy::default() }.shared(),
        backends: backends.into_iter().collect(),
        intact: true,
    }
}

fn table(specs: impl IntoIterator<Item = ServiceSpec>) -> Table {
    specs.into_iter().map(|spec| (spec.key(), Arc::new(spec) as Arc<dyn Spec>)).collect()
}

fn observe(maps: &dyn Maps, facts: &Facts) -> netd_bpf::Result<Arc<Observation>> {
    Sight::default().look(maps, facts)
}

fn plan_to(maps: &mut dyn Maps, specs: impl IntoIterator<Item = ServiceSpec>) -> Plan {
    let desired = DesiredKind { table: table(specs), ..DesiredKind::default() };
    let found = observe(maps, &Facts::default()).unwrap();
    plan(
        &[NAME],
        &Desired([(NAME, Ok(desired.into()))].into()),
        &Observed([(NAME, Reading::Known(found))].into()),
    )
}

fn go_to(maps: &mut dyn Maps, specs: impl IntoIterator<Item = ServiceSpec> + Clone) {
    let steps = plan_to(maps, specs.clone()).steps;
    let outcomes = apply(maps, &steps).unwrap_or_else(|_| panic!("the round was not begun"));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{outcomes:?}");
    let left = plan_to(maps, specs);
    assert!(left.is_empty(), "{left:?}");
}

fn maps() -> FakeMaps {
    FakeMaps::new(room::sized(&room::NOTHING, &room::NOTHING))
}

fn only(maps: &dyn Maps) -> (FrontendKey, Frontend, Held) {
    let entries = maps.frontends().unwrap();
    assert_eq!(entries.len(), 1);
    (entries[0].0, entries[0].1, held(maps, &entries[0].0, &entries[0].1).unwrap())
}

fn address_in_slot(held: &Held, ring: &[u16], slot: usize) -> [u8; 4] {
    let bytes = held.lines[usize::from(ring[slot])].destination;
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

#[test]
fn s1_what_was_applied_is_observed_and_nothing_is_left_to_do() {
    let mut maps = maps();
    go_to(&mut maps, [service("192.0.2.10", [backend(2), backend(3)]), service("192.0.2.11", [backend(2)])]);
    go_to(&mut maps, []);
    assert!(maps.frontends().unwrap().is_empty());
}

#[test]
fn the_ring_is_the_maglev_table_of_the_file() {
    let mut maps = maps();
    let spec = service("192.0.2.10", [backend(2), backend(3), backend(4)]);
    go_to(&mut maps, [spec.clone()]);
    let (_, frontend, held) = only(&maps);
    let members: Vec<_> = spec.members(|_| true).into_iter().map(|(_, member)| member).collect();
    let expected = super::super::maglev::table(&members, 251, HashSeed::default().names());
    for (slot, member) in expected.into_iter().enumerate() {
        assert_eq!(address_in_slot(&held, &held.ring, slot), [10, 1, 0, 2 + member as u8]);
    }
    assert_eq!((frontend.flow_seed, frontend.slots), (0x71dc_da46, 251));
}

#[test]
fn vips_of_one_service_share_ring_lines_and_counters() {
    let mut maps = maps();
    go_to(&mut maps, ["192.0.2.10", "192.0.2.11"].map(|vip| service(vip, [backend(2), backend(3)])));
    let entries = maps.frontends().unwrap();
    assert_eq!(entries[0].1, entries[1].1);
    go_to(&mut maps, ["192.0.2.10", "192.0.2.11"].map(|vip| service(vip, [backend(2), backend(4)])));
    let entries = maps.frontends().unwrap();
    assert_eq!(entries[0].1, entries[1].1);
}

#[test]
fn s8_an_added_backend_leaves_the_others_where_they_were_and_flows_are_compared() {
    let mut maps = maps();
    go_to(&mut maps, [service("192.0.2.10", [backend(3), backend(4)])]);
    let (_, _, before) = only(&maps);
    go_to(&mut maps, [service("192.0.2.10", [backend(2), backend(3), backend(4)])]);
    let (_, frontend, after) = only(&maps);
    assert_eq!(frontend.flags, KEEP_FLOWS | WINDOW_OPEN);
    assert_eq!(after.previous.as_ref(), Some(&before.ring));
    for slot in 0..251 {
        let old = address_in_slot(&before, &before.ring, slot);
        assert_eq!(address_in_slot(&after, &before.ring, slot), old);
    }
    for (old, new) in before.lines.iter().zip(&after.lines) {
        assert_eq!(old.counter, new.counter);
    }
}

#[test]
fn s8_a_draining_backend_keeps_its_line_and_gets_no_slot() {
    let mut maps = maps();
    go_to(&mut maps, [service("192.0.2.10", [backend(2), backend(3)])]);
    let draining = BackendSpec { state: BackendState::Terminating, ..backend(2) };
    go_to(&mut maps, [service("192.0.2.10", [draining, backend(3)])]);
    let (_, _, held) = only(&maps);
    assert!((0..251).all(|slot| address_in_slot(&held, &held.ring, slot) == [10, 1, 0, 3]));
    let previous = held.previous.clone().unwrap();
    assert!((0..251).any(|slot| address_in_slot(&held, &previous, slot) == [10, 1, 0, 2]));
}

#[test]
fn a_removed_backend_is_named_by_no_ring() {
    let mut maps = maps();
    go_to(&mut maps, [service("192.0.2.10", [backend(2), backend(3)])]);
    go_to(&mut maps, [service("192.0.2.10", [backend(3)])]);
    let (_, frontend, held) = only(&maps);
    assert_eq!((frontend.flags, held.previous), (0, None));
    assert!(held.ring.iter().all(|&position| held.lines[usize::from(position)].destination[3] == 3));
}

#[test]
fn backends_that_all_terminate_are_better_than_none() {
    let mut maps = maps();
    let draining = BackendSpec { state: BackendState::Terminating, ..backend(2) };
    go_to(&mut maps, [service("192.0.2.10", [draining])]);
    assert_eq!(only(&maps).1.slots, 251);
}

#[test]
fn a_service_without_usable_backend_has_no_slots_and_is_settled() {
    let mut maps = maps();
    let out = BackendSpec { state: BackendState::Maintenance, ..backend(2) };
    for backends in [vec![], vec![out], vec![BackendSpec { weight: 0, ..backend(2) }]] {
        go_to(&mut maps, [service("192.0.2.10", backends)]);
        assert_eq!(only(&maps).1.slots, 0);
    }
    go_to(&mut maps, [service("192.0.2.10", [backend(2)])]);
    assert_eq!(only(&maps).1.slots, 251);
}

#[test]
fn k28_a_backend_without_path_gets_no_slot_until_it_has_one() {
    let mut maps = maps();
    let unresolved = BackendSpec { path: None, ..backend(2) };
    go_to(&mut maps, [service("192.0.2.10", [unresolved, backend(3)])]);
    let (_, _, held) = only(&maps);
    assert!((0..251).all(|slot| address_in_slot(&held, &held.ring, slot) == [10, 1, 0, 3]));
    go_to(&mut maps, [service("192.0.2.10", [backend(2), backend(3)])]);
    let (_, _, held) = only(&maps);
    assert!((0..251).any(|slot| address_in_slot(&held, &held.ring, slot) == [10, 1, 0, 2]));
}

#[test]
fn k28_a_path_that_gets_lost_stays_in_force() {
    let mut maps = maps();
    go_to(&mut maps, [service("192.0.2.10", [backend(2), backend(3)])]);
    let before = only(&maps);
    let lost = || BackendSpec { path: None, ..backend(2) };
    assert!(plan_to(&mut maps, [service("192.0.2.10", [lost(), backend(3)])]).is_empty());
    go_to(&mut maps, [service("192.0.2.10", [lost(), backend(3), backend(4)])]);
    assert_eq!(only(&maps).2.lines[0], before.2.lines[0]);
}

#[test]
fn a_new_next_hop_keeps_the_ring_and_compares_nothing() {
    let mut maps = maps();
    go_to(&mut maps, [service("192.0.2.10", [backend(2), backend(3)])]);
    let before = only(&maps).1;
    let moved = BackendSpec { path: path(9), ..backend(2) };
    go_to(&mut maps, [service("192.0.2.10", [moved, backend(3)])]);
    let (_, after, held) = only(&maps);
    assert_eq!((after.ring, after.flags), (before.ring, 0));
    assert_eq!(held.lines[0].destination_mac, [2, 0, 0, 0, 1, 9]);
}

#[test]
fn k22_a_ring_that_somebody_changed_is_written_anew() {
    let mut maps = maps();
    let spec = service("192.0.2.10", [backend(2), backend(3)]);
    go_to(&mut maps, [spec.clone()]);
    let (_, frontend, held) = only(&maps);
    maps.set_ring(frontend.ring, &[7; 64]).unwrap();
    let plan = plan_to(&mut maps, [spec.clone()]);
    assert_eq!(plan.counts(), (0, 1, 0));
    go_to(&mut maps, [spec]);
    assert_eq!(only(&maps).2.ring, held.ring);
}

#[test]
fn k22_an_entry_that_names_nothing_is_written_anew() {
    let mut maps = maps();
    let spec = service("192.0.2.10", [backend(2)]);
    go_to(&mut maps, [spec.clone()]);
    let (key, frontend, _) = only(&maps);
    let broken = Frontend { backends: u32::MAX - 5, ring: u32::MAX - 5, backend_count: 100, ..frontend };
    maps.put_frontends(&[(key, broken)]).pop().unwrap().unwrap();
    go_to(&mut maps, [spec]);
}

#[test]
fn s9_k35_a_counter_that_a_flow_record_names_is_not_given_to_another_backend() {
    let mut maps = maps();
    go_to(&mut maps, [service("192.0.2.10", [backend(2)])]);
    let first = only(&maps).2.lines[0].counter;
    let record = abi::Flow { counter: first, index: 0, seen_ns: 1 };
    maps.put_flow(abi::FlowKey::default(), record);
    go_to(&mut maps, [service("192.0.2.10", [backend(3)])]);
    let second = only(&maps).2.lines.iter().find(|line| line.flags != 0).unwrap().counter;
    assert_ne!(first, second);
}

#[test]
fn k1_a_failed_entry_is_an_outcome_and_the_others_are_written() {
    let mut maps = maps();
    let specs = ["192.0.2.10", "192.0.2.11", "192.0.2.12"].map(|vip| service(vip, [backend(2)]));
    let steps = plan_to(&mut maps, specs.clone()).steps;
    maps.fail_put(2);
    let outcomes = apply(&mut maps, &steps).unwrap_or_else(|_| panic!("the round was not begun"));
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failed(_))).count();
    assert_eq!((failed, maps.frontends().unwrap().len()), (1, 2));
    go_to(&mut maps, specs);
}

#[test]
fn k1_maps_that_are_too_small_ask_for_room_before_anything_is_written() {
    let mut maps = maps();
    let specs: Vec<_> = (0..2000u32)
        .map(|host| ServiceSpec {
            service: format!("s{host}"),
            ..service(&IpAddr::from((0xc000_0200 + host).to_be_bytes()).to_string(), [backend(2), backend(3)])
        })
        .collect();
    let steps = plan_to(&mut maps, specs).steps;
    let Err(Stop::Room(capacity)) = apply(&mut maps, &steps) else { panic!("it was begun") };
    assert!(capacity.frontends_v4 >= 2000, "{capacity:?}");
    assert!(maps.frontends().unwrap().is_empty());
}

#[tokio::test]
async fn maps_grow_with_the_services_and_keep_what_they_hold() {
    let balancer = Arc::new(Balancer::in_memory());
    let mut target = ServiceTarget::new(Arc::clone(&balancer));
    let facts = Facts::default();
    for count in [1u32, 3000, 20000] {
        let specs = (0..count).map(|host| ServiceSpec {
            service: format!("s{host}"),
            ..service(&IpAddr::from((0xc000_0200 + host).to_be_bytes()).to_string(), [backend(2), backend(3)])
        });
        let desired = DesiredKind { table: table(specs), ..DesiredKind::default() };
        let desired = Desired([(NAME, Ok(desired.into()))].into());
        let look = target.observe(&facts).await.unwrap();
        let steps = plan(&[NAME], &desired, &Observed([(NAME, Reading::Known(look.into()))].into())).steps;
        let outcomes = target.apply(&steps, &facts).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{:?}", outcomes.first());
        let look = target.observe(&facts).await.unwrap();
        let left = plan(&[NAME], &desired, &Observed([(NAME, Reading::Known(look.into()))].into()));
        assert!(left.is_empty(), "{count}: {} left", left.steps.len());
    }
}

#[test]
fn more_than_255_backends_get_two_byte_slots() {
    let mut maps = maps();
    let backends = |count: u16| -> Vec<BackendSpec> {
        (0..count)
            .map(|host| BackendSpec {
                address: IpAddr::from([10, 2, (host >> 8) as u8, host as u8]),
                ..backend(2)
            })
            .collect()
    };
    go_to(&mut maps, [service("192.0.2.10", backends(255))]);
    assert_eq!(only(&maps).1.flags & WIDE_SLOTS, 0);
    go_to(&mut maps, [service("192.0.2.10", backends(256))]);
    assert_ne!(only(&maps).1.flags & WIDE_SLOTS, 0);
    go_to(&mut maps, [service("192.0.2.10", backends(3))]);
}

#[test]
fn traffic_is_told_by_service_and_backend() {
    let mut maps = maps();
    go_to(&mut maps, ["192.0.2.10", "192.0.2.11"].map(|vip| service(vip, [backend(2), backend(3)])));
    let entry = maps.frontends().unwrap()[0].1;
    let lines = maps.backend_lines(entry.backends, entry.backend_count).unwrap();
    maps.count(lines[1].counter, 5, 500);
    let traffic = super::super::traffic(&maps).unwrap();
    assert_eq!(traffic.len(), 1);
    assert_eq!(traffic[0].frontends, ["192.0.2.10:80/tcp", "192.0.2.11:80/tcp"]);
    let shown: Vec<_> = traffic[0].backends.iter().map(|backend| (backend.packets, backend.bytes)).collect();
    assert_eq!((traffic[0].packets, shown), (5, vec![(0, 0), (5, 500)]));
}

#[test]
fn k8_a_way_by_a_device_whose_index_another_one_got_is_forgotten() {
    let mut maps = maps();
    go_to(&mut maps, [service("192.0.2.10", [backend(2)])]);
    let link = |mac| crate::facts::Link { mac: Some(mac), ..crate::fake::link(3, "eth9") };
    let mut facts = Facts::default();
    let unresolved = || service("192.0.2.10", [BackendSpec { path: None, ..backend(2) }]);
    let plan_by = |maps: &mut dyn Maps, facts: &Facts| {
        let desired = DesiredKind { table: table([unresolved()]), ..DesiredKind::default() };
        let found = observe(maps, facts).unwrap();
        plan(
            &[NAME],
            &Desired([(NAME, Ok(desired.into()))].into()),
            &Observed([(NAME, Reading::Known(found))].into()),
        )
    };
    facts.links.insert(3, link(Mac([2, 0, 0, 0, 0, 1])));
    assert!(plan_by(&mut maps, &facts).is_empty(), "the device is the one that it was");
    facts.links.insert(3, link(Mac([2, 0, 0, 0, 0, 9])));
    let steps = plan_by(&mut maps, &facts).steps;
    assert_eq!(apply(&mut maps, &steps).unwrap_or_default(), [Outcome::Applied]);
    let (_, frontend, held) = only(&maps);
    assert_eq!((frontend.slots, held.lines[0].flags & abi::READY), (0, 0));
    assert!(plan_by(&mut maps, &facts).is_empty());
}

#[path = "repair_tests.rs"]
mod repair;

#[path = "policy_tests.rs"]
mod policy;
