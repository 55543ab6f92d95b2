//! What is pinned: rules that change entry by entry, programs that are found again, layouts; and links that outlive.

use std::collections::BTreeMap;
use std::mem::offset_of;

use netd_bpf::Error;
use netd_bpf::abi::PoolKey;
use netd_bpf::strict::abi::{Counts, Fragments, Settings};
use netd_bpf::strict::{Rules, Strict, Tunnel, Verdict};
use netd_bpf::tc::Side;

use super::{VXLAN_PORT, frame, prefix, rules, udp};
use crate::bed::{in_own_world, ip};
use crate::layouts::{section, structs};

#[test]
fn rules_are_read_as_they_were_set_and_found_again() {
    in_own_world(|root| {
        let mut strict = Strict::prepare(root, None).unwrap();
        assert_eq!(strict.rules().unwrap(), Rules::default());
        assert!(Strict::open(root).unwrap().is_none(), "it is not complete yet");
        strict.complete().unwrap();
        let tunnel = Some(Tunnel::Vxlan(VXLAN_PORT));
        for rules in [
            rules(tunnel),
            Rules { tunnel: Some(Tunnel::Geneve(1)), mark: 7, ..rules(None) },
            Rules { destinations: ["::/0", "0.0.0.0/0"].map(prefix).into(), ..rules(None) },
            Rules::default(),
            rules(tunnel),
        ] {
            strict.set_rules(&rules).unwrap();
            let found = Strict::open(root).unwrap().unwrap();
            assert_eq!(found.rules().unwrap(), rules);
            assert!(found.is_current());
        }
        std::fs::remove_file(root.join("g1/out_v4")).unwrap();
        let refused = Strict::open(root).map(|found| found.is_some());
        assert!(matches!(refused, Err(Error::Incompatible { .. })), "{refused:?}");
        Strict::retire_all(root).unwrap();
        assert!(Strict::open(root).unwrap().is_none());
    });
}

#[test]
fn what_two_rules_have_in_common_is_dropped_while_they_change() {
    in_own_world(|root| {
        let mut strict = Strict::prepare(root, None).unwrap();
        strict.set_rules(&rules(None)).unwrap();
        strict.complete().unwrap();
        let others = ["10.244.0.0/17", "10.244.2.0/23", "fd00::/16"].map(prefix);
        let others = Rules { destinations: others.into(), ..rules(None) };
        let watching = Strict::open(root).unwrap().unwrap();
        let clear = [("10.244.1.5", "10.244.2.9"), ("fd00:244:1::5", "fd00:244:2::9")]
            .map(|(from, to)| frame(&udp(from, to, (1, 2), b"clear")));
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (is_over, clear) = (&is_over, &clear);
            let watcher = scope.spawn(move || {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    for frame in clear {
                        assert_eq!(watching.run(Side::Egress, frame, 0).unwrap(), Verdict::Drop);
                    }
                }
            });
            for _ in 0..300 {
                strict.set_rules(&others).unwrap();
                strict.set_rules(&rules(None)).unwrap();
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            watcher.join().unwrap();
        });
    });
}

#[test]
fn another_programs_take_over_the_links_and_go_on_counting() {
    in_own_world(|root| {
        ip("link add near index 10 type veth peer name far index 11");
        let mut first = Strict::prepare(root, None).unwrap();
        first.set_rules(&rules(None)).unwrap();
        first.complete().unwrap();
        first.attach("near", 10).unwrap();
        let clear = frame(&udp("10.244.1.5", "10.244.2.9", (1, 2), b"clear"));
        first.run(Side::Egress, &clear, 0).unwrap();
        let mut next = Strict::prepare(root, Some(&first)).unwrap();
        next.set_rules(&rules(None)).unwrap();
        next.complete().unwrap();
        next.attach("near", 10).unwrap();
        next.retire_others().unwrap();
        let attached = Strict::attached(root).unwrap();
        for side in [Side::Ingress, Side::Egress] {
            let running = attached[&("near".to_owned(), side)].program_id;
            assert_eq!(running, next.program_id(side).unwrap());
        }
        next.run(Side::Egress, &clear, 0).unwrap();
        assert_eq!(
            Strict::open(root).unwrap().unwrap().counts(),
            Counts { out_plain: 2, ..Counts::default() }
        );
        Strict::detach(root, "near").unwrap();
        Strict::retire_all(root).unwrap();
        assert!(!root.join("out").exists() && !root.join("in").exists());
    });
}

#[test]
fn every_struct_has_the_same_members_at_the_same_places() {
    let object = include_bytes!(concat!(env!("OUT_DIR"), "/tc_strict.o"));
    let built = structs(section(object, ".BTF"));
    macro_rules! layout {
        ($type:ty: $($member:ident),+) => {
            (size_of::<$type>(), vec![$((stringify!($member).to_owned(), offset_of!($type, $member))),+])
        };
    }
    let user_space = BTreeMap::from([
        ("strict_prefix", layout!(PoolKey: bits, address)),
        ("strict_settings", layout!(Settings: abi_version, mark, program_digest, tunnel_port, tunnel, zero)),
        ("strict_fragments", layout!(Fragments: source, destination, id, is_v6)),
        (
            "strict_counts",
            layout!(Counts: out_plain, out_tunnel, out_fragment, in_plain, in_tunnel, reserved),
        ),
    ]);
    for (name, layout) in user_space {
        assert_eq!(built.get(name), Some(&layout), "struct {name}");
    }
}
