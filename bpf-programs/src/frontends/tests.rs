//! The tables against a map that is known to be right, the order of stores, and death between any two of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::entries::{Entry, buckets_for};
use crate::trace::{self, Event};

type Expected = BTreeMap<FrontendKey, Frontend>;

fn empty(capacity_v4: u32, capacity_v6: u32) -> Frontends {
    let (v4, v6) = (buckets_for::<EntryV4>(capacity_v4) * 4, buckets_for::<EntryV6>(capacity_v6) * 2);
    let tables = (Table::new(Mapped::in_memory(v4)).unwrap(), Table::new(Mapped::in_memory(v6)).unwrap());
    Frontends::new(tables.0, tables.1, Mapped::in_memory(v4 + v6))
}

/// What a process finds that opens what another one left.
fn opened(frontends: &Frontends) -> Frontends {
    Frontends::new(frontends.v4.copied(), frontends.v6.copied(), frontends.lines.copied())
}

/// A frontend all of whose words say which it is.
fn stamped(stamp: u32) -> Frontend {
    bytemuck::cast([stamp; 32])
}

fn key(n: u32) -> FrontendKey {
    let [.., high, low] = (n / 2).to_be_bytes();
    let address = if n.is_multiple_of(2) {
        IpAddr::from([192, 0, high, low])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, high.into(), low.into()])
    };
    FrontendKey { address, port: 443, protocol: 6 }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % sides
    }
}

/// Changes something, in both; says whether it was refused for want of room.
fn change(frontends: &mut Frontends, expected: &mut Expected, dice: &mut Dice, keys: u32) -> bool {
    let (key, stamp) = (key(dice.roll(keys)), 1 + dice.roll(1 << 30));
    if dice.roll(3) == 0 {
        frontends.delete(&key);
        expected.remove(&key);
        return false;
    }
    match frontends.put(&key, &stamped(stamp)) {
        Ok(()) => {
            expected.insert(key, stamped(stamp));
            false
        }
        Err(Error::Full { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

fn agree(frontends: &Frontends, expected: &Expected) {
    assert_eq!(frontends.all(), expected.iter().map(|(k, f)| (*k, *f)).collect::<Vec<_>>());
    for key in (0..600).map(key).chain(expected.keys().copied()) {
        assert_eq!(frontends.get(&key), expected.get(&key).copied(), "{key:?}");
    }
}

#[test]
fn random_changes_leave_what_a_map_would_hold_and_full_tables_refuse() {
    // Room for all, for half, and tables of two buckets.
    for (capacity, keys) in [(256, 400), (64, 256), (1, 40)] {
        let (mut frontends, mut expected, mut dice) = (empty(capacity, capacity), Expected::new(), Dice(7));
        let mut refused = 0;
        for round in 0..20_000 {
            refused += u32::from(change(&mut frontends, &mut expected, &mut dice, keys));
            if round % 500 == 0 {
                agree(&frontends, &expected);
                frontends = opened(&frontends);
            }
        }
        agree(&frontends, &expected);
        assert_eq!(refused > 0, capacity < 256, "{refused} of {keys} keys");
        let (v4, v6) = frontends.capacity();
        assert!(expected.keys().filter(|key| key.address.is_ipv4()).count() <= v4 as usize);
        assert!(expected.keys().filter(|key| key.address.is_ipv6()).count() <= v6 as usize);
    }
}

#[test]
fn keys_that_share_a_bucket_are_found_in_the_next_ones() {
    let mut frontends = empty(4096, 4096);
    let same = |key: &FrontendKey, buckets: u32| match key.address {
        IpAddr::V4(_) => EntryV4::with_key(key).hash() >> crate::entries::shift_for(buckets) == 5,
        IpAddr::V6(_) => EntryV6::with_key(key).hash() >> crate::entries::shift_for(buckets) == 5,
    };
    let keys = (0..131_072).map(key).chain((0..131_072).map(|n| FrontendKey { port: 80, ..key(n) }));
    let keys: Vec<_> =
        keys.filter(|key| same(key, if key.address.is_ipv4() { 2048 } else { 4096 })).collect();
    assert!(keys.len() > 40, "{}", keys.len());
    for (stamp, key) in (1..).zip(&keys) {
        frontends.put(key, &stamped(stamp)).unwrap();
    }
    // Those in the first bucket go; the others are still found, and replaced where they are.
    for key in &keys[..10] {
        frontends.delete(key);
    }
    for (stamp, key) in (1000..).zip(&keys[10..]) {
        frontends.put(key, &stamped(stamp)).unwrap();
    }
    agree(&frontends, &keys[10..].iter().zip(1000..).map(|(key, stamp)| (*key, stamped(stamp))).collect());
}

#[test]
fn ten_thousand_keys_of_one_kind_lie_near_their_buckets() {
    type Kind = fn(u32) -> FrontendKey;
    let kinds: [Kind; 5] = [
        |n| FrontendKey { address: (0xc0a8_0000 + n).to_be_bytes().into(), port: 443, protocol: 6 },
        |n| FrontendKey { address: [10, 0, 0, 1].into(), port: 1 + n as u16, protocol: 6 },
        |n| FrontendKey {
            address: (0x0a00_0000 + n / 4).to_be_bytes().into(),
            port: [0, 80, 443, 443][n as usize % 4],
            protocol: [0, 6, 6, 17][n as usize % 4],
        },
        |n| FrontendKey {
            address: std::net::Ipv6Addr::from((0x2001_0db8_u128 << 96) + u128::from(n)).into(),
            port: 443,
            protocol: 6,
        },
        |n| FrontendKey {
            address: std::net::Ipv6Addr::from((0x2001_0db8_u128 << 96) + (u128::from(n) << 64) + 1).into(),
            port: 443,
            protocol: 6,
        },
    ];
    for (at, kind) in kinds.into_iter().enumerate() {
        let mut frontends = empty(10_000, 10_000);
        for n in 0..10_000 {
            frontends.put(&kind(n), &stamped(n + 1)).unwrap();
        }
        let (v4, v6) = (frontends.v4.entries(), frontends.v6.entries());
        let overflowing = (0..v4.len()).filter(|place| v4.get(*place).unwrap().overflow != 0).count()
            + (0..v6.len()).filter(|place| v6.get(*place).unwrap().overflow != 0).count();
        assert!(overflowing < 1000, "{overflowing} buckets overflow with keys of kind {at}");
    }
}

#[test]
fn p1_after_death_before_any_store_every_key_has_its_old_or_its_new_value() {
    let (mut frontends, mut expected, mut dice) = (empty(8, 8), Expected::new(), Dice(3));
    for _ in 0..300 {
        let before = expected.clone();
        let seed = dice.0;
        for stores in 0.. {
            let mut dying = opened(&frontends);
            let mut after = before.clone();
            trace::take();
            trace::die_after(Some(stores));
            change(&mut dying, &mut after, &mut Dice(seed), 14);
            trace::die_after(None);
            let lived = trace::take().iter().filter(|event| **event != Event::Grace).count() < stores;
            let mut found = opened(&dying);
            let all: Expected = found.all().into_iter().collect();
            assert!(all == before || all == after, "after {stores} stores");
            // Whatever it left can be worked with.
            let mut then = all;
            let mut dice = Dice(seed ^ 0xffff);
            for _ in 0..20 {
                change(&mut found, &mut then, &mut dice, 14);
            }
            agree(&found, &then);
            if lived {
                break;
            }
        }
        change(&mut frontends, &mut expected, &mut dice, 14);
    }
}

#[test]
fn what_a_packet_may_hold_is_not_written_before_a_grace_period() {
    let (mut frontends, mut expected, mut dice) = (empty(16, 16), Expected::new(), Dice(11));
    trace::take();
    for _ in 0..3000 {
        change(&mut frontends, &mut expected, &mut dice, 60);
    }
    let events = trace::take();
    let (v4, v6, lines) =
        (frontends.v4.entries().array(), frontends.v6.entries().array(), frontends.lines.array());
    // Numbers of lines, and entries, that a packet may have met since the last grace period began.
    let (mut held_lines, mut held_places) = (BTreeSet::new(), BTreeSet::new());
    let (mut named, mut keys) = (BTreeMap::new(), BTreeMap::new());
    let mut graces = 0;
    for event in events {
        let Event::Store { array, word, value } = event else {
            graces += 1;
            held_lines = named.values().copied().collect();
            held_places = named.keys().copied().collect();
            continue;
        };
        if array == lines {
            assert!(!held_lines.contains(&(word as u64 / 16 + 1)), "a line that may be held was written");
            continue;
        }
        assert!(array == v4 || array == v6);
        let words = if array == v4 { 2 } else { 4 };
        let place = (array, word / words);
        match (word % words, if array == v4 { 1 } else { 2 }) {
            (at, published) if at < published => {
                let same = keys.insert((array, word), value).is_none_or(|before| before == value);
                assert!(same || !held_places.contains(&place), "a key that may be held was written");
            }
            (at, published) if at == published => {
                let number = if array == v4 { value & 0xffff_ffff } else { value >> 32 };
                named.remove(&place);
                if number != 0 {
                    named.insert(place, number);
                    held_lines.insert(number);
                    held_places.insert(place);
                }
            }
            _ => {}
        }
    }
    assert!(graces > 10, "{graces}");
    assert!(graces < 1000, "{graces} grace periods for 3000 changes");
}

#[test]
fn what_another_process_removes_is_room_again() {
    let mut frontends = empty(4, 4);
    for round in 0..100 {
        // As the other process does it: the entry is cleared, and nobody is told.
        let used: Vec<_> =
            (0..4).filter(|n| frontends.put(&key(2 * n), &stamped(round * 4 + n + 1)).is_ok()).collect();
        assert_eq!(used.len(), 4, "round {round}");
        frontends.v4.forget_all();
    }
}
