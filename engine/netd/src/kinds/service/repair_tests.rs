//! Entries that somebody damaged, and maps that have to grow when their numbers are spread.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::facts::Facts;
use netd_bpf::FakeMaps;
use netd_bpf::abi::{RECORDS_ANYWHERE, WINDOW_OPEN};

fn many(services: std::ops::Range<u32>, backends: u8, table_size: u32) -> Vec<ServiceSpec> {
    services
        .map(|host| ServiceSpec {
            service: format!("s{host}"),
            table_size,
            ..service(
                &std::net::Ipv4Addr::from_bits(0xc000_0200 + host).to_string(),
                (2..2 + backends).map(backend),
            )
        })
        .collect()
}

#[test]
fn k22_a_damaged_entry_keeps_no_other_from_being_changed_and_is_written_anew() {
    for damage in [
        |entry: &mut Frontend| entry.service = 70_000,
        |entry: &mut Frontend| entry.slots = u32::MAX,
        |entry: &mut Frontend| entry.backend_count = u32::MAX,
        |entry: &mut Frontend| entry.slots_magic ^= 1,
    ] {
        let mut maps = maps();
        go_to(&mut maps, many(0..3, 2, 251));
        let (key, mut entry) = maps.frontends().unwrap()[1];
        damage(&mut entry);
        maps.put_frontends(&[(key, entry)]).pop().unwrap().unwrap();
        go_to(&mut maps, many(0..3, 3, 251));
    }
}

#[test]
fn k22_a_line_whose_checksum_somebody_changed_is_written_anew() {
    let mut maps = maps();
    let spec = service("192.0.2.10", [backend(2)]);
    go_to(&mut maps, [spec.clone()]);
    let (_, frontend, mut held) = only(&maps);
    held.lines[0].checksum ^= 1;
    maps.set_backend_lines(frontend.backends, &held.lines).unwrap();
    assert_eq!(plan_to(&mut maps, [spec.clone()]).counts(), (0, 1, 0));
    go_to(&mut maps, [spec]);
}

#[tokio::test]
async fn maps_grow_after_most_services_have_gone() {
    let balancer = Arc::new(Balancer::in_memory());
    let mut target = ServiceTarget::new(Arc::clone(&balancer));
    for specs in [many(0..1100, 4, 251), many(1000..1100, 4, 251), many(1000..1100, 4, 131_071)] {
        let steps = steps_to(&mut target, &specs).await;
        let outcomes = target.apply(&steps, &Facts::default()).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Applied), "{:?}", outcomes.first());
        assert!(steps_to(&mut target, &specs).await.is_empty());
    }
}

async fn steps_to(target: &mut ServiceTarget, specs: &[ServiceSpec]) -> Vec<Step> {
    let look = target.observe(&Facts::default()).await.unwrap();
    let desired = DesiredKind { table: table(specs.to_vec()), ..DesiredKind::default() };
    let desired = Desired([(NAME, Ok(desired.into()))].into());
    plan(&[NAME], &desired, &Observed([(NAME, Reading::Known(look.into()))].into())).steps
}

#[test]
fn s8_no_guess_is_not_taken_for_the_backend_at_position_255() {
    let mut maps = FakeMaps::new(room::sized(&room::NOTHING, &room::NOTHING));
    let spec = |hosts: &[u16]| {
        let backends = hosts.iter().map(|&host| BackendSpec {
            address: IpAddr::from([10, 2, (host >> 8) as u8, host as u8]),
            ..backend(2)
        });
        service("192.0.2.10", backends)
    };
    let first: Vec<u16> = (0..254).collect();
    let more: Vec<u16> = (0..255).collect();
    let fewer: Vec<u16> = (1..255).collect();
    // One that moves no slot which came back before.
    let most: Vec<u16> = (1..255).chain(300..303).collect();
    for hosts in [first, more, fewer, most] {
        go_to(&mut maps, [spec(&hosts)]);
    }
    let (_, frontend, held) = only(&maps);
    assert!(frontend.backend_count > 255);
    assert_eq!(frontend.flags & (WIDE_SLOTS | WIDE_PREVIOUS), WIDE_SLOTS | WIDE_PREVIOUS);
    assert!(held.previous.unwrap().contains(&crate::kinds::service::rings::NO_GUESS));
}

#[test]
fn s8_flows_are_still_looked_up_when_a_change_follows_one_of_the_size() {
    let mut maps = maps();
    let sized = |table_size, hosts: std::ops::Range<u8>| ServiceSpec {
        table_size,
        ..service("192.0.2.10", hosts.map(backend))
    };
    go_to(&mut maps, [sized(251, 2..5)]);
    go_to(&mut maps, [sized(509, 2..6)]);
    go_to(&mut maps, [sized(509, 2..7)]);
    let (_, frontend, held) = only(&maps);
    let flags = KEEP_FLOWS | WINDOW_OPEN | RECORDS_ANYWHERE;
    assert_eq!(frontend.flags & flags, flags);
    assert_eq!(held.previous.unwrap().len(), 251, "flows without a record are where they were at first");
}
