//! What is pinned: rules that change entry by entry, programs that are found again, layouts.

use std::collections::BTreeMap;
use std::mem::offset_of;

use netd_bpf::abi::PoolKey;
use netd_bpf::decap::abi::{Counts, Settings};
use netd_bpf::decap::{Decap, Rules};
use netd_bpf::links::{self, Mode};
use netd_bpf::{Error, Verdict};

use super::bed::{V4, inner_packets, prefixes, rules};
use crate::bed::{in_own_world, ip};
use crate::layouts::{section, structs};

#[test]
fn rules_are_read_as_they_were_set() {
    in_own_world(|root| {
        let mut decap = Decap::prepare(root).unwrap();
        assert_eq!(decap.rules().unwrap(), Rules::default());
        for rules in [
            rules(),
            Rules { from: prefixes(&["10.0.0.0/8"]), gue_port: 1, ..rules() },
            Rules { own: prefixes(&[]), to: prefixes(&["::/1", "0.0.0.0/0", "::/0"]), ..rules() },
            Rules::default(),
        ] {
            decap.set_rules(&rules).unwrap();
            assert_eq!(decap.rules().unwrap(), rules);
        }
        let many = (0..5000_u32).map(|n| ((n << 8).to_be_bytes().into(), 24)).collect();
        let rules = Rules { to: many, ..rules() };
        decap.set_rules(&rules).unwrap();
        assert_eq!(decap.rules().unwrap(), rules);
    });
}

#[test]
fn what_two_rules_have_in_common_is_taken_while_they_change() {
    in_own_world(|root| {
        let mut decap = Decap::prepare(root).unwrap();
        let others = Rules {
            from: prefixes(&["10.100.0.0/16", "10.101.0.0/16"]),
            own: prefixes(&["10.0.0.1/32", "10.0.0.7/32"]),
            to: prefixes(&["192.0.2.0/24", "192.0.9.0/24"]),
            ..rules()
        };
        decap.set_rules(&rules()).unwrap();
        let frame = V4.frame(&inner_packets()[0]);
        let expected = (Verdict::Pass, V4.taken(&inner_packets()[0]));
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let program = Decap::open(root).unwrap();
        assert!(program.is_none(), "it is not complete yet");
        decap.complete().unwrap();
        let program = Decap::open(root).unwrap().unwrap();
        std::thread::scope(|scope| {
            let (is_over, frame, expected) = (&is_over, &frame, &expected);
            let watching = scope.spawn(move || {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(program.run(frame).unwrap(), *expected);
                }
            });
            for _ in 0..300 {
                decap.set_rules(&others).unwrap();
                decap.set_rules(&rules()).unwrap();
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            watching.join().unwrap();
        });
    });
}

#[test]
fn a_program_is_found_again_with_its_rules_and_replaced_through_its_links() {
    in_own_world(|root| {
        ip("link add near index 10 type veth peer name far index 11");
        let mut first = Decap::prepare(root).unwrap();
        first.set_rules(&rules()).unwrap();
        first.complete().unwrap();
        let id = first.program_id().unwrap();
        links::attach(root, "near", 10, Mode::Native, first.program()).unwrap();
        drop(first);
        let found = Decap::open(root).unwrap().unwrap();
        assert_eq!((found.program_id().unwrap(), found.rules().unwrap()), (id, rules()));
        assert!(found.is_current());
        let mut next = Decap::prepare(root).unwrap();
        next.set_rules(&rules()).unwrap();
        next.complete().unwrap();
        // Until a link runs the new one, the one before is in force.
        assert_eq!(Decap::open(root).unwrap().unwrap().program_id().unwrap(), id);
        links::attach(root, "near", 10, Mode::Native, next.program()).unwrap();
        next.retire_others().unwrap();
        assert!(!found.is_current());
        assert_eq!(Decap::open(root).unwrap().unwrap().program_id().unwrap(), next.program_id().unwrap());
        // A link that is left keeps its folder.
        Decap::retire_all(root).unwrap();
        assert!(Decap::open(root).unwrap().is_none() && links::list(root).unwrap().len() == 1);
        links::detach(root, "near").unwrap();
        Decap::retire_all(root).unwrap();
    });
}

#[test]
fn maps_of_another_version_are_not_read() {
    in_own_world(|root| {
        let mut decap = Decap::prepare(root).unwrap();
        decap.complete().unwrap();
        std::fs::remove_file(root.join("g1/taken")).unwrap();
        let refused = Decap::open(root).map(|found| found.is_some());
        assert!(matches!(refused, Err(Error::Incompatible { .. })), "{refused:?}");
        // New ones are made beside them.
        let mut next = Decap::prepare(root).unwrap();
        next.complete().unwrap();
        next.retire_others().unwrap();
        assert!(Decap::open(root).unwrap().is_some());
    });
}

#[test]
fn every_struct_has_the_same_members_at_the_same_places() {
    let object = include_bytes!(concat!(env!("OUT_DIR"), "/xdp_decap.o"));
    let built = structs(section(object, ".BTF"));
    macro_rules! layout {
        ($type:ty: $($member:ident),+) => {
            (size_of::<$type>(), vec![$((stringify!($member).to_owned(), offset_of!($type, $member))),+])
        };
    }
    let user_space = BTreeMap::from([
        ("decap_prefix", layout!(PoolKey: bits, address)),
        ("decap_settings", layout!(Settings: abi_version, gue_port, zero, program_digest)),
        (
            "decap_counts",
            layout!(Counts: packets, bytes, strangers, not_taken, malformed, congested, reserved),
        ),
    ]);
    for (name, layout) in user_space {
        assert_eq!(built.get(name), Some(&layout), "struct {name}");
    }
}
