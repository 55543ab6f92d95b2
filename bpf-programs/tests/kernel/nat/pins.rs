//! What is pinned: rules that change entry by entry, programs and flows that are found again, layouts.

use std::collections::BTreeMap;
use std::mem::offset_of;

use netd_bpf::Error;
use netd_bpf::nat::abi::{
    Class, Counts, Device, EgressKey, EgressRule, Flow, Fragment, FragmentKey, Given, Key, Mapping, Port,
    Settings,
};
use netd_bpf::nat::{EgressRule as Rule, EgressRules, Nat, Outer, Ports, Rules, Size, Verdict};
use netd_bpf::tc::Side;

use super::bed::{POD, REMOTE, SEED, SIZE, outer, rules};
use crate::bed::{Tuple, in_own_world, ip, now_ns};
use crate::decap::bed::prefixes;
use crate::layouts::{Layout, section, structs};

const SERVER: u16 = 443;

/// A port that is not in the range: which one it becomes is the table's business.
fn packet(port: u16) -> Vec<u8> {
    Tuple(POD.0, port, REMOTE.0, 80).udp(b"question")
}

fn made(root: &std::path::Path) -> Nat {
    let mut nat = Nat::prepare(root, SIZE, SEED, None).unwrap();
    nat.set_rules(&rules()).unwrap();
    nat.complete().unwrap();
    nat
}

#[test]
fn rules_are_read_as_they_were_set() {
    in_own_world(|root| {
        let mut nat = Nat::prepare(root, SIZE, SEED, None).unwrap();
        assert_eq!(nat.rules().unwrap(), Rules::default());
        let one = Outer { v4: None, ports: Ports { first: 1, last: 1 }, ..outer() };
        for rules in [
            rules(),
            Rules { sources: prefixes(&["10.0.0.0/8", "::/0"]), ..rules() },
            Rules { exclude: prefixes(&["0.0.0.0/0"]), devices: [(7, one), (9, outer())].into(), ..rules() },
            Rules { devices: [(7, outer())].into(), ..rules() },
            Rules::default(),
        ] {
            nat.set_rules(&rules).unwrap();
            assert_eq!(nat.rules().unwrap(), rules);
        }
    });
}

#[test]
fn flows_are_there_when_the_programs_are_found_again() {
    in_own_world(|root| {
        let nat = made(root);
        let sent = nat.run(Side::Egress, &packet(50_000)).unwrap();
        let before = (nat.mappings().unwrap(), nat.counts());
        drop(nat);
        let found = Nat::open(root).unwrap().unwrap();
        assert!(found.is_current(SIZE));
        assert_eq!((found.mappings().unwrap(), found.counts()), before);
        assert_eq!(found.run(Side::Egress, &packet(50_000)).unwrap(), sent);
        assert_eq!(found.counts().created, 1);
    });
}

#[test]
fn another_size_takes_the_flows_along() {
    in_own_world(|root| {
        let nat = made(root);
        let ports: Vec<_> =
            (40_000..40_200).map(|port| nat.run(Side::Egress, &packet(port)).unwrap()).collect();
        let larger = Size { flows: SIZE.flows * 2, ..SIZE };
        let mut next = Nat::prepare(root, larger, SEED + 1, Some(&nat)).unwrap();
        assert_eq!((next.size(), next.rules().unwrap()), (larger, rules()));
        next.complete().unwrap();
        next.retire_others().unwrap();
        let found = Nat::open(root).unwrap().unwrap();
        assert!(found.is_current(larger) && !found.is_current(SIZE));
        for (port, sent) in (40_000..40_200).zip(ports) {
            assert_eq!(found.run(Side::Egress, &packet(port)).unwrap(), sent);
        }
        assert_eq!((found.counts().created, found.counts().out_packets), (200, 400));
    });
}

#[test]
fn another_program_uses_the_same_maps() {
    in_own_world(|root| {
        let nat = made(root);
        let sent = nat.run(Side::Egress, &packet(50_000)).unwrap();
        let mut next = Nat::prepare(root, SIZE, SEED + 1, Some(&nat)).unwrap();
        next.complete().unwrap();
        assert_eq!(next.run(Side::Egress, &packet(50_000)).unwrap(), sent);
        // Both see what the other does.
        next.run(Side::Egress, &packet(50_001)).unwrap();
        assert_eq!((nat.mappings().unwrap(), nat.counts()), (next.mappings().unwrap(), next.counts()));
    });
}

#[test]
fn another_size_takes_no_flow_along_that_is_over_and_of_too_many_the_last_ones() {
    in_own_world(|root| {
        let mut nat = made(root);
        let send = |nat: &Nat, ports: std::ops::Range<u16>| {
            for port in ports {
                assert_eq!(nat.run(Side::Egress, &packet(port)).unwrap().0, Verdict::Pass);
            }
        };
        send(&nat, 40_000..41_000);
        nat.age(100).unwrap();
        send(&nat, 41_000..41_100);
        let usage = nat.usage(now_ns()).unwrap();
        assert_eq!((usage.flows, usage.over), (1100, 0));
        assert_eq!(usage.fullest().map(|fullest| (fullest.ports, fullest.remote_port)), Some((1100, 80)));
        let fewer = Size { flows: 100, ..SIZE };
        let next = Nat::prepare(root, fewer, SEED, Some(&nat)).unwrap();
        let created = next.counts().created;
        send(&next, 41_000..41_100);
        assert_eq!(next.counts().created, created);
        nat.age(100).unwrap();
        let usage = nat.usage(now_ns()).unwrap();
        assert_eq!((usage.flows, usage.over), (100, 1000));
        let same = Nat::prepare(root, Size { flows: SIZE.flows / 2, ..SIZE }, SEED, Some(&nat)).unwrap();
        assert_eq!(same.mappings().unwrap().len(), 100);
    });
}

/// A packet that finds no room looks at no more than 512 mappings, and the next one at the next ones.
#[test]
fn every_mapping_of_a_large_table_has_its_turn() {
    in_own_world(|root| {
        const FLOWS: u16 = 4096;
        let mut nat = Nat::prepare(root, Size { flows: FLOWS.into(), ..SIZE }, SEED, None).unwrap();
        nat.set_rules(&rules()).unwrap();
        // Those that are over are behind those that live.
        let living = |port: u16| Tuple(POD.0, port, REMOTE.0, SERVER);
        for port in 0..FLOWS - 256 {
            nat.run(Side::Egress, &living(10_000 + port).udp(b"")).unwrap();
        }
        for port in 0..256 {
            nat.run(Side::Egress, &Tuple(POD.0, 10_000 + port, REMOTE.0, 53).udp(b"")).unwrap();
        }
        nat.age(60).unwrap();
        // The kernel counts the entries of a large table only roughly.
        let mut dropped = 0;
        for port in 0..200 {
            let new = living(20_000 + port).udp(b"");
            while nat.run(Side::Egress, &new).unwrap().0 == Verdict::Drop {
                dropped += 1;
                assert!(dropped < 100_000, "{:?}", nat.counts());
                std::thread::yield_now();
            }
        }
        let counts = nat.counts();
        assert_eq!(counts.table_full, dropped);
        assert!(dropped >= u64::from(FLOWS - 256) / 512 - 1, "{dropped}");
        // None that lives was displaced.
        for port in 0..FLOWS - 256 {
            nat.run(Side::Egress, &living(10_000 + port).udp(b"")).unwrap();
        }
        assert_eq!(nat.counts().created, counts.created);
    });
}

/// The bounds are six standard deviations of what a sample of 8192 says.
#[test]
fn how_full_a_large_table_is_is_estimated_from_a_part_of_it() {
    in_own_world(|root| {
        let mut nat = made(root);
        let send = |nat: &Nat, flows: u16, to: u16| {
            for number in 0..flows {
                nat.run(Side::Egress, &Tuple(POD.0, 40_000 + number, REMOTE.0, to).udp(b"")).unwrap();
            }
        };
        send(&nat, 8000, SERVER);
        nat.age(200).unwrap();
        send(&nat, 16_000, 80);
        let usage = nat.usage(now_ns()).unwrap();
        // A third of the sample, or more, is of a kind.
        let near =
            |found: u32, of: u32| f64::from(found.abs_diff(of)) < 6.0 * f64::from(of) / 2700.0_f64.sqrt();
        assert!(near(usage.flows, 16_000) && near(usage.over, 8000), "{usage:?}");
        assert!(usage.fullest().is_some_and(|fullest| near(fullest.ports, 16_000)), "{usage:?}");
    });
}

#[test]
fn twenty_eight_thousand_flows_to_one_destination_have_a_port_each() {
    in_own_world(|root| {
        let nat = made(root);
        let mut given = std::collections::BTreeSet::new();
        for number in 0..28_000_u16 {
            let (verdict, out) = nat.run(Side::Egress, &packet(33_000 + number)).unwrap();
            assert_eq!(verdict, Verdict::Pass, "flow {number}");
            assert!(given.insert([out[34], out[35]]), "flow {number}");
        }
        let counts = nat.counts();
        assert_eq!((counts.created, counts.exhausted), (28_000, 0));
    });
}

/// A device of the namespace, by its index.
fn device(name: &str) -> u32 {
    ip(&format!("link add {name} type veth peer name far"));
    // The namespace's own /sys shows its own devices.
    rustix::mount::mount("sysfs", "/sys", "sysfs", rustix::mount::MountFlags::empty(), None).unwrap();
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap().trim().parse().unwrap()
}

#[test]
fn flows_that_begin_while_programs_are_replaced_are_known_to_the_new_ones() {
    in_own_world(|root| {
        let before = made(root);
        let left = device("left");
        before.attach("left", left).unwrap();
        let larger = Size { flows: SIZE.flows * 2, ..SIZE };
        let mut next = Nat::prepare(root, larger, SEED, Some(&before)).unwrap();
        next.complete().unwrap();
        before.run(Side::Egress, &packet(50_000)).unwrap();
        assert_eq!(next.mappings().unwrap().len(), 0);
        next.attach("left", left).unwrap();
        assert_eq!(next.mappings().unwrap(), before.mappings().unwrap());
        Nat::detach(root, "left").unwrap();
    });
}

#[test]
fn programs_that_were_made_and_are_nowhere_yet_are_not_in_force() {
    in_own_world(|root| {
        let before = made(root);
        let left = device("left");
        before.attach("left", left).unwrap();
        let larger = Size { flows: SIZE.flows * 2, ..SIZE };
        let mut next = Nat::prepare(root, larger, SEED, Some(&before)).unwrap();
        next.complete().unwrap();
        assert_eq!(Nat::open(root).unwrap().unwrap().size(), SIZE);
        next.attach("left", left).unwrap();
        assert_eq!(Nat::open(root).unwrap().unwrap().size(), larger);
        Nat::detach(root, "left").unwrap();
    });
}

#[test]
fn egress_rules_are_read_as_they_were_set() {
    in_own_world(|root| {
        let mut nat = made(root);
        let network = |text: &str| *prefixes(&[text]).first().unwrap();
        let ports = Ports { first: 1, last: 65_535 };
        let (v4, v6) = ("192.0.2.9".parse().unwrap(), "2001:db8::9".parse().unwrap());
        let all = EgressRules {
            sources: [(network("10.0.0.0/8"), 1), (network("::/0"), u32::MAX)].into(),
            rules: [
                ((1, network("0.0.0.0/0")), Rule::Translate { address: v4, ports }),
                ((1, network("192.0.2.1/32")), Rule::Tunnel { remote: v6, vni: 7, ifindex: 3 }),
                ((1, network("192.0.2.0/24")), Rule::Pass),
                ((2, network("::/0")), Rule::Translate { address: v6, ports }),
                ((2, network("2001:db8::/32")), Rule::NextHop { address: v6, ifindex: 4 }),
                ((2, network("2001:db8::1/128")), Rule::Drop),
            ]
            .into(),
        };
        let mut fewer = all.clone();
        fewer.rules.pop_first();
        fewer.sources.pop_last();
        for rules in [all, fewer, EgressRules::default()] {
            nat.set_egress(&rules).unwrap();
            assert_eq!(nat.egress().unwrap(), rules);
        }
    });
}

#[test]
fn programs_that_are_taken_off_leave_nothing_behind() {
    in_own_world(|root| {
        let nat = made(root);
        let left = device("left");
        for _ in 0..2 {
            if let Err(error) = nat.attach("left", left) {
                // Links to this hook are as old as Linux 6.6.
                println!("skipped: {error}");
                return;
            }
        }
        let attached = Nat::attached(root).unwrap();
        assert_eq!(attached.len(), 2);
        for ((device, side), link) in attached {
            assert_eq!((device.as_str(), link.ifindex), ("left", left));
            assert_eq!(link.program_id, nat.program_id(side).unwrap());
        }
        drop(nat);
        Nat::detach(root, "left").unwrap();
        Nat::detach(root, "left").unwrap();
        Nat::retire_all(root).unwrap();
        let found = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
        // The file system's own.
        let left: Vec<_> = found.filter(|path| path.extension().is_none_or(|it| it != "debug")).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn a_damaged_generation_is_said_to_be_unusable() {
    in_own_world(|root| {
        drop(made(root));
        std::fs::remove_file(root.join("g1/mappings")).unwrap();
        assert!(matches!(Nat::open(root), Err(Error::Incompatible { .. })));
    });
}

macro_rules! layout {
    ($type:ty: $($member:ident),+) => {
        (size_of::<$type>(), vec![$((stringify!($member).to_owned(), offset_of!($type, $member))),+])
    };
}

#[test]
fn every_struct_has_the_same_members_at_the_same_places() {
    let object = include_bytes!(concat!(env!("OUT_DIR"), "/tc_nat.o"));
    let built = structs(section(object, ".BTF"));
    let user_space: BTreeMap<&str, Layout> = BTreeMap::from([
        ("nat_flow", layout!(Flow: inner, remote, inner_port, remote_port, protocol, zero)),
        ("nat_key", layout!(Key: remote, outer, remote_port, outer_port, protocol, zero)),
        ("nat_given", layout!(Given: flow, outer)),
        ("nat_mapping", layout!(Mapping: inner, seen_ns, inner_port, state, zero)),
        ("nat_port", layout!(Port: port, zero)),
        ("nat_fragment_key", layout!(FragmentKey: source, destination, id, protocol, zero)),
        ("nat_fragment", layout!(Fragment: address, seen_ns)),
        ("nat_device", layout!(Device: outer_v4, outer_v6, first_port, last_port, has_v4, has_v6, zero)),
        ("nat_class", layout!(Class: family, class)),
        ("nat_egress_key", layout!(EgressKey: bits, class, address)),
        (
            "nat_egress_rule",
            layout!(EgressRule: address, ifindex, vni, first_port, last_port, what, family, is_v6, zero),
        ),
        ("nat_settings", layout!(Settings: abi_version, has_egress, seed, program_digest, swept_ns)),
        (
            "nat_counts",
            layout!(Counts: out_packets, in_packets, errors_out, errors_in, created, reused, yielded, direct,
                ports_in_use, exhausted, table_full, no_mapping, no_address, malformed, unsupported, fragment_lost,
                steered, no_gateway, looped, zero),
        ),
    ]);
    for (name, layout) in user_space {
        assert_eq!(built.get(name), Some(&layout), "struct {name}");
    }
}
