#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SEED: u32 = 0x24b7_ef82;

fn members(names: &[&str], weights: &[u16]) -> Vec<Member> {
    names.iter().zip(weights).map(|(name, &weight)| Member { name: (*name).into(), weight }).collect()
}

fn old_names() -> Vec<Member> {
    members(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], &[1, 1, 1])
}

fn new_names(weights: &[u16]) -> Vec<Member> {
    (1..=3u8)
        .zip(weights)
        .map(|(host, &weight)| Member { name: name(([10, 0, 0, host], 80).into(), Protocol::Tcp), weight })
        .collect()
}

/// Backends numbered from one, slots as little-endian 32-bit numbers.
fn digest(table: &[u16]) -> String {
    let bytes: Vec<u8> = table.iter().flat_map(|&slot| (u32::from(slot) + 1).to_le_bytes()).collect();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn first(table: &[u16]) -> Vec<u16> {
    table.iter().take(24).map(|slot| slot + 1).collect()
}

fn counts(table: &[u16], members: usize) -> Vec<usize> {
    (0..members).map(|member| table.iter().filter(|&&slot| usize::from(slot) == member).count()).collect()
}

#[test]
fn a_vectors_murmur_and_permutations_of_names() {
    let rows = [
        ("10.0.0.1:80", 0x4ac0_dbd5_2c1d_fe3a, 0xbe15_36a5_3cd7_6d4b, (31, 40), (9469, 12680)),
        ("10.0.0.2:80", 0xeb44_f3c7_3fbb_f323, 0xe1bf_5d75_ffbb_e3d8, (222, 87), (11238, 11577)),
        ("10.0.0.3:80", 0x4120_1de5_0935_de74, 0x7901_8681_b471_bbd1, (132, 110), (2869, 5650)),
        ("[fd00::1]:80", 0x3a03_9966_4163_86e9, 0xdcbc_5d18_2168_f0e5, (59, 62), (3007, 562)),
        (
            "[10.0.0.1:80/TCP,State:active]",
            0xc61a_94cb_c80e_5006,
            0x4aa5_ddef_6f23_e6ea,
            (184, 95),
            (5487, 12575),
        ),
        (
            "[[fd00::1]:80/TCP,State:active]",
            0x6368_3159_03fc_b21d,
            0x71e6_9266_a6f7_f531,
            (69, 154),
            (714, 9834),
        ),
    ];
    for (name, h1, h2, small, large) in rows {
        assert_eq!(murmur3(name.as_bytes(), SEED), (h1, h2), "{name}");
        for (slots, (offset, skip)) in [(251, small), (16381, large)] {
            let walk = Walk::new(name, 0, slots, SEED);
            assert_eq!((walk.at, walk.skip), (offset, skip), "{name} {slots}");
        }
    }
}

#[test]
fn a_vectors_names_are_those_of_cilium() {
    let v4: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let v6: SocketAddr = "[fd00::1]:80".parse().unwrap();
    assert_eq!(name(v4, Protocol::Tcp), "[10.0.0.1:80/TCP,State:active]");
    assert_eq!(name(v6, Protocol::Tcp), "[[fd00::1]:80/TCP,State:active]");
}

#[test]
fn a_vectors_table_of_1_10_names_with_251_slots() {
    let table = table(&old_names(), 251, SEED);
    assert_eq!(first(&table), [3, 2, 2, 3, 2, 1, 3, 2, 3, 1, 2, 2, 1, 2, 2, 1, 1, 3, 1, 1, 1, 2, 1, 1]);
    assert_eq!(counts(&table, 3), [84, 84, 83]);
    assert_eq!(digest(&table), "0d3251869902784aede5c94ae5b14f0a5d16921fa22648459e6cf8e5070e1875");
}

#[test]
fn a_vectors_table_of_1_10_names_with_16381_slots() {
    let table = table(&old_names(), 16381, SEED);
    assert_eq!(first(&table), [3, 3, 1, 1, 2, 2, 3, 2, 1, 1, 3, 2, 2, 1, 1, 3, 2, 3, 3, 1, 1, 1, 2, 3]);
    assert_eq!(counts(&table, 3), [5461, 5460, 5460]);
    assert_eq!(digest(&table), "d30c6e8ef361c25303fca7c2340239e2dd223b48fe5bf68d72630e5a5633c056");
}

#[test]
fn a_vectors_table_of_names_now_with_251_slots() {
    let table = table(&new_names(&[1, 1, 1]), 251, SEED);
    assert_eq!(first(&table), [2, 2, 1, 1, 2, 3, 2, 2, 1, 3, 3, 3, 2, 2, 3, 1, 1, 1, 3, 2, 2, 3, 1, 3]);
    assert_eq!(digest(&table), "81a386cd0df51e68c1dd6dd4fbeb8e10e4e1ad330f237379b188f3eb772f704e");
}

#[test]
fn a_vectors_weights_one_two_three_with_251_slots() {
    let table = table(&new_names(&[1, 2, 3]), 251, SEED);
    assert_eq!(first(&table), [2, 2, 1, 2, 2, 3, 3, 2, 1, 3, 3, 3, 2, 2, 3, 1, 2, 3, 3, 3, 2, 3, 3, 3]);
    assert_eq!(counts(&table, 3), [42, 84, 125]);
    assert_eq!(digest(&table), "205ed15c80da8cbfe9c32cc25cd6933c17af47f81694ef8db5721bdfd6850058");
}

#[test]
fn a_vectors_equal_weights_are_as_no_weights() {
    assert_eq!(table(&new_names(&[100, 100, 100]), 251, SEED), table(&new_names(&[1, 1, 1]), 251, SEED));
}

#[test]
fn a_table_does_not_depend_on_the_order_of_its_members() {
    let forwards = new_names(&[10, 20, 30]);
    let backwards: Vec<Member> = forwards.iter().rev().cloned().collect();
    let turned: Vec<u16> = table(&backwards, 1021, SEED).into_iter().map(|slot| 2 - slot).collect();
    assert_eq!(table(&forwards, 1021, SEED), turned);
}

#[test]
fn no_members_give_an_empty_table() {
    assert!(table(&[], 251, SEED).is_empty());
}

#[test]
fn auto_leaves_room_and_ends_at_the_largest_size() {
    let sizes = [0, 1, 10, 11, 20, 21, 81, 82, 327, 328, 655, 5000];
    let slots = sizes.map(|backends| table_size(TableSize::Auto, backends));
    assert_eq!(slots, [2039, 2039, 2039, 4093, 4093, 8191, 16381, 32749, 65521, 131_071, 131_071, 131_071]);
    assert_eq!(table_size(TableSize::Fixed(251), 5000), 251);
}

#[test]
fn s10_removing_one_backend_moves_few_slots_of_the_others() {
    let many: Vec<Member> =
        (0..100u8).map(|host| Member { name: format!("10.1.0.{host}:80"), weight: 1 }).collect();
    let before = table(&many, 16381, SEED);
    let after = table(&many[..99], 16381, SEED);
    let moved = before.iter().zip(&after).filter(|(old, new)| **old != 99 && old != new).count();
    assert!(moved * 100 < 16381 * 2, "{moved} of 16381");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn s10_every_slot_has_a_member_and_shares_differ_by_one(count in 1usize..40, seed in any::<u32>()) {
        let many: Vec<Member> = (0..count)
            .map(|host| Member { name: format!("10.1.0.{host}:80"), weight: 7 })
            .collect();
        let counts = counts(&table(&many, 1021, seed), count);
        prop_assert_eq!(counts.iter().sum::<usize>(), 1021);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
    }

    #[test]
    fn weights_give_proportional_shares(weights in proptest::collection::vec(1u16..1000, 2..20)) {
        let many: Vec<Member> = weights
            .iter()
            .enumerate()
            .map(|(host, &weight)| Member { name: format!("10.1.0.{host}:80"), weight })
            .collect();
        // Cilium does not count weights whose mean is below two.
        prop_assume!(weights.iter().map(|&weight| usize::from(weight)).sum::<usize>() / weights.len() > 1);
        let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        for (count, &weight) in counts(&table(&many, 65521, SEED), many.len()).iter().zip(&weights) {
            let share = f64::from(weight) / sum * 65521.0;
            prop_assert!((*count as f64 - share).abs() <= many.len() as f64 + 1.0, "{} for {}", count, share);
        }
    }
}
