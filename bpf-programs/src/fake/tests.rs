//! What the maps in memory promise.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const CAPACITY: Capacity = Capacity {
    frontends_v4: 2,
    frontends_v6: 1,
    ring_lines: 4,
    backend_lines: 4,
    counters: 4,
    services: 2,
    flows: 16,
    fragments: 16,
    sources: 4,
    pools: 4,
};

fn key(port: u16) -> FrontendKey {
    FrontendKey { address: [192, 0, 2, 10].into(), port, protocol: 6 }
}

#[test]
fn the_nth_put_fails_once_and_changes_nothing() {
    let mut maps = FakeMaps::new(CAPACITY);
    maps.fail_put(2);
    let puts = [(key(80), Frontend::default()), (key(81), Frontend::default())];
    assert_eq!(maps.put_frontends(&puts).iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
    assert_eq!(maps.frontends().unwrap().len(), 1);
    assert!(maps.put_frontends(&puts).iter().all(Result::is_ok));
}

#[test]
fn a_full_map_takes_no_new_key_but_replaces_old_ones() {
    let mut maps = FakeMaps::new(CAPACITY);
    let puts: Vec<_> = [80, 81, 82, 81].map(|port| (key(port), Frontend::default())).into();
    let oks: Vec<_> = maps.put_frontends(&puts).iter().map(Result::is_ok).collect();
    assert_eq!(oks, [true, true, false, true]);
}

#[test]
fn deleting_the_absent_is_success() {
    let mut maps = FakeMaps::new(CAPACITY);
    assert!(maps.delete_frontends(&[key(80)])[0].is_ok());
}

#[test]
fn what_lies_beyond_is_refused_and_not_written() {
    let mut maps = FakeMaps::new(CAPACITY);
    assert!(maps.set_ring(3, &[1; 65]).is_err());
    assert_eq!(maps.ring(3, 64).unwrap(), [0; 64]);
    assert!(maps.set_backend_lines(4, &[Backend::default()]).is_err());
    assert!(maps.counter(4).is_err());
    assert!(maps.take_operations().is_empty());
}

#[test]
fn a_base_is_added_to_what_was_counted() {
    let mut maps = FakeMaps::new(CAPACITY);
    maps.count(1, 2, 100);
    maps.set_counter_base(1, Counter { packets: 10, bytes: 1000 }).unwrap();
    assert_eq!(maps.counter(1).unwrap(), Counter { packets: 12, bytes: 1100 });
    maps.clear_counter(1).unwrap();
    assert_eq!(maps.counter(1).unwrap(), Counter::default());
}
